//! Quarantine of partitions at whose positions hosts have crashed: from the second crash on they are read one at a time
//! in the process, so that the third crash tells which partition causes it, and the others stay free.
//!
//! Counted are owners that ended without a clean release while the position did not move. A process that is killed takes
//! all its partitions with it, but most of them have moved by then, and a partition that has moved is not the cause.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Crashes after which a partition is read alone.
const QUARANTINED: i32 = 2;
/// Crashes after which it is blocked.
const CRASH_LOOP: i32 = 3;
/// A partition in quarantine waits so long after the start: a process that crashes soon for another reason blocks none.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// A partition that was read for so long without a crash is not the cause, although it has not moved.
const RELEASED_AFTER: Duration = Duration::from_secs(60);

/// There is one process to kill, however many pipelines run in it.
static OCCUPIED: AtomicBool = AtomicBool::new(false);

/// The permit to read a partition in quarantine; given back when dropped.
#[derive(Debug)]
struct Permit;

impl Permit {
    fn take() -> Option<Self> {
        (!OCCUPIED.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        OCCUPIED.store(false, Ordering::Release);
    }
}

/// The partition in quarantine that is being read now.
#[derive(Debug)]
struct Reading {
    partition: i32,
    since: Instant,
    _permit: Permit,
}

/// Which partitions may be claimed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// These, all at once.
    pub free: Vec<i32>,
    /// This one, which is read alone from now on.
    pub quarantined: Option<i32>,
    /// These later.
    pub waiting: Vec<i32>,
    /// These not: in a crash loop, with the number of crashes.
    pub crash_loops: Vec<(i32, i32)>,
}

/// The quarantine of one pipeline.
#[derive(Debug)]
pub struct Quarantine {
    began: Instant,
    current: Option<Reading>,
}

impl Quarantine {
    /// An empty one.
    pub fn new(now: Instant) -> Self {
        Self { began: now, current: None }
    }

    /// Sorts `partitions` by how often owners have crashed at their positions.
    pub fn admit(
        &mut self,
        partitions: &[i32],
        crashes: &BTreeMap<i32, i32>,
        now: Instant,
    ) -> Admission {
        let mut admission = Admission::default();
        for &partition in partitions {
            match crashes.get(&partition).copied().unwrap_or(0) {
                crashes if crashes < QUARANTINED => admission.free.push(partition),
                crashes if crashes >= CRASH_LOOP => {
                    admission.crash_loops.push((partition, crashes));
                }
                _ if self.begin(partition, now) => admission.quarantined = Some(partition),
                _ => admission.waiting.push(partition),
            }
        }
        admission
    }

    fn begin(&mut self, partition: i32, now: Instant) -> bool {
        if self.current.as_ref().is_some_and(|reading| reading.partition == partition) {
            return true;
        }
        if self.current.is_some() || now - self.began < SETTLED_AFTER {
            return false;
        }
        let permit = Permit::take();
        self.current = permit.map(|permit| Reading { partition, since: now, _permit: permit });
        self.current.is_some()
    }

    /// Frees the place of a partition for which `over` is true: it has moved, is blocked, or is not ours any more.
    pub fn end_if(&mut self, over: impl Fn(i32) -> bool) {
        self.current.take_if(|reading| over(reading.partition));
    }

    /// Releases the partition that was read long enough without a crash, and returns it.
    pub fn release(&mut self, now: Instant) -> Option<i32> {
        let released = self.current.take_if(|reading| now - reading.since >= RELEASED_AFTER);
        released.map(|reading| reading.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because there is one turn in the process.
    #[test]
    fn quarantined_partitions_are_read_one_at_a_time_and_those_in_a_crash_loop_not_at_all() {
        let now = Instant::now();
        let (mut here, mut other_pipeline) = (Quarantine::new(now), Quarantine::new(now));
        let crashes = BTreeMap::from([(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (5, 9)]);
        let all = [0, 1, 2, 3, 4, 5, 6];
        let admission =
            |free: &[i32], quarantined, waiting: &[i32], crash_loops: &[(i32, i32)]| Admission {
                free: free.to_vec(),
                quarantined,
                waiting: waiting.to_vec(),
                crash_loops: crash_loops.to_vec(),
            };
        let crash_loops = [(4, 3), (5, 9)];
        let early = admission(&[0, 1, 6], None, &[2, 3], &crash_loops);
        assert_eq!(here.admit(&all, &crashes, now), early, "the process may die of something else");

        let now = now + SETTLED_AFTER;
        assert_eq!(
            here.admit(&all, &crashes, now),
            admission(&[0, 1, 6], Some(2), &[3], &crash_loops)
        );
        assert_eq!(here.admit(&[2, 3], &crashes, now), admission(&[], Some(2), &[3], &[]));
        assert_eq!(other_pipeline.admit(&[2], &crashes, now), admission(&[], None, &[2], &[]));
        here.end_if(|partition| partition == 3);
        assert_eq!(here.admit(&[3], &crashes, now), admission(&[], None, &[3], &[]));
        here.end_if(|partition| partition == 2);
        assert_eq!(other_pipeline.admit(&[2], &crashes, now), admission(&[], Some(2), &[], &[]));
        assert_eq!(here.admit(&[3], &crashes, now), admission(&[], None, &[3], &[]));

        assert_eq!(other_pipeline.release(now), None);
        assert_eq!(other_pipeline.release(now + RELEASED_AFTER), Some(2));
        assert_eq!(here.admit(&[3], &crashes, now), admission(&[], Some(3), &[], &[]));
    }
}
