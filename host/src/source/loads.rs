//! How much the lanes of a pipeline have to do, and over how many of them its partitions are spread: each lane commits
//! at its own pace, so one that has all partitions costs half of what two cost that share them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a lane has done since somebody looked.
#[derive(Debug, Default)]
pub struct Load {
    /// From the begin of a batch to the answer to its COMMIT, of all batches.
    busy_us: AtomicU64,
    batches: AtomicU64,
    /// True when one of them was full.
    full: AtomicBool,
}

impl Load {
    /// A batch was written; it took so long, and there was no room for more in it when it was `full`.
    pub fn note(&self, took: Duration, full: bool) {
        self.busy_us.fetch_add(took.as_micros().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        if full {
            self.full.store(true, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Look {
        Look {
            busy: Duration::from_micros(self.busy_us.swap(0, Ordering::Relaxed)),
            batches: self.batches.swap(0, Ordering::Relaxed),
            full: self.full.swap(false, Ordering::Relaxed),
        }
    }
}

/// What was seen of a lane.
#[derive(Debug, Clone, Copy)]
struct Look {
    busy: Duration,
    batches: u64,
    full: bool,
}

/// Of its time a lane that gets the partitions of others is busy for at most this share.
const PACKED_SHARE: f64 = 0.25;
/// A lane that is busy for more than this share shares its partitions with all others again.
const SPREAD_SHARE: f64 = 0.6;
/// So many looks in a row must find that fewer lanes are enough.
const LOOKS_MIN: u32 = 5;
/// So many looks after partitions were spread they are not packed again: whoever has bursts keeps its lanes.
const LOOKS_SPREAD: u32 = 60;

/// Decides how many lanes have partitions.
#[derive(Debug)]
pub struct Packing {
    lanes: usize,
    /// Over how many of them partitions are spread.
    over: usize,
    /// Looks in a row by which fewer lanes are enough, and the most of them that any of these asked for.
    quiet: (u32, usize),
    /// Looks until it may be decided for fewer.
    put_off: u32,
}

impl Packing {
    /// Of a pipeline with so many lanes, all in use.
    pub fn new(lanes: usize) -> Self {
        Self { lanes, over: lanes, quiet: (0, 0), put_off: 0 }
    }

    /// Looks at what lanes did in the last `time`, of which so many have partitions (`None` while that changes anyway);
    /// returns over how many the partitions are to be spread from now on, if that changes. It goes up at once, and down
    /// when all of them have written in each look of a while: one that has not either has no messages and costs nothing,
    /// or cannot go on.
    pub fn look(
        &mut self,
        loads: &[Load],
        with_partitions: Option<usize>,
        time: Duration,
    ) -> Option<usize> {
        let looks: Vec<Look> = loads.iter().map(Load::take).collect();
        let share = |it: &Look| it.busy.as_secs_f64() / time.as_secs_f64();
        self.put_off = self.put_off.saturating_sub(1);
        if self.over < self.lanes && looks.iter().any(|it| it.full || share(it) > SPREAD_SHARE) {
            (self.over, self.quiet, self.put_off) = (self.lanes, (0, 0), LOOKS_SPREAD);
            return Some(self.lanes);
        }
        let enough = (looks.iter().map(share).sum::<f64>() / PACKED_SHARE).ceil().max(1.0) as usize;
        let at_ease = looks.iter().filter(|it| it.batches > 0 && !it.full).count();
        let fewer = with_partitions.is_some_and(|it| at_ease >= it && enough < it);
        if !fewer || self.put_off > 0 {
            self.quiet = (0, 0);
            return None;
        }
        self.quiet = (self.quiet.0 + 1, self.quiet.1.max(enough));
        let (count, enough) = self.quiet;
        (count >= LOOKS_MIN).then(|| {
            (self.over, self.quiet) = (enough, (0, 0));
            enough
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NO_PARTITIONS: (u64, u64) = (0, 0);
    const STANDS: (u64, u64) = (0, 1);

    /// What is decided when lanes did `batches` of so many milliseconds.
    fn look(packing: &mut Packing, batches: &[(u64, u64)]) -> Option<usize> {
        let loads: Vec<Load> = batches.iter().map(|_| Load::default()).collect();
        for (load, &(count, ms)) in loads.iter().zip(batches) {
            (0..count).for_each(|_| load.note(Duration::from_millis(ms), false));
        }
        let with_partitions = batches.iter().filter(|&&it| it != NO_PARTITIONS).count();
        packing.look(&loads, Some(with_partitions), SECOND)
    }

    fn full() -> [Load; 2] {
        let loads = [Load::default(), Load::default()];
        loads[0].note(Duration::from_millis(1), true);
        loads
    }

    #[test]
    fn one_lane_is_enough_after_a_while_of_little_to_do_and_all_are_used_again_with_a_full_batch() {
        let mut packing = Packing::new(2);
        for _ in 1..LOOKS_MIN {
            assert_eq!(look(&mut packing, &[(10, 10), (10, 10)]), None);
        }
        assert_eq!(look(&mut packing, &[(10, 10), (10, 10)]), Some(1));
        assert_eq!(look(&mut packing, &[(10, 20), NO_PARTITIONS]), None);
        assert_eq!(packing.look(&full(), Some(1), SECOND), Some(2));
        for _ in 1..LOOKS_SPREAD {
            assert_eq!(look(&mut packing, &[(10, 10), (10, 10)]), None, "not to and fro");
        }
        let decisions = (0..=LOOKS_MIN).filter_map(|_| look(&mut packing, &[(10, 10), (10, 10)]));
        assert_eq!(decisions.collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_lane_that_gets_busy_shares_its_partitions_again() {
        let mut packing = Packing::new(2);
        let decisions = (0..LOOKS_MIN).filter_map(|_| look(&mut packing, &[(10, 1), (10, 1)]));
        assert_eq!(decisions.collect::<Vec<_>>(), [1]);
        assert_eq!(look(&mut packing, &[(10, 50), NO_PARTITIONS]), None);
        assert_eq!(look(&mut packing, &[(10, 70), NO_PARTITIONS]), Some(2));
    }

    #[test]
    fn as_many_lanes_stay_as_the_busiest_while_asked_for() {
        let mut packing = Packing::new(8);
        assert_eq!(look(&mut packing, &[(10, 7); 8]), None);
        let decisions = (1..LOOKS_MIN).filter_map(|_| look(&mut packing, &[(10, 2); 8]));
        assert_eq!(decisions.collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn lanes_without_partitions_do_not_count() {
        let mut packing = Packing::new(4);
        let some = [(10, 1), (10, 1), NO_PARTITIONS, NO_PARTITIONS];
        let decisions = (0..LOOKS_MIN).filter_map(|_| look(&mut packing, &some));
        assert_eq!(decisions.collect::<Vec<_>>(), [1]);
        let one = [(10, 1), NO_PARTITIONS, NO_PARTITIONS, NO_PARTITIONS];
        assert!((0..3 * LOOKS_MIN).all(|_| look(&mut packing, &one).is_none()));
    }

    #[test]
    fn lanes_stay_as_they_are_while_one_has_full_batches_or_writes_nothing_or_much() {
        let mut packing = Packing::new(2);
        for _ in 0..3 * LOOKS_MIN {
            assert_eq!(look(&mut packing, &[(10, 10), STANDS]), None);
        }
        for _ in 0..3 * LOOKS_MIN {
            assert_eq!(look(&mut packing, &[(10, 10), (10, 40)]), None);
        }
        for _ in 0..3 * LOOKS_MIN {
            let loads = [(); 2].map(|()| Load::default());
            for load in &loads {
                load.note(Duration::from_millis(1), false);
            }
            assert_eq!(packing.look(&loads, None, SECOND), None);
        }
        for _ in 0..3 * LOOKS_MIN {
            assert_eq!(packing.look(&full(), Some(2), SECOND), None);
        }
    }
}
