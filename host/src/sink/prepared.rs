//! A batch in the bytes that go to Postgres, ready to be sent as often as it takes.

use std::sync::Arc;

use bytes::Bytes;

use super::letters::Letters;
use super::{Letterhead, Range, Version};
use crate::rows::{Rejection, Stage};

/// Encoded rows and dead letters of a batch with its ranges. Owns its memory, which the next batch reuses.
#[derive(Debug, Default)]
pub struct Prepared {
    /// One per table of the plan.
    pub(super) tables: Vec<TableCopy>,
    pub(super) letters: Letters,
    pub(super) ranges: Vec<Range>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) version: Option<Arc<Version>>,
    /// Buffers of tables that had no row.
    spare: Vec<Vec<u8>>,
    pub(super) fates: Vec<Fate>,
}

/// The rows for one table.
#[derive(Debug, Default)]
pub(super) struct TableCopy {
    /// A whole COPY; empty when there is no row.
    pub bytes: Bytes,
    /// How many.
    pub rows: usize,
    /// True when some of the rows delete.
    pub deletes: bool,
}

/// How many messages were turned away, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where.
    pub stage: Stage,
    /// Why, for counting.
    pub code: String,
    /// How many.
    pub messages: u64,
    /// The reason given for the first of them.
    pub example: String,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Fate {
    pub rows: u32,
    pub rejected: bool,
}

impl Prepared {
    /// Bytes of rows and dead letters.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|table| table.bytes.len()).sum::<usize>() + self.letters.len_bytes()
    }

    /// What the batch covers and what becomes of it, partition by partition.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The rejected messages, counted by stage and code.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// Messages that become dead letters.
    pub fn letters(&self) -> u64 {
        self.ranges.iter().map(|range| range.rejected).sum()
    }

    /// How many messages of the batch stand ahead of the one that becomes letter `number`, counted from 0; all of
    /// them when there are fewer letters.
    pub fn messages_ahead_of_letter(&self, number: u64) -> usize {
        let mut letters = self.fates.iter().enumerate().filter(|(_, fate)| fate.rejected);
        letters.nth(number as usize).map_or(self.fates.len(), |(message, _)| message)
    }

    /// Number of rows, table by table in the order of the plan.
    pub fn rows_of_tables(&self) -> impl Iterator<Item = usize> {
        self.tables.iter().map(|table| table.rows)
    }

    /// Number of rows, over all tables, of each message that was not rejected; in the order of the batch.
    pub fn passed(&self) -> impl Iterator<Item = (usize, u32)> {
        let fates = self.fates.iter().enumerate();
        fates.filter(|(_, fate)| !fate.rejected).map(|(message, fate)| (message, fate.rows))
    }

    /// Forgets the batch and keeps the memory.
    pub(super) fn clear(&mut self) {
        for TableCopy { bytes, .. } in self.tables.drain(..) {
            // Not unique while the connection that was thrown away still holds it.
            if bytes.is_unique() {
                let mut buffer = Vec::from(bytes);
                buffer.clear();
                self.spare.push(buffer);
            }
        }
        self.letters.clear();
        self.ranges.clear();
        self.rejected.clear();
        self.version = None;
        self.fates.clear();
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Marks and counts a rejected message.
    pub(super) fn reject(&mut self, rejection: &Rejection) {
        let fate = &mut self.fates[rejection.message as usize];
        assert!(!fate.rejected, "a message is rejected once");
        fate.rejected = true;
        self.count(rejection);
    }

    pub(super) fn push_table(&mut self, buffer: Vec<u8>, rows: usize, deletes: bool) {
        if buffer.is_empty() {
            self.spare.push(buffer);
            self.tables.push(TableCopy::default());
        } else {
            self.tables.push(TableCopy { bytes: Bytes::from(buffer), rows, deletes });
        }
    }

    fn count(&mut self, rejection: &Rejection) {
        let same = |counted: &&mut Rejected| {
            counted.stage == rejection.stage && counted.code == rejection.code
        };
        match self.rejected.iter_mut().find(same) {
            Some(counted) => counted.messages += 1,
            None => self.rejected.push(Rejected {
                stage: rejection.stage,
                code: rejection.code.clone(),
                messages: 1,
                example: rejection.reason.clone(),
            }),
        }
    }

    pub(super) fn letters_under(&self, head: &Letterhead) -> Bytes {
        self.letters.under(head)
    }
}
