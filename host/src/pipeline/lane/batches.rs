//! Where the batches of a lane are between fetching and COMMIT.

use std::sync::Arc;

use super::Lane;
use crate::batch::Batch;
use crate::pipeline::budget::Reservation;
use crate::pipeline::counters::Counters;
use crate::sink::Prepared;
use crate::sink::table::Plan;

/// A batch that is encoded and waits for the write before it.
pub(super) struct Ready {
    pub plan: Arc<Plan>,
    pub prepared: Prepared,
    pub batch: Batch,
    pub number: u64,
    pub reservation: Reservation,
}

/// A batch that is being written: a row may be refused, and then its message is needed.
pub(super) struct Writing {
    pub plan: Arc<Plan>,
    pub batch: Batch,
    pub number: u64,
    /// Room for its dead letters.
    pub reservation: Option<Reservation>,
}

/// A batch that would make too many dead letters is not written; its messages are read again.
pub(super) struct HeldBack {
    /// True when the first of them would be a letter too many: not before there is room for it.
    pub until_room: bool,
    counters: Arc<Counters>,
}

impl HeldBack {
    pub fn new(until_room: bool, counters: &Arc<Counters>) -> Self {
        Counters::add(&counters.paused_lanes, 1);
        Self { until_room, counters: counters.clone() }
    }
}

/// Also when the lane ends meanwhile: the counters outlive it.
impl Drop for HeldBack {
    fn drop(&mut self) {
        Counters::subtract(&self.counters.paused_lanes, 1);
    }
}

impl Lane {
    /// Keeps the memory of a batch whose fate is known.
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
