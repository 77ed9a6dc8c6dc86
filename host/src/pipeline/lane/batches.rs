//! Where the batches of a lane are between fetching and COMMIT.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::{Lane, SMALLER_FOR};
use crate::batch::Batch;
use crate::fault::Fault;
use crate::pipeline::budget::Reservation;
use crate::pipeline::counters::Counters;
use crate::sink::table::Plan;
use crate::sink::{Prepared, Receipt};

/// A batch that is encoded and waits for the write before it.
pub(super) struct Ready {
    pub plan: Arc<Plan>,
    pub prepared: Prepared,
    pub batch: Batch,
    pub number: u64,
    pub reservation: Reservation,
    /// When it was closed, and whether there was no room for more.
    pub begun: Instant,
    pub full: bool,
}

/// A batch that is being written: a row may be refused, and then its message is needed.
pub(super) struct Writing {
    pub plan: Arc<Plan>,
    pub batch: Batch,
    pub number: u64,
    /// Room for its dead letters.
    pub reservation: Option<Reservation>,
    pub begun: Instant,
    pub full: bool,
}

/// A batch that would make too many dead letters, or park too many messages, is not written; its messages are read again.
pub(super) struct RateLimited {
    pub until: Until,
    counters: Arc<Counters>,
}

impl RateLimited {
    pub fn new(until: Until, counters: &Arc<Counters>) -> Self {
        Counters::add(&counters.paused_lanes, 1);
        Self { until, counters: counters.clone() }
    }
}

/// When they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// At once, in a smaller batch.
    Now,
    /// The first of them would be a dead letter too many.
    RoomForDeadLetters,
    FewerParked,
}

/// Also when the lane ends in the meantime: the counters outlive it.
impl Drop for RateLimited {
    fn drop(&mut self) {
        Counters::subtract(&self.counters.paused_lanes, 1);
    }
}

impl Lane {
    pub(super) fn count(&self, receipt: &Receipt, written: &Prepared) {
        let counters = &self.parts.counters;
        for range in receipt.ranges() {
            Counters::add(&counters.messages, range.messages);
            Counters::add(&counters.filtered, range.filtered);
            Counters::add(&counters.rejected, range.rejected);
            Counters::add(&counters.parked, range.parked);
            self.parts.backlog.add(range.parked);
        }
        Counters::add(&counters.batches, 1);
        if let Some(Writing { plan, batch, begun, full, .. }) = &self.writing {
            let (sent, dropped) = (written.rows_of_tables(), receipt.dropped());
            let names = plan.table_names();
            let dropped = counters.dropped.note(&self.parts.pipeline, names, sent, dropped);
            let rows: u64 = receipt.ranges().iter().map(|range| range.rows).sum();
            Counters::add(&counters.rows, rows.saturating_sub(dropped));
            self.parts.shared.loads[self.parts.number].note(begun.elapsed(), *full);
            counters.latency.record(&batch.timestamps, Timestamp::now().as_microsecond());
        }
    }

    /// The same messages once more, in smaller batches.
    pub(super) fn make_smaller(&mut self, fault: &Fault, reuse: Prepared) -> Result<(), Fault> {
        let messages = self.writing.as_ref().map_or(1, |writing| writing.batch.len());
        let max = (messages / 2).max(1);
        tracing::warn!(
            pipeline = &*self.parts.pipeline,
            code = fault.code,
            messages,
            max,
            "batch too large for Postgres, trying smaller ones: {}",
            fault.message
        );
        self.limit_batches(max);
        self.written(reuse);
        self.rewind()
    }

    /// A batch that failed as a whole and passed in parts would do so each time.
    pub(super) fn learn_largest_call(&mut self) {
        if !self.worker.take_too_large() || self.batch.len() < 2 {
            return;
        }
        let (messages, max) = (self.batch.len(), self.batch.len() / 2);
        tracing::warn!(
            pipeline = &*self.parts.pipeline,
            messages,
            max,
            "batch too large for one call of the plugin, the next ones are smaller"
        );
        self.limit_batches(max);
    }

    fn limit_batches(&mut self, max: usize) {
        (self.messages_max, self.smaller) = (max, Some((max, Instant::now() + SMALLER_FOR)));
    }

    /// Keeps the memory of a batch whose disposition is known.
    pub(super) fn written(&mut self, reuse: Prepared) {
        self.spare.push(reuse);
        if let Some(Writing { batch, .. }) = self.writing.take() {
            self.spare_batch(batch);
        }
    }

    pub(super) fn spare_batch(&mut self, mut batch: Batch) {
        batch.clear();
        self.spare_batches.push(batch);
    }
}
