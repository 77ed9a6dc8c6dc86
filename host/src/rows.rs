//! What became of a batch: decoded fields, checked rows for one or more tables, and rejections.
//! Knows neither WebAssembly nor Postgres.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::columns::{Column, Kind};

/// Input fields decoded out of the payloads, in columns.
#[derive(Debug, Default)]
pub struct Decoded {
    /// For each decoded row the index of its message in the batch, ascending. Messages that could
    /// not be decoded have no row here.
    pub messages: Vec<u32>,
    /// One column per input field of the plugin's description, in its order, whether the plugin
    /// reads it or only passes it through; behind them some of those in `digits`. Empty for a plugin
    /// that takes raw payloads.
    pub columns: Vec<Column>,
    /// By input field: the column that has its numbers as they stood in the message, as text. Where nothing
    /// else of the field is needed, that is the field's own column.
    pub digits: BTreeMap<usize, usize>,
}

impl Decoded {
    /// The column that has the numbers of this input field as they stood in the message.
    ///
    /// # Panics
    /// When the decoder was made for tables that do not need them: its columns may have lost digits.
    pub fn digits_of(&self, input: usize) -> &Column {
        let column = self.digits.get(&input).expect("the decoder was made for the plan");
        &self.columns[*column]
    }

    /// Puts rows `rows` into `part`, in memory that it may have from before.
    pub fn part(&self, rows: Range<usize>, part: &mut Self) {
        part.messages.clear();
        part.messages.extend_from_slice(&self.messages[rows.clone()]);
        part.columns.resize_with(self.columns.len(), || Column::new(Kind::Boolean));
        for (to, from) in part.columns.iter_mut().zip(&self.columns) {
            if to.kind() == from.kind() {
                to.clear();
            } else {
                *to = Column::new(from.kind());
            }
            to.extend(from, rows.clone());
        }
        part.digits.clone_from(&self.digits);
    }
}

/// Stage that rejected a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The payload is not what the description asks for.
    Decode,
    /// The plugin said no.
    Plugin,
    /// A cell does not fit its column.
    Sink,
}

impl Stage {
    /// All of them, in the order of the road.
    pub const ALL: [Self; 3] = [Self::Decode, Self::Plugin, Self::Sink];

    /// The word used in tables, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Plugin => "plugin",
            Self::Sink => "sink",
        }
    }
}

/// A message that does not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index of the message in the batch.
    pub message: u32,
    /// Stage that rejected it.
    pub stage: Stage,
    /// Short and stable, for counting: `power-out-of-range`.
    pub code: String,
    /// For the person who reads the dead letter.
    pub reason: String,
    /// True to try the message again later.
    pub retry: bool,
}

/// What the log may repeat of a rejection's reason. The decoder and the checks of cells quote values of the message, and
/// so does Postgres about a text that it cannot cast; those are for the dead letter. Of a violated constraint Postgres
/// gives values as [`DETAIL`](crate::fault::DETAIL) only, which the log leaves out, and a plugin's reason is its author's choice.
pub fn loggable<'a>(stage: Stage, code: &str, reason: &'a str) -> &'a str {
    let is_of_a_constraint = stage == Stage::Sink && code.starts_with("23");
    if is_of_a_constraint || stage == Stage::Plugin {
        reason
    } else {
        "reason not logged, it may quote the message"
    }
}

/// In the order of their messages; of several for one message the first stays.
pub fn one_for_each_message(mut rejections: Vec<Rejection>) -> Vec<Rejection> {
    rejections.sort_by_key(|rejection| rejection.message);
    rejections.dedup_by_key(|rejection| rejection.message);
    rejections
}

/// Where an output column's values come from.
#[derive(Debug)]
pub enum RowColumn {
    /// Computed by the plugin: one value per row.
    Computed(Column),
    /// Passed through: row `r` takes `decoded.columns[field]` at `messages[r]`.
    Field(usize),
}

/// Rows for one table.
#[derive(Debug, Default)]
pub struct TableRows {
    /// For each row, the row of [`Decoded`] (not of the batch) that it comes from; never descending.
    pub messages: Vec<u32>,
    /// One per output field, in the order of the description.
    pub columns: Vec<RowColumn>,
    /// One byte per row, 1 where the row is to be deleted by its key. Empty when none is.
    pub deletes: Vec<u8>,
}

/// What a plugin made of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// One per output of the description, in its order.
    pub tables: Vec<TableRows>,
    /// Messages rejected by the plugin, at most one each; such a message has no row.
    pub rejections: Vec<Rejection>,
}

impl TableRows {
    /// Appends rows whose messages are counted from `first` on.
    fn append(&mut self, other: &Self, first: u32) {
        let (before, count) = (self.messages.len(), other.messages.len());
        self.messages.extend(other.messages.iter().map(|message| message + first));
        for (to, from) in self.columns.iter_mut().zip(&other.columns) {
            if let (RowColumn::Computed(to), RowColumn::Computed(from)) = (to, from) {
                to.extend(from, 0..count);
            }
        }
        if !self.deletes.is_empty() || !other.deletes.is_empty() {
            self.deletes.resize(before, 0);
            self.deletes.extend_from_slice(&other.deletes);
            self.deletes.resize(before + count, 0);
        }
    }
}

/// A value that crossed the trust border: only the checks in `plugin::check` make one.
#[derive(Debug)]
pub struct Checked<T>(T);

impl<T> Checked<T> {
    /// Vouches for `value`; for `plugin::check` (and tests of what lies behind it) alone.
    pub(crate) fn vouch(value: T) -> Self {
        Self(value)
    }
}

impl Checked<Outcome> {
    /// Appends the outcome of the messages behind, the first of which is decoded row `first`: what was checked
    /// apart stays true together.
    pub(crate) fn append(&mut self, part: Self, first: usize) {
        let first = u32::try_from(first).expect("a batch has fewer than 2^32 messages");
        for (to, from) in self.0.tables.iter_mut().zip(&part.0.tables) {
            to.append(from, first);
        }
        self.0.rejections.extend(part.0.rejections);
    }

    /// Rejects a message that has no row and no rejection yet.
    pub(crate) fn reject(&mut self, rejection: Rejection) {
        self.0.rejections.push(rejection);
    }
}

impl<T> std::ops::Deref for Checked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_repeats_no_reason_that_quotes_the_message() {
        let check = |stage, code, is_logged: bool| {
            assert_eq!(loggable(stage, code, "why") == "why", is_logged, "{} {code}", stage.name());
        };
        check(Stage::Decode, "bad-timestamp", false);
        check(Stage::Sink, "bad-uuid", false);
        check(Stage::Sink, "22P02", false);
        check(Stage::Sink, "P0001", false);
        check(Stage::Sink, "23505", true);
        check(Stage::Plugin, "too-strict", true);
    }
}
