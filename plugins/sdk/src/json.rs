//! JSON as it stands in the message, or is written to the table.

use std::fmt;

/// One JSON value as text. Made by the host it is valid; of one that a plugin makes the host is
/// checks it, and Postgres after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

impl<T: AsRef<str>> Json<T> {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// The value, read into any type that serde can read.
    pub fn parse<'a, V: serde::Deserialize<'a>>(&'a self) -> serde_json::Result<V> {
        serde_json::from_str(self.as_str())
    }
}

impl<T: fmt::Display> fmt::Display for Json<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
