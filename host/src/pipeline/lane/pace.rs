//! When a lane sleeps and when it writes: each transaction costs Postgres far more than a row.

use std::time::{Duration, Instant};

use super::Lane;
use crate::source::PartitionFault;
use crate::source::rebalance::Report;

/// How long a lane with nothing to do sleeps. Messages, answers of Postgres and commands wake it.
pub(super) const IDLE_WAIT: Duration = Duration::from_millis(250);
/// The same while it waits for what wakes nobody: room for dead letters, or keys that are free again.
pub(super) const LOOK_AROUND: Duration = Duration::from_millis(20);

/// From the begin of one write to the begin of the next.
#[derive(Debug)]
pub(super) struct Pace {
    period: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// Nothing was written yet: the first write is due at once.
    pub fn new(period: Duration) -> Self {
        Self { period, next: None }
    }

    /// A write begins.
    pub fn begin(&mut self, now: Instant) {
        self.next = Some(now + self.period);
    }

    /// How long it is until a batch that is not full is due.
    pub fn left(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }
}

impl Lane {
    /// Takes what the source has, or sleeps until there is something to do. A full lane takes no more
    /// messages, so librdkafka's bounded queue fills and it stops fetching, while the member's thread goes
    /// on polling for the group.
    pub(super) fn gather(&mut self) {
        let (room, wait) = (self.room(), self.patience(Instant::now()));
        if room.is_full(&self.batch) && self.ready.is_some() {
            return self.parts.bell.wait(wait);
        }
        let faults = self.parts.source.fill(&mut self.batch, room, &mut self.positions, wait);
        for PartitionFault { partition, fault } in faults {
            self.report(Report::Held { partition, fault });
        }
    }

    /// How long nothing is to be done if nobody rings.
    fn patience(&self, now: Instant) -> Duration {
        let wait = if self.order.is_waiting() { LOOK_AROUND } else { IDLE_WAIT };
        let waits_for_its_time = !self.batch.is_empty() && !self.busy();
        if waits_for_its_time { wait.min(self.pace.left(now)) } else { wait }
    }

    /// True when a batch is full, or due while nothing is being written.
    pub(super) fn should_process(&self, now: Instant) -> bool {
        let full = self.room().is_full(&self.batch);
        let due = !self.busy() && self.pace.left(now).is_zero();
        !self.batch.is_empty() && self.ready.is_none() && (full || due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    #[test]
    fn the_first_message_after_silence_is_due_at_once_and_those_behind_it_in_a_period() {
        let mut pace = Pace::new(PERIOD);
        let start = Instant::now();
        assert_eq!(pace.left(start), Duration::ZERO);
        pace.begin(start);
        assert_eq!(pace.left(start), PERIOD);
        assert_eq!(pace.left(start + PERIOD / 4), PERIOD * 3 / 4);
        assert_eq!(pace.left(start + PERIOD), Duration::ZERO);
        assert_eq!(pace.left(start + PERIOD * 50), Duration::ZERO, "silence");
    }

    #[test]
    fn without_a_period_everything_is_due_at_once() {
        let mut pace = Pace::new(Duration::ZERO);
        let now = Instant::now();
        pace.begin(now);
        assert_eq!(pace.left(now), Duration::ZERO);
    }
}
