//! Where a lane stands in each of its partitions: handed out, prepared, committed. Pure book-keeping.

use crate::sink::{Range, Receipt};
use crate::source::Claimed;

/// Offsets of one partition; `committed <= prepared <= handed_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    epoch: i64,
    /// Offset behind the last message put into a batch, or behind what is none: markers of transactions, messages of
    /// those that were aborted, what compaction took away.
    handed_out: i64,
    /// Offset behind the last batch that was closed.
    prepared: i64,
    /// Offset behind the last batch known to be in Postgres.
    committed: i64,
    /// True when it could not be read further: what comes behind that is not wanted until it is read again.
    broken: bool,
}

/// The partitions that a lane holds. Partition numbers are small, so they index a vector.
#[derive(Debug, Default)]
pub struct Positions {
    held: Vec<Option<Held>>,
    /// How often a partition got ahead without a message.
    passed: u64,
}

impl Positions {
    /// Takes up a claimed partition.
    ///
    /// # Panics
    /// When the partition number is negative.
    pub fn hold(&mut self, claimed: Claimed) {
        let index = usize::try_from(claimed.partition).expect("Kafka counts partitions from 0");
        if self.held.len() <= index {
            self.held.resize(index + 1, None);
        }
        let next = claimed.next_offset;
        self.held[index] = Some(Held {
            epoch: claimed.epoch,
            handed_out: next,
            prepared: next,
            committed: next,
            broken: false,
        });
    }

    /// Lets go of a partition.
    pub fn forget(&mut self, partition: i32) {
        if let Some(held) = self.get_mut(partition) {
            *held = None;
        }
    }

    /// True when the partition is held.
    pub fn holds(&self, partition: i32) -> bool {
        usize::try_from(partition)
            .is_ok_and(|index| self.held.get(index).is_some_and(Option::is_some))
    }

