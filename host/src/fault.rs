//! A failure with what to do about it. Knows no library's error types; each part translates its own.

use std::fmt;

pub mod sqlstate;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// An outage: try the same batch again, for ever, with back-off. Nothing is lost or buried.
    Retry,
    /// The message is at fault: it becomes a dead letter and the others go on.
    Bury,
    /// Nothing but a person can help: the pipeline stops with offsets where they are.
    Stop,
}

/// A failure, its code and its remedy. Displays as `SL-P003: failed to write batch: ...`.
#[derive(Debug)]
pub struct Fault {
    /// Explained by `sluice explain`.
    pub code: &'static str,
    /// What to do.
    pub remedy: Remedy,
    /// Lower-case fragment that says what failed.
    pub message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A failure that only a person can mend.
    pub fn stop(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, remedy: Remedy::Stop, message: message.into(), source: None }
    }

    /// A message at fault.
    pub fn bury(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, remedy: Remedy::Bury, message: message.into(), source: None }
    }

    /// An outage.
    pub fn retry(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, remedy: Remedy::Retry, message: message.into(), source: None }
    }

    /// The same fault with its cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Fault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}
