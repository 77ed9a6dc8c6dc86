//! The answer to a message that must not become a row.

use std::borrow::Cow;

/// Why a message is rejected; it becomes a dead letter, or is tried again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    code: Cow<'static, str>,
    reason: String,
    retry: bool,
}

impl Rejection {
    /// A rejection for good. `code` is short and stable, for counting; `reason` is for the person
    /// who reads the dead letter.
    pub fn new(code: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into(), retry: false }
    }

    /// The same, but the message shall be tried again later.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// Short and stable: `power-out-of-range`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// For the person who reads the dead letter.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// True when the message shall be tried again later.
    pub fn is_retry(&self) -> bool {
        self.retry
    }

    pub(crate) fn into_parts(self) -> (String, String, bool) {
        (self.code.into_owned(), self.reason, self.retry)
    }
}

/// Turns the message away: returns from the function with a [`Rejection`] of this code and reason.
///
/// ```
/// # use sluice_plugin::{Rejection, reject};
/// fn check(voltage_v: f64) -> Result<(), Rejection> {
///     if voltage_v > 300.0 {
///         reject!("voltage-out-of-range", "{voltage_v} V");
///     }
///     Ok(())
/// }
/// assert_eq!(check(400.0).unwrap_err().reason(), "400 V");
/// ```
#[macro_export]
macro_rules! reject {
    ($code:expr, $($reason:tt)+) => {
        return ::std::result::Result::Err(
            $crate::Rejection::new($code, ::std::format!($($reason)+)).into(),
        )
    };
}

/// Like [`reject!`], but the message is tried again later, as often as the pipeline's settings say.
#[macro_export]
macro_rules! retry {
    ($code:expr, $($reason:tt)+) => {
        return ::std::result::Result::Err(
            $crate::Rejection::new($code, ::std::format!($($reason)+)).retry().into(),
        )
    };
}
