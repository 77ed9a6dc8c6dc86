//! Dead letters as rows of `sluice.dead_letters`: everything needed to replay a message.

use bytes::Bytes;

pub mod cut;
pub mod discard;
pub mod outbox;
pub mod read;
pub mod replay;
pub mod selection;

pub use selection::Selection;

use super::types::datetime;
use super::{Envelope, copy};
use crate::batch::Batch;
use crate::rows::Rejection;

/// Columns in the order of [`DeadLetters::push`] behind those of the [`Envelope`].
pub(super) const COPY: &str = "COPY sluice.dead_letters (pipeline, topic, topic_id, relay, partition, \"offset\", \"timestamp\", \
     log_append_time, key, payload, header_names, header_values, stage, code, reason, digest) FROM STDIN (FORMAT binary)";
const COLUMNS: u16 = 16;

/// Rows without the columns that all share: a lane encodes a batch before it knows who writes it.
#[derive(Debug)]
pub(super) struct DeadLetters {
    rows: Vec<u8>,
    ends: Vec<usize>,
    /// Most bytes of a message that one row keeps.
    pub bytes_max: usize,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { rows: Vec::new(), ends: Vec::new(), bytes_max: cut::ROW_BYTES_MAX }
    }
}

impl DeadLetters {
    pub fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
    }

    pub fn push(&mut self, batch: &Batch, rejection: &Rejection, digest: &str) {
        let (message, fits) = (rejection.message as usize, self.fits(batch, rejection.message));
        let out = &mut self.rows;
        if fits {
            put_message(batch, message, out);
        } else {
            cut::put(batch, message, out);
        }
        put_rejection(rejection, digest, out);
        self.ends.push(self.rows.len());
    }

    /// True when a row can keep all of the message: otherwise it can neither be parked nor replayed.
    pub fn fits(&self, batch: &Batch, message: u32) -> bool {
        cut::bytes(batch, message as usize) <= self.bytes_max
    }

    pub fn len_bytes(&self) -> usize {
        self.rows.len()
    }

    /// The whole COPY; empty when there is no dead letter.
    pub fn under(&self, head: &Envelope) -> Bytes {
        let mut front = front(head, COLUMNS);
        copy::one(head.relay.into(), &mut front);
        under(&front, &self.rows, &self.ends)
    }
}

/// From `partition` to `header_values`.
pub(super) fn put_message(batch: &Batch, message: usize, out: &mut Vec<u8>) {
    put_position(batch, message, out);
    copy::maybe_bytes(batch.keys.get(message), out);
    copy::maybe_bytes(batch.payloads.get(message), out);
    let headers = batch.headers.of(message);
    copy::byte_strings(headers.clone().map(|index| Some(batch.headers.names.get(index))), out);
    copy::byte_strings(headers.map(|index| batch.headers.values.get(index)), out);
}

/// From `partition` to `log_append_time`.
fn put_position(batch: &Batch, message: usize, out: &mut Vec<u8>) {
    copy::four(batch.partitions[message].to_be_bytes(), out);
    copy::eight(batch.offsets[message].to_be_bytes(), out);
    match batch.timestamps[message] {
        time if time != -1 && datetime::check_timestamp(time).is_ok() => {
            copy::eight(datetime::timestamp(time).to_be_bytes(), out);
        }
        _ => copy::null(out),
    }
    copy::one(batch.log_append_times[message].into(), out);
}

/// From `stage` to `digest`.
pub(super) fn put_rejection(rejection: &Rejection, digest: &str, out: &mut Vec<u8>) {
    copy::bytes(rejection.stage.name().as_bytes(), out);
    copy::bytes(storable(&rejection.code).as_bytes(), out);
    copy::bytes(storable(&rejection.reason).as_bytes(), out);
    copy::bytes(digest.as_bytes(), out);
}

/// The beginning of a row of `columns`: what all have in common.
pub(super) fn front(head: &Envelope, columns: u16) -> Vec<u8> {
    let mut front = Vec::with_capacity(128);
    front.extend_from_slice(&columns.to_be_bytes());
    copy::bytes(head.pipeline.as_bytes(), &mut front);
    copy::bytes(head.topic.as_bytes(), &mut front);
    copy::bytes(head.topic_id.as_bytes(), &mut front);
    front
}

/// A whole COPY of rows without the columns that all share; empty when there is no row.
pub(super) fn under(front: &[u8], rows: &[u8], ends: &[usize]) -> Bytes {
    if ends.is_empty() {
        return Bytes::new();
    }
    let mut out = Vec::with_capacity(rows.len() + ends.len() * front.len() + 32);
    copy::begin(&mut out);
    let mut start = 0;
    for end in ends {
        out.extend_from_slice(front);
        out.extend_from_slice(&rows[start..*end]);
        start = *end;
    }
    copy::end(&mut out);
    Bytes::from(out)
}

/// With `?` for all that is not ASCII: what any database can store.
pub(in crate::sink) fn in_ascii(text: &str) -> String {
    text.chars().map(|it| if it.is_ascii() { it } else { '?' }).collect()
}

/// Code and reason may come from a plugin, and text takes no U+0000.
pub(in crate::sink) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
