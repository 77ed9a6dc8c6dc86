//! Stops a pipeline of which Postgres takes no row any more, all for one cause: then the cause lies in the table, and
//! each message that became a dead letter for it would be a good one. Knows no clock.

use std::sync::{Mutex, PoisonError};

use crate::fault::{Fault, sqlstate};
use crate::rows::Stage;
use crate::sink::Prepared;

/// Shared by the lanes of a pipeline on this host, however often it is blocked and begins again.
#[derive(Debug)]
pub struct Brake {
    /// So many in a row are too many; 0: there is no limit.
    max: u64,
    streak: Mutex<Streak>,
}

/// Messages whose rows were rejected for one cause, with no row taken in between.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Streak {
    code: String,
    messages: u64,
}

impl Brake {
    /// Stops at `max` messages in a row.
    pub fn new(max: u64) -> Self {
        Self { max, streak: Mutex::default() }
    }

    /// To be asked before a batch is written.
    ///
    /// # Errors
    /// `SL-P020` when not one of its rows is taken and too many in a row were rejected for the same cause.
    pub fn check(&self, prepared: &Prepared) -> Result<(), Fault> {
        if self.max == 0 || prepared.has_rows() {
            return Ok(());
        }
        let Some((streak, example)) = self.after(prepared) else { return Ok(()) };
        if streak.messages < self.max {
            return Ok(());
        }
        let Streak { code, messages } = streak;
        let message = format!(
            "all rows of {messages} messages in a row are rejected with {code}, and none is taken; the first: {example}"
        );
        Err(Fault::stop(sqlstate::ALL_REJECTED, message))
    }

    /// To be told of each batch that was written.
    pub fn written(&self, prepared: &Prepared) {
        let after = if prepared.has_rows() {
            Streak::default()
        } else {
            let Some((after, _)) = self.after(prepared) else { return };
            after
        };
        *self.streak.lock().unwrap_or_else(PoisonError::into_inner) = after;
    }

    /// The streak with the rejections of a batch that has no rows, and the first of them; `None` when it has none.
    fn after(&self, prepared: &Prepared) -> Option<(Streak, String)> {
        let by_table = || prepared.rejected().iter().filter(|it| it.stage == Stage::Sink);
        let first = by_table().next()?;
        if by_table().nth(1).is_some() {
            return Some((Streak::default(), String::new()));
        }
        let before = self.streak.lock().unwrap_or_else(PoisonError::into_inner);
        let known = if before.code == first.code { before.messages } else { 0 };
        let streak = Streak { code: first.code.clone(), messages: known + first.messages };
        Some((streak, first.example.clone()))
    }
}
