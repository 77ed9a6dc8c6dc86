//! A batch in the bytes that go to Postgres, ready to be sent as often as it takes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::copied::CopiedRows;
use super::dead_letters::{DeadLetters, cut, in_ascii};
use super::parked::Parked;
use super::parking::{KeyHash, Parking, WaitingKeys};
use super::{Envelope, Range, Version};
use crate::batch::Batch;
use crate::rows::{Rejection, Stage};

/// Encoded rows and dead letters of a batch with its ranges. Owns its memory, which the next batch reuses.
#[derive(Debug, Default)]
pub struct Prepared {
    /// One per table of the plan.
    pub(super) tables: Vec<TableCopy>,
    pub(super) dead_letters: DeadLetters,
    parked: Parked,
    parked_keys: Vec<(i32, KeyHash)>,
    kept: Vec<Rejection>,
    pub(super) parking: Parking,
    pub(super) ranges: Vec<Range>,
    pub(super) rejected: Vec<Rejected>,
    pub(super) version: Option<Arc<Version>>,
    /// Buffers of tables that had no row.
    spare: Vec<Vec<u8>>,
    spare_messages: Vec<Vec<u32>>,
    pub(super) dispositions: Vec<Disposition>,
    /// True when Postgres was asked which of the rows it would refuse.
    pub(super) asked: bool,
    /// True when the text that is said of messages has to be ASCII, as not every database stores all characters.
    pub(super) ascii: bool,
}

/// The rows for one table.
#[derive(Debug, Default)]
pub(super) struct TableCopy {
    /// A whole COPY; empty when there is no row.
    pub bytes: Bytes,
    /// The message of the batch behind each row.
    pub messages: Vec<u32>,
    /// True when some of the rows delete.
    pub deletes: bool,
}

/// How many messages were rejected, and why.
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
pub(super) struct Disposition {
    /// Over all tables.
    pub rows: u32,
    pub end: End,
}

/// Where a message goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum End {
    /// To its tables; without a row it was filtered.
    #[default]
    Rows,
    DeadLetter,
    /// Tried again later, or behind one that is.
    Parked,
}

