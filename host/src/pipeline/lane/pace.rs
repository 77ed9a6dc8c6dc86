//! When a lane sleeps and when it writes: each transaction costs Postgres far more than a row.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::Lane;
use crate::batch::Batch;
use crate::fault::Remedy;
use crate::source::rebalance::Report;
use crate::source::{Ease, PartitionFault};

/// How long a lane with nothing to do sleeps. Messages, answers of Postgres and commands wake it.
pub(super) const IDLE_WAIT: Duration = Duration::from_secs(10);
/// The same while it waits for what wakes nobody: room for dead letters.
pub(super) const LOOK_AROUND: Duration = Duration::from_millis(100);

/// Where a partition got ahead without a message (behind each transaction stands a marker), its position goes along with
/// the next batch, or alone after so long.
const PASSED_WAIT: Duration = Duration::from_secs(1);

/// A batch has plenty of room when what it contains is less than one in so many of what it may contain.
const PLENTY: usize = 4;

/// A lane puts its next write off by at most one in so many of a period, until it writes when the others do.
const NUDGE: u32 = 8;

/// From where all lanes of the process count their periods.
static COMMON_BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// From the begin of one write to the begin of the next.
#[derive(Debug)]
pub(super) struct Pace {
    period: Duration,
    next: Option<Instant>,
    /// What the batch had that was made last.
    messages: usize,
    bytes: usize,
}

impl Pace {
    /// Nothing was written yet: the first write is due at once.
    pub fn new(period: Duration) -> Self {
        Self { period, next: None, messages: 0, bytes: 0 }
    }

    /// A batch was made.
    pub fn note(&mut self, batch: &Batch) {
        (self.messages, self.bytes) = (batch.len(), batch.bytes());
    }

    /// A write begins. The next one is due in a period, and a little later where that brings the lane closer to the others
    /// of the process: those that write at the same time share fetches, wake-ups and flushes.
    pub fn begin(&mut self, now: Instant) {
        let nudge_max = self.period / NUDGE;
        // Who was woken a little late does not fall behind the others.
        let was_due = self.next.filter(|&next| next <= now && now - next <= nudge_max);
        let next = was_due.unwrap_or(now) + self.period;
        let since = next.saturating_duration_since(*COMMON_BEGIN).as_nanos();
        let behind = since.checked_rem(self.period.as_nanos()).unwrap_or(0);
        let behind = Duration::from_nanos(u64::try_from(behind).unwrap_or(0));
        let until_all = if behind.is_zero() { behind } else { self.period.saturating_sub(behind) };
        self.next = Some(next + until_all.min(nudge_max));
    }

    /// How long it is until a batch that is not full is due.
    pub fn left(&self, now: Instant) -> Duration {
        self.next.map_or(Duration::ZERO, |next| next.saturating_duration_since(now))
    }
}

impl Lane {
    /// Takes what the source has, and says for how long nothing is to be done if nothing else is. A full lane takes no
    /// more messages, so librdkafka's bounded queue fills and it stops fetching, while the group's member goes on.
    pub(super) fn gather(&mut self) -> Duration {
        let (room, before, passed) = (self.room(), self.batch.len(), self.positions.passed());
        if room.is_full(&self.batch) && self.ready.is_some() {
            return self.parts.source.rest_while_full().min(IDLE_WAIT);
        }
        let faults = self.parts.source.fill(&mut self.batch, room, &mut self.positions);
        if !faults.is_empty() {
            self.parts.shared.identity.doubt();
        }
        for PartitionFault { partition, fault } in faults {
            if fault.remedy != Remedy::Retry {
                self.report(Report::Blocked { partition, fault });
            }
        }
        let now = Instant::now();
        let has_passed = self.positions.passed() != passed;
        if has_passed {
            self.passed.get_or_insert(now);
        }
        if has_passed || self.batch.len() > before {
            self.read = now;
            return Duration::ZERO;
        }
        self.patience(now).min(self.parts.source.rest(self.ease(now)))
    }

