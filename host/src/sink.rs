//! What a sink promises: rows, dead letters, lineage and positions of a batch in one transaction, or
//! nothing of it. Knows neither Kafka nor WebAssembly.

use std::sync::Arc;

use crate::batch::Batch;
use crate::rows::{Checked, Decoded, Outcome, Rejection};

pub mod table;

pub mod types;

pub mod copy;

pub mod postgres;

pub mod claims;

pub mod migrate;

pub mod privileges;

pub mod dead_letters;

mod commit;
pub(crate) mod copied;
mod definition;
mod deletes;
mod encode;
pub mod parked;
pub mod parking;
mod plan;
mod prepared;
mod upsert;

pub use parking::{KeyHash, Parking, WaitingKeys};
pub use prepared::{Prepared, Rejected};

#[cfg(test)]
pub(crate) mod tests;

/// The messages of one partition that a batch covers, and what became of them.
/// `messages == rows_from + filtered + rejected + parked`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Range {
    /// The partition.
    pub partition: i32,
    /// Where the stored position must stand: the offset behind the batch before.
    pub from: i64,
    /// The next offset: one behind the last message. Offsets may have gaps (compaction, control records).
    pub to: i64,
    /// Claim under which the partition is blocked.
    pub epoch: i64,
    /// The last message before `to`, if brokers name leader epochs.
    pub last: Option<LastRead>,
    /// Messages in the batch.
    pub messages: u64,
    /// Messages that became at least one row.
    pub rows_from: u64,
    /// Rows sent to Postgres, over all tables; [`Receipt::dropped`] says what triggers have left of them.
    pub rows: u64,
    /// Messages of which the plugin kept nothing.
    pub filtered: u64,
    /// Messages that became dead letters.
    pub rejected: u64,
    /// Messages that are tried again later, or wait behind one that is.
    pub parked: u64,
}

/// The message that was read last before a position, by which a log that was cut since is told from one that was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRead {
    /// Its offset.
    pub offset: i64,
    /// How often the partition had changed its leader when a broker took the message.
    pub leader_epoch: i32,
}

/// The plugin version that made a batch's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// SHA-256 of the component, 64 hexadecimal digits.
    pub digest: String,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's own version.
    pub version: String,
}

/// A batch and all that was made of it, ready to be encoded.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The messages.
    pub batch: &'a Batch,
    /// Their decoded fields.
    pub decoded: &'a Decoded,
    /// Rows and the plugin's own rejections.
    pub outcome: &'a Checked<Outcome>,
    /// Rejections before the plugin (`decode`).
    pub undecoded: &'a [Rejection],
    /// One per partition in the batch, with `partition`, `from`, `to` and `epoch`; encoding counts the rest.
    pub ranges: Vec<Range>,
    /// Who made the rows.
    pub version: Arc<Version>,
    /// What is tried again.
    pub parking: Parking,
    /// Keys that messages have to wait behind.
    pub waiting: &'a WaitingKeys,
}

/// Proof that a transaction was committed. Only a sink makes one, and only after COMMIT was confirmed
/// (or found to have happened); only a receipt advances a source.
#[derive(Debug)]
pub struct Receipt {
    ranges: Vec<Range>,
    dropped: Vec<u64>,
}

impl Receipt {
    /// A receipt out of thin air, for tests of what takes receipts.
    #[cfg(test)]
    pub(crate) fn for_tests(ranges: Vec<Range>) -> Self {
        Self { ranges, dropped: Vec::new() }
    }

    /// What was committed, partition by partition.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// How many of the rows counted in the ranges a trigger has dropped, by table in the order of the plan; shorter, or
    /// empty, where it is none. Postgres counts the rows of a COPY and not which they are, so that it cannot be said by range. Where
    /// the response to the COPY was lost, and in modes that skip rows themselves (`ignore`, `newer_than`), it is none.
    pub fn dropped(&self) -> &[u64] {
        &self.dropped
    }
}

/// What all dead letters of a topic have in common.
#[derive(Debug, Clone)]
struct Envelope {
    pipeline: String,
    topic: String,
    topic_id: uuid::Uuid,
    /// True when they are to be sent to a topic as well.
    relay: bool,
}