impl Prepared {
    /// Bytes of rows and dead letters.
    pub fn bytes(&self) -> usize {
        self.tables.iter().map(|table| table.bytes.len()).sum::<usize>()
            + self.dead_letters.len_bytes()
            + self.parked.len_bytes()
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
    pub fn dead_letters(&self) -> u64 {
        self.ranges.iter().map(|range| range.rejected).sum()
    }

    /// How many messages of the batch stand ahead of the one that becomes dead letter `number`, counted from 0; all of
    /// them when there are fewer dead letters.
    pub fn messages_ahead_of_dead_letter(&self, number: u64) -> usize {
        let mut dead_letters = self
            .dispositions
            .iter()
            .enumerate()
            .filter(|(_, disposition)| disposition.end == End::DeadLetter);
        dead_letters.nth(number as usize).map_or(self.dispositions.len(), |(message, _)| message)
    }

    /// Number of rows, table by table in the order of the plan.
    pub fn rows_of_tables(&self) -> impl Iterator<Item = usize> {
        self.tables.iter().map(|table| table.messages.len())
    }

    /// True when at least one row is to be written.
    pub fn has_rows(&self) -> bool {
        self.messages_with_rows().next().is_some()
    }

    /// Messages of which rows are written, in their order.
    pub(super) fn messages_with_rows(&self) -> impl Iterator<Item = u32> {
        let dispositions = self.dispositions.iter().enumerate();
        let written = dispositions
            .filter(|(_, disposition)| disposition.end == End::Rows && disposition.rows > 0);
        written.map(|(message, _)| message as u32)
    }

    /// Number of rows, over all tables, of each message that was not rejected; in the order of the batch.
    pub fn passed(&self) -> impl Iterator<Item = (usize, u32)> {
        let dispositions = self.dispositions.iter().enumerate();
        dispositions
            .filter(|(_, disposition)| disposition.end == End::Rows)
            .map(|(message, disposition)| (message, disposition.rows))
    }

    /// Forgets the batch and keeps the memory.
    pub(super) fn clear(&mut self) {
        for TableCopy { bytes, mut messages, .. } in std::mem::take(&mut self.tables) {
            self.keep(bytes);
            messages.clear();
            self.spare_messages.push(messages);
        }
        self.dead_letters.clear();
        self.parked.clear();
        self.parked_keys.clear();
        self.kept.clear();
        self.ranges.clear();
        self.rejected.clear();
        self.version = None;
        self.asked = false;
        self.dispositions.clear();
    }

    pub(super) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn message_buffer(&mut self) -> Vec<u32> {
        self.spare_messages.pop().unwrap_or_default()
    }

    fn keep(&mut self, bytes: Bytes) {
        // Not unique while the connection that was thrown away still has it.
        if bytes.is_unique() {
            let mut buffer = Vec::from(bytes);
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub(super) fn push_table(&mut self, buffer: Vec<u8>, messages: Vec<u32>, deletes: bool) {
        let mut bytes = Bytes::new();
        if buffer.is_empty() {
            self.spare.push(buffer);
        } else {
            bytes = Bytes::from(buffer);
        }
        self.tables.push(TableCopy { bytes, messages, deletes });
    }

    /// Rejects messages whose rows Postgres rejected: their rows in all tables go, and dead letters come or they are
    /// parked. `batch` is the one that was encoded; each message is rejected once.
    ///
    /// # Panics
    /// When nothing was encoded, or a message was rejected before.
    pub fn reject(&mut self, batch: &Batch, rejections: &[Rejection]) {
        let mut rejections: Vec<&Rejection> = rejections.iter().collect();
        rejections.sort_by_key(|rejection| rejection.message);
        self.change(batch, &rejections, &WaitingKeys::default());
    }

    /// Parks the messages that have to wait behind others of their key which were parked since.
    ///
    /// # Panics
    /// When nothing was encoded.
    pub fn wait_behind(&mut self, batch: &Batch, waiting: &WaitingKeys) {
        if self.parking.by_key() && !waiting.is_empty() {
            self.change(batch, &[], waiting);
        }
    }

    fn change(&mut self, batch: &Batch, rejections: &[&Rejection], waiting: &WaitingKeys) {
        self.set_aside(batch, rejections, waiting);
        for index in 0..self.tables.len() {
            self.remove_rows_rejected(index);
        }
        self.count_messages(&batch.partitions);
    }

    /// Decides what becomes of messages that are rejected, and of those that wait behind others. `rejections`
    /// are in the order of the messages, at most one each.
    pub(super) fn set_aside(
        &mut self,
        batch: &Batch,
        rejections: &[&Rejection],
        waiting: &WaitingKeys,
    ) {
        let parks = |rejection: &&&Rejection| {
            rejection.retry && self.parking.rule.goes_on(self.parking.attempts(rejection.message))
        };
        let in_order = self.parking.by_key()
            && (!waiting.is_empty() || rejections.iter().any(|rejection| parks(&rejection)));
        if !in_order {
            for rejection in rejections {
                self.turn_one_away(batch, rejection);
            }
            return;
        }
        let mut parked: HashSet<(i32, &[u8])> = HashSet::new();
        let mut rejections = rejections.iter().peekable();
        for message in 0..batch.len() {
            let key = batch.keys.get(message).map(|key| (batch.partitions[message], key));
            let behind =
                key.is_some_and(|key| waiting.contains(key.0, key.1) || parked.contains(&key));
            match rejections.next_if(|rejection| rejection.message as usize == message) {
                Some(rejection) if !(behind && rejection.retry) => {
                    self.turn_one_away(batch, rejection);
                }
                _ if behind
                    && self.dispositions[message].end == End::Rows
                    && !self.parking.kept
                    && !self.dead_letters.fits(batch, message as u32) =>
                {
                    self.turn_one_away(batch, &cut::cannot_wait(batch, message));
                }
                _ if behind && self.dispositions[message].end == End::Rows => {
                    self.dispositions[message].end = End::Parked;
                    if !self.parking.kept {
                        let version = self.version();
                        self.parked.push_behind(batch, message, &version.digest);
                    }
                }
                _ => {}
            }
            if self.dispositions[message].end == End::Parked {
                parked.extend(key);
            }
        }
        let parked = parked.into_iter().map(|(partition, key)| (partition, KeyHash::of(key)));
        self.parked_keys.extend(parked);
    }

    fn turn_one_away(&mut self, batch: &Batch, rejection: &Rejection) {
        let mut rejection = as_storable(rejection, self.ascii);
        let (attempts, version) = (self.parking.attempts(rejection.message), self.version());
        let mut parks = rejection.retry && self.parking.rule.goes_on(attempts);
        if parks && !self.parking.kept && !self.dead_letters.fits(batch, rejection.message) {
            rejection = Cow::Owned(cut::not_parked(batch, &rejection));
            parks = false;
        }
        let rejection = &*rejection;
        let disposition = &mut self.dispositions[rejection.message as usize];
        assert!(disposition.end == End::Rows, "a message is rejected once");
        disposition.end = if parks { End::Parked } else { End::DeadLetter };
        if !parks {
            self.count(rejection);
        }
        if self.parking.kept {
            self.kept.push(Rejection::clone(rejection));
        } else if parks {
            let pause = self.parking.rule.pause_after(attempts);
            self.parked.push(batch, rejection, &version.digest, attempts, pause);
        } else {
            self.dead_letters.push(batch, rejection, &version.digest);
        }
    }

    fn version(&self) -> Arc<Version> {
        self.version.clone().expect("a prepared batch has a version")
    }

    /// Rejections of messages that are kept elsewhere; not those that wait behind others.
    pub fn kept(&self) -> &[Rejection] {
        &self.kept
    }

    /// Keys of messages that were parked, by partition. Empty unless later ones have to wait.
    pub fn parked_keys(&self) -> &[(i32, KeyHash)] {
        &self.parked_keys
    }

    /// Counts each message in the range of its partition.
    pub(super) fn count_messages(&mut self, partitions: &[i32]) {
        for range in &mut self.ranges {
            [range.messages, range.rows_from, range.rows] = [0; 3];
            [range.filtered, range.rejected, range.parked] = [0; 3];
        }
        // Messages of one partition come in runs.
        let mut current = 0;
        for (partition, disposition) in partitions.iter().zip(&self.dispositions) {
            if self.ranges.get(current).is_none_or(|range| range.partition != *partition) {
                current = (self.ranges.iter())
                    .position(|range| range.partition == *partition)
                    .expect("each partition of a batch has a range");
            }
            let range = &mut self.ranges[current];
            range.messages += 1;
            match disposition.end {
                End::DeadLetter => range.rejected += 1,
                End::Parked => range.parked += 1,
                End::Rows if disposition.rows == 0 => range.filtered += 1,
                End::Rows => {
                    range.rows_from += 1;
                    range.rows += u64::from(disposition.rows);
                }
            }
        }
    }

    fn remove_rows_rejected(&mut self, index: usize) {
        let mut table = std::mem::take(&mut self.tables[index]);
        let dispositions = &self.dispositions;
        let wanted = |message: &u32| dispositions[*message as usize].end == End::Rows;
        if !table.messages.iter().all(wanted) {
            let mut buffer = self.spare.pop().unwrap_or_default();
            if table.messages.iter().any(wanted) {
                let rows = CopiedRows::of(&table.bytes);
                rows.part(0..rows.len(), |row| wanted(&table.messages[row]), &mut buffer);
            }
            table.messages.retain(wanted);
            self.keep(std::mem::replace(&mut table.bytes, Bytes::from(buffer)));
        }
        self.tables[index] = table;
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

    pub(super) fn dead_letters_under(&self, head: &Envelope) -> Bytes {
        self.dead_letters.under(head)
    }

    pub(super) fn parked_under(&self, head: &Envelope) -> Bytes {
        self.parked.under(head)
    }
}

/// `rejection`, or with `?` for what is not ASCII.
fn as_storable(rejection: &Rejection, ascii: bool) -> Cow<'_, Rejection> {
    if !ascii || rejection.reason.is_ascii() && rejection.code.is_ascii() {
        return Cow::Borrowed(rejection);
    }
    let (code, reason) = (in_ascii(&rejection.code), in_ascii(&rejection.reason));
    Cow::Owned(Rejection { code, reason, ..rejection.clone() })
}