    /// How long nothing is to be done if no message comes and nobody rings.
    fn patience(&self, now: Instant) -> Duration {
        let wait = self.order.look_after(now).map_or(IDLE_WAIT, |it| it.min(IDLE_WAIT));
        let left = match self.passed {
            _ if !self.batch.is_empty() => self.pace.left(now),
            Some(passed) => (passed + PASSED_WAIT).saturating_duration_since(now),
            None => return wait,
        };
        if !self.busy() && self.is_known() { wait.min(left) } else { wait }
    }

    /// True when there is neither a message to write nor a partition that got ahead without.
    pub(super) fn has_gathered_nothing(&self) -> bool {
        self.batch.is_empty() && self.passed.is_none()
    }

    /// How soon messages are needed.
    fn ease(&self, now: Instant) -> Ease {
        let left = self.pace.left(now);
        let idle = self.batch.is_empty() && self.ready.is_none() && !self.busy();
        match left {
            Duration::ZERO if idle => Ease::Idle,
            left if self.has_plenty_of_room() => Ease::For(left),
            _ => Ease::For(Duration::ZERO),
        }
    }

    /// True when what comes within a period is far from filling a batch.
    fn has_plenty_of_room(&self) -> bool {
        let room = self.room();
        let messages = self.batch.len().max(self.pace.messages) * PLENTY;
        let bytes = self.batch.bytes().max(self.pace.bytes) * PLENTY;
        self.ready.is_none() && messages < room.messages_max && bytes < room.bytes_max
    }

    /// True when a batch is full, or due while nothing is being written, and nothing speaks against it.
    pub(super) fn should_process(&self, now: Instant) -> bool {
        if self.ready.is_some() || self.has_gathered_nothing() {
            return false;
        }
        let full = self.room().is_full(&self.batch);
        let due = if self.batch.is_empty() {
            self.passed.is_some_and(|it| now >= it + PASSED_WAIT)
        } else {
            self.pace.left(now).is_zero()
        };
        (full || due && !self.busy()) && self.is_known()
    }

    /// True when what was read is of the topic that was claimed. The lane is woken when that is learned.
    pub(super) fn is_known(&self) -> bool {
        self.parts.shared.identity.vouches_for(self.read, &self.parts.bell)
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
        let left = pace.left(start);
        assert!((PERIOD..=PERIOD + PERIOD / NUDGE).contains(&left), "{left:?}");
        assert_eq!(pace.left(start + PERIOD / 4) + PERIOD / 4, left);
        assert_eq!(pace.left(start + left), Duration::ZERO);
        assert_eq!(pace.left(start + PERIOD * 50), Duration::ZERO, "silence");
    }

    #[test]
    fn lanes_that_began_apart_write_together_soon_and_stay_together() {
        let mut paces = [(); 5].map(|()| Pace::new(PERIOD));
        let start = Instant::now();
        let mut due = [0, 17, 50, 51, 99].map(|ms| start + Duration::from_millis(ms));
        for _ in 0..2 * NUDGE {
            for (pace, due) in paces.iter_mut().zip(&mut due) {
                // Woken a little late.
                let begin = *due + PERIOD / 50;
                pace.begin(begin);
                let next = begin + pace.left(begin);
                assert!(
                    next - *due >= PERIOD && next - *due <= PERIOD * 5 / 4,
                    "{:?}",
                    next - *due
                );
                *due = next;
            }
        }
        let phase = |at: Instant| (at - *COMMON_BEGIN).as_nanos() % PERIOD.as_nanos();
        assert_eq!(due.map(phase), [0; 5]);
    }

    #[test]
    fn without_a_period_everything_is_due_at_once() {
        let mut pace = Pace::new(Duration::ZERO);
        let now = Instant::now();
        pace.begin(now);
        assert_eq!(pace.left(now), Duration::ZERO);
    }
}
