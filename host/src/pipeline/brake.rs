//! Stops a pipeline of which Postgres takes no row any more, all for one cause: then the cause lies in the table, and
//! each message that became a dead letter for it would be a good one. Knows no clock.

use std::sync::{Mutex, PoisonError};

use crate::fault::{DETAIL, Fault, sqlstate};
use crate::rows::Stage;
use crate::sink::Rejected;

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

    /// To be asked before a batch is written, of which rows are to be written or not, and `rejected` is not.
    ///
    /// # Errors
    /// `SL-P020` when not one of its rows is taken and too many in a row were rejected for the same cause.
    pub fn check(&self, has_rows: bool, rejected: &[Rejected]) -> Result<(), Fault> {
        if self.max == 0 || has_rows {
            return Ok(());
        }
        let Some((streak, example)) = self.after(rejected) else { return Ok(()) };
        if streak.messages < self.max {
            return Ok(());
        }
        let Streak { code, messages } = streak;
        let message = format!(
            "all rows of {messages} messages in a row are rejected with {code}, and none is taken{DETAIL}the first: {example}"
        );
        Err(Fault::block(sqlstate::ALL_REJECTED, message))
    }

    /// To be told of each batch that was written.
    pub fn written(&self, has_rows: bool, rejected: &[Rejected]) {
        let after = if has_rows {
            Streak::default()
        } else {
            let Some((after, _)) = self.after(rejected) else { return };
            after
        };
        *self.streak.lock().unwrap_or_else(PoisonError::into_inner) = after;
    }

    /// The streak with the rejections of a batch that has no rows, and the first of them; `None` when it has none.
    fn after(&self, rejected: &[Rejected]) -> Option<(Streak, String)> {
        let by_table = || rejected.iter().filter(|it| it.stage == Stage::Sink);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(code: &str, messages: u64) -> Rejected {
        let (code, example) = (code.to_owned(), "why".to_owned());
        Rejected { stage: Stage::Sink, code, messages, example }
    }

    /// Writes batches until one is refused; which one that is.
    fn stops_at(max: u64, batches: &[(bool, &[Rejected])]) -> Option<usize> {
        let brake = Brake::new(max);
        batches.iter().position(|(has_rows, rejected)| {
            let stopped = brake.check(*has_rows, rejected).is_err();
            brake.written(*has_rows, rejected);
            stopped
        })
    }

    #[test]
    fn one_cause_for_too_many_in_a_row_stops() {
        let check = rejected("23514", 60);
        let one: (bool, &[Rejected]) = (false, std::slice::from_ref(&check));
        let whole = [rejected("23514", 100)];
        assert_eq!(stops_at(100, &[(false, &whole)]), Some(0));
        assert_eq!(stops_at(101, &[(false, &whole)]), None);
        assert_eq!(stops_at(100, &[one, one]), Some(1));
        // Batches without any row of the tables do not matter.
        assert_eq!(stops_at(100, &[one, (false, &[]), one]), Some(2));
        assert_eq!(stops_at(0, &[one, one, one, one]), None);
    }

    #[test]
    fn a_row_that_is_taken_or_another_cause_begins_the_count_again() {
        let check = [rejected("23514", 60)];
        let (other, both) =
            ([rejected("22003", 60)], [rejected("23514", 60), rejected("22003", 1)]);
        let one: (bool, &[Rejected]) = (false, &check);
        assert_eq!(stops_at(100, &[one, (true, &check), one]), None);
        assert_eq!(stops_at(100, &[one, (true, &[]), one]), None);
        assert_eq!(stops_at(100, &[one, (false, &other), one]), None);
        assert_eq!(stops_at(100, &[one, (false, &both), one]), None);
    }

    #[test]
    fn what_plugins_reject_is_their_own_affair() {
        let by_plugin = [Rejected { stage: Stage::Plugin, ..rejected("no", 1000) }];
        assert_eq!(stops_at(100, &[(false, &by_plugin)]), None);
    }

    #[test]
    fn the_first_reason_is_shown_behind_what_is_logged() {
        let fault = Brake::new(1).check(false, &[rejected("22P02", 2)]).unwrap_err();
        let (logged, rest) = fault.message.split_once(DETAIL).unwrap();
        assert_eq!(
            logged,
            "all rows of 2 messages in a row are rejected with 22P02, and none is taken"
        );
        assert_eq!(rest, "the first: why");
    }
}
