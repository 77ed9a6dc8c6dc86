//! Partitions at whose positions hosts have died: from the second death on they are read one at a time in the
//! whole process, so that the third one names the guilty partition and leaves the innocent free.
//!
//! What is counted: owners that vanished without a goodbye while the position did not move. A process that is
//! killed takes all its partitions with it, but most of them have moved by then, and what has moved is innocent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Deaths after which a partition is read alone.
const SUSPECT: i32 = 2;
/// Deaths after which it is held.
const GUILTY: i32 = 3;
/// A suspect waits so long after the start: a process that dies for another reason, and soon, accuses nobody.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// A suspect that neither moved nor killed for so long has nothing in it that kills.
const ACQUITTED_AFTER: Duration = Duration::from_secs(60);

/// There is one process to kill, however many pipelines run in it.
static ON_TRIAL: AtomicBool = AtomicBool::new(false);

/// The right to read a suspect; given back when dropped.
#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Option<Self> {
        (!ON_TRIAL.swap(true, Ordering::AcqRel)).then_some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        ON_TRIAL.store(false, Ordering::Release);
    }
}

/// A suspect that is being read alone.
#[derive(Debug)]
struct Trial {
    partition: i32,
    since: Instant,
    _turn: Turn,
}

/// Which partitions may be claimed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// These, all at once.
    pub free: Vec<i32>,
    /// This one, whose trial then begins.
    pub suspect: Option<i32>,
    /// These later.
    pub waiting: Vec<i32>,
    /// These not, with how often an owner has died of them.
    pub guilty: Vec<(i32, i32)>,
}

/// The trials of one pipeline.
#[derive(Debug)]
pub struct Trials {
    began: Instant,
    current: Option<Trial>,
}

impl Trials {
    /// No trial yet.
    pub fn new(now: Instant) -> Self {
        Self { began: now, current: None }
    }

    /// Sorts `partitions` by how often owners have died where they stand.
    pub fn admit(
        &mut self,
        partitions: &[i32],
        deaths: &BTreeMap<i32, i32>,
        now: Instant,
    ) -> Admission {
        let mut admission = Admission::default();
        for &partition in partitions {
            match deaths.get(&partition).copied().unwrap_or(0) {
                deaths if deaths < SUSPECT => admission.free.push(partition),
                deaths if deaths >= GUILTY => admission.guilty.push((partition, deaths)),
                _ if self.begin(partition, now) => admission.suspect = Some(partition),
                _ => admission.waiting.push(partition),
            }
        }
        admission
    }

    fn begin(&mut self, partition: i32, now: Instant) -> bool {
        if self.current.as_ref().is_some_and(|trial| trial.partition == partition) {
            return true;
        }
        if self.current.is_some() || now - self.began < SETTLED_AFTER {
            return false;
        }
        let turn = Turn::take();
        self.current = turn.map(|turn| Trial { partition, since: now, _turn: turn });
        self.current.is_some()
    }

    /// Ends the trial of a partition for which `over` holds: it has moved, is held, or is not ours any more.
    pub fn end_if(&mut self, over: impl Fn(i32) -> bool) {
        self.current.take_if(|trial| over(trial.partition));
    }

    /// Ends the trial of a suspect that has lived long enough, and says which.
    pub fn acquit(&mut self, now: Instant) -> Option<i32> {
        let acquitted = self.current.take_if(|trial| now - trial.since >= ACQUITTED_AFTER);
        acquitted.map(|trial| trial.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because there is one turn in the process.
    #[test]
    fn suspects_are_read_one_at_a_time_and_the_guilty_not_at_all() {
        let now = Instant::now();
        let (mut here, mut other_pipeline) = (Trials::new(now), Trials::new(now));
        let deaths = BTreeMap::from([(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (5, 9)]);
        let all = [0, 1, 2, 3, 4, 5, 6];
        let admission = |free: &[i32], suspect, waiting: &[i32], guilty: &[(i32, i32)]| Admission {
            free: free.to_vec(),
            suspect,
            waiting: waiting.to_vec(),
            guilty: guilty.to_vec(),
        };
        let guilty = [(4, 3), (5, 9)];
        let early = admission(&[0, 1, 6], None, &[2, 3], &guilty);
        assert_eq!(here.admit(&all, &deaths, now), early, "the process may die of something else");

        let now = now + SETTLED_AFTER;
        assert_eq!(here.admit(&all, &deaths, now), admission(&[0, 1, 6], Some(2), &[3], &guilty));
        assert_eq!(here.admit(&[2, 3], &deaths, now), admission(&[], Some(2), &[3], &[]));
        assert_eq!(other_pipeline.admit(&[2], &deaths, now), admission(&[], None, &[2], &[]));
        here.end_if(|partition| partition == 3);
        assert_eq!(here.admit(&[3], &deaths, now), admission(&[], None, &[3], &[]));
        here.end_if(|partition| partition == 2);
        assert_eq!(other_pipeline.admit(&[2], &deaths, now), admission(&[], Some(2), &[], &[]));
        assert_eq!(here.admit(&[3], &deaths, now), admission(&[], None, &[3], &[]));

        assert_eq!(other_pipeline.acquit(now), None);
        assert_eq!(other_pipeline.acquit(now + ACQUITTED_AFTER), Some(2));
        assert_eq!(here.admit(&[3], &deaths, now), admission(&[], Some(3), &[], &[]));
    }
}