    /// Partitions held, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.held
            .iter()
            .enumerate()
            .filter(|(_, held)| held.is_some())
            .map(|(index, _)| index as i32)
    }

    /// The offset from which on messages of `partition` may be put into a batch.
    pub fn next(&self, partition: i32) -> Option<i64> {
        let held = self.held.get(usize::try_from(partition).ok()?)?;
        held.as_ref().map(|held| held.handed_out)
    }

    /// Whether the message at (partition, offset) is the next to be put into a batch. Messages of
    /// partitions not held, and those handed out before, are not wanted.
    #[inline]
    pub fn accept(&mut self, partition: i32, offset: i64) -> bool {
        let Some(Some(held)) = self.held.get_mut(partition as usize) else { return false };
        if offset < held.handed_out || held.broken {
            return false;
        }
        held.handed_out = offset + 1;
        true
    }

    /// There is no message to come in front of `end`.
    pub fn reach(&mut self, partition: i32, end: i64) {
        let Some(Some(held)) = self.get_mut(partition) else { return };
        if held.handed_out < end && !held.broken {
            held.handed_out = end;
            self.passed += 1;
        }
    }

    /// How often a partition got ahead without a message.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// `partition` could not be read further. Whatever comes now would leave a gap.
    pub fn fail(&mut self, partition: i32) {
        if let Some(Some(held)) = self.get_mut(partition) {
            held.broken = true;
        }
    }

    /// Closes the batch: one range for each partition that got ahead.
    pub fn close_batch(&mut self) -> Vec<Range> {
        let mut ranges = Vec::new();
        for (index, held) in self.held.iter_mut().enumerate() {
            let Some(held) = held.as_mut().filter(|held| held.handed_out > held.prepared) else {
                continue;
            };
            ranges.push(Range {
                partition: index as i32,
                from: held.prepared,
                to: held.handed_out,
                epoch: held.epoch,
                ..Range::default()
            });
            held.prepared = held.handed_out;
        }
        ranges
    }

    /// Records what a sink has committed. Ranges of partitions let go of meanwhile are passed over.
    ///
    /// # Panics
    /// When a range does not begin where the last one ended: going on could commit wrong offsets.
    pub fn commit(&mut self, receipt: &Receipt) {
        for range in receipt.ranges() {
            let Some(Some(held)) = self.get_mut(range.partition) else { continue };
            if held.epoch != range.epoch {
                continue;
            }
            assert_eq!(held.committed, range.from, "partition {}: ranges tile", range.partition);
            held.committed = range.to;
        }
    }

    /// Forgets all that is not committed and says where to read again: (partition, offset).
    pub fn rewind(&mut self) -> Vec<(i32, i64)> {
        let mut starts = Vec::new();
        for (index, held) in self.held.iter_mut().enumerate() {
            let Some(held) = held else { continue };
            held.handed_out = held.committed;
            held.prepared = held.committed;
            held.broken = false;
            starts.push((index as i32, held.committed));
        }
        starts
    }

    fn get_mut(&mut self, partition: i32) -> Option<&mut Option<Held>> {
        self.held.get_mut(usize::try_from(partition).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(starts: &[(i32, i64)]) -> Positions {
        let mut positions = Positions::default();
        for &(partition, next_offset) in starts {
            positions.hold(Claimed { partition, next_offset, epoch: 7 });
        }
        positions
    }

    fn tiles(ranges: &[Range]) -> Vec<(i32, i64, i64)> {
        ranges.iter().map(|range| (range.partition, range.from, range.to)).collect()
    }

    #[test]
    fn a_batch_covers_one_range_for_each_partition_that_has_messages() {
        let mut positions = positions(&[(0, 10), (2, 5), (5, 0)]);
        assert!(positions.accept(0, 10) && positions.accept(2, 6) && positions.accept(0, 11));
        assert_eq!(tiles(&positions.close_batch()), [(0, 10, 12), (2, 5, 7)]);
        assert!(positions.accept(2, 9));
        assert_eq!(tiles(&positions.close_batch()), [(2, 7, 10)]);
    }

    #[test]
    fn messages_handed_out_before_or_of_other_partitions_are_not_wanted() {
        let mut positions = positions(&[(0, 10)]);
        assert!(!positions.accept(0, 9), "before the stored position");
        assert!(positions.accept(0, 10));
        assert!(!positions.accept(0, 10), "again");
        assert!(!positions.accept(1, 0), "not held");
        assert!(!positions.accept(-1, 0), "no partition at all");
    }

    #[test]
    fn a_range_covers_what_is_no_message() {
        let mut positions = positions(&[(0, 10), (1, 5), (2, 7)]);
        assert!(positions.accept(0, 10));
        positions.reach(0, 12);
        positions.reach(1, 6);
        positions.reach(2, 7);
        positions.reach(3, 9);
        assert_eq!(
            positions.passed(),
            2,
            "where it stood already, or is not held, nothing is passed"
        );
        assert_eq!(tiles(&positions.close_batch()), [(0, 10, 12), (1, 5, 6)]);
        positions.reach(1, 3);
        assert!(!positions.accept(1, 5), "passed");
        assert_eq!(tiles(&positions.close_batch()), []);
        assert_eq!(positions.rewind(), [(0, 10), (1, 5), (2, 7)], "nothing is committed");
    }

    #[test]
    fn nothing_behind_what_could_not_be_read_is_wanted_until_it_is_read_again() {
        let mut positions = positions(&[(0, 10), (1, 0)]);
        assert!(positions.accept(0, 10));
        positions.fail(0);
        assert!(!positions.accept(0, 12));
        positions.reach(0, 13);
        assert!(positions.accept(1, 0));
        assert_eq!(tiles(&positions.close_batch()), [(0, 10, 11), (1, 0, 1)]);
        positions.rewind();
        assert!(positions.accept(0, 10) && positions.accept(0, 11));
    }

    #[test]
    fn a_rewind_goes_back_to_what_is_committed() {
        let mut positions = positions(&[(3, 100)]);
        assert!(positions.accept(3, 100));
        let first = positions.close_batch();
        assert!(positions.accept(3, 101));
        positions.commit(&Receipt::for_tests(first));
        assert!(positions.accept(3, 102));
        assert_eq!(positions.rewind(), [(3, 101)]);
        assert!(positions.accept(3, 101), "messages lost with the rewind are wanted again");
    }

    #[test]
    #[should_panic(expected = "ranges tile")]
    fn a_receipt_that_leaves_a_gap_ends_the_process() {
        let mut positions = positions(&[(0, 0)]);
        positions.accept(0, 0);
        let mut ranges = positions.close_batch();
        ranges[0].from = 5;
        positions.commit(&Receipt::for_tests(ranges));
    }

    #[test]
    fn a_receipt_of_an_older_claim_changes_nothing() {
        let mut positions = positions(&[(0, 0)]);
        positions.accept(0, 0);
        let old = positions.close_batch();
        positions.hold(Claimed { partition: 0, next_offset: 1, epoch: 8 });
        positions.commit(&Receipt::for_tests(old));
        assert_eq!(positions.rewind(), [(0, 1)]);
    }
}
