//! Parked messages as rows of `sluice.parked`: everything needed to try them again.

use std::time::Duration;

use bytes::Bytes;

pub mod due;
pub mod looks;

use super::dead_letters::{front, put_message, put_rejection, under};
use super::{Envelope, copy};
use crate::batch::Batch;
use crate::rows::Rejection;

/// Columns in the order of [`Parked::push`] behind those of the [`Envelope`].
pub(super) const COPY: &str = "COPY sluice.parked (pipeline, topic, topic_id, partition, \"offset\", \"timestamp\", \
     log_append_time, key, payload, header_names, header_values, stage, code, reason, digest, attempts, delay_ms) \
     FROM STDIN (FORMAT binary)";
const COLUMNS: u16 = 17;

/// Rows without the columns that all share: a lane encodes a batch before it knows who writes it.
#[derive(Debug, Default)]
pub(super) struct Parked {
    rows: Vec<u8>,
    ends: Vec<usize>,
}

impl Parked {
    pub fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
    }

    /// A message that was tried so often and is tried again after `pause`.
    pub fn push(
        &mut self,
        batch: &Batch,
        rejection: &Rejection,
        digest: &str,
        attempts: u32,
        pause: Duration,
    ) {
        put_message(batch, rejection.message as usize, &mut self.rows);
        put_rejection(rejection, digest, &mut self.rows);
        self.end(attempts, pause);
    }

    /// A message that waits until those of its key ahead of it are done.
    pub fn push_behind(&mut self, batch: &Batch, message: usize, digest: &str) {
        put_message(batch, message, &mut self.rows);
        for text in ["", "", "", digest] {
            copy::bytes(text.as_bytes(), &mut self.rows);
        }
        self.end(0, Duration::ZERO);
    }

    fn end(&mut self, attempts: u32, pause: Duration) {
        copy::four((attempts as i32).to_be_bytes(), &mut self.rows);
        copy::eight((pause.as_millis() as i64).to_be_bytes(), &mut self.rows);
        self.ends.push(self.rows.len());
    }

    pub fn len_bytes(&self) -> usize {
        self.rows.len()
    }

    /// The whole COPY; empty when nothing is parked.
    pub fn under(&self, head: &Envelope) -> Bytes {
        under(&front(head, COLUMNS), &self.rows, &self.ends)
    }
}
