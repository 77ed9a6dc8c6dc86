//! A failure with what to do about it. Each part translates its library's errors; the matches that decide stand
//! here, side by side: what Postgres says, what brokers say, and which faults end a pipeline.

use std::fmt;

pub mod broker;
pub mod sqlstate;

#[cfg(test)]
mod manual;

/// In messages and reasons: what follows may be values of rows, such as Postgres' DETAIL. It goes to dead letters and to
/// those who run commands, never into the log.
pub const DETAIL: &str = "; detail: ";

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// An outage: the same batch is tried again, indefinitely, with exponential backoff. Nothing is lost or dead-lettered.
    Retry,
    /// The message is at fault: it becomes a dead letter, and the others become rows.
    DeadLetter,
    /// An operator has to act: the pipeline, or the partition, is blocked with its offsets where they are, and resumes by
    /// itself when the cause is gone.
    Block,
    /// Only a restart helps, with other settings: the pipeline ends. What causes it is read once, at start, or must not be
    /// tried again.
    Exit,
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
    /// What Postgres called it; empty where it was not Postgres that said so.
    pub sqlstate: String,
    /// Met on a table of schema `sluice`: neither rows nor tables of users are at fault.
    pub is_ours: bool,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Codes with the remedy [`Remedy::Exit`], besides those of settings, `SL-C...`.
const EXITS: [&str; 3] = [broker::SETTINGS, broker::EXPELLED, sqlstate::URL];

/// True for codes after which a pipeline ends.
fn exits(code: &str) -> bool {
    EXITS.contains(&code) || code.starts_with("SL-C")
}

/// A lane found its own state wrong, or met a bug. What it had in memory is of no more use: the pipeline begins again from
/// what Postgres says, with the pauses of all other faults.
pub const PANIC: &str = "SL-X001";

/// That `who` has panicked.
pub fn panicked(who: &str) -> Fault {
    Fault::block(PANIC, format!("{who} panicked; its message is in the log"))
}

/// What `work` of `who` comes to; a panic is a fault, after which nothing that it touched is to be used again.
///
/// # Errors
/// That of `work`, or `SL-X001`.
pub fn caught<T>(who: &str, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let work = std::panic::AssertUnwindSafe(work);
    std::panic::catch_unwind(work).unwrap_or_else(|_| Err(panicked(who)))
}

impl Fault {
    /// A failure.
    pub fn new(code: &'static str, remedy: Remedy, message: impl Into<String>) -> Self {
        debug_assert_eq!(remedy == Remedy::Exit, exits(code), "{code} with remedy {remedy:?}");
        Self {
            code,
            remedy,
            message: message.into(),
            sqlstate: String::new(),
            is_ours: false,
            source: None,
        }
    }

    /// A failure that needs operator action.
    pub fn block(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Remedy::Block, message)
    }

    /// A failure that only a restart with other settings can mend.
    pub fn exit(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Remedy::Exit, message)
    }

    /// A message at fault.
    pub fn dead_letter(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Remedy::DeadLetter, message)
    }

    /// An outage.
    pub fn retry(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, Remedy::Retry, message)
    }

    /// A write that a limit of ours has ended: named as the server names its own, for a smaller one may pass.
    pub fn too_slow(message: impl Into<String>) -> Self {
        let mut fault = Self::retry(sqlstate::TOO_SLOW, message);
        sqlstate::CANCELLED.clone_into(&mut fault.sqlstate);
        fault
    }

    /// Adds the cause.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_fault_after_which_the_pipeline_begins_again() {
        let fault = caught::<()>("lane 3", || panic!("out of bounds")).unwrap_err();
        assert_eq!(fault.to_string(), "SL-X001: lane 3 panicked; its message is in the log");
        assert_eq!(fault.remedy, Remedy::Block);
        assert!(!exits(fault.code) && exits(sqlstate::URL) && exits("SL-C001"));
    }

    #[test]
    #[should_panic(expected = "SL-P011 with remedy Block")]
    fn a_code_that_ends_pipelines_has_that_remedy() {
        Fault::block(sqlstate::URL, "no host");
    }
}
