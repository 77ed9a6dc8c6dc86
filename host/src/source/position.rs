//! Where a lane stands in each of its partitions: handed out, prepared, committed. Pure book-keeping.
//!
//! A log that was cut and has grown again looks like one that was not: it has other messages at the same offsets. What
//! tells them apart is the leader epoch that every message has from the broker which took it (KIP-320). So reading
//! begins with the message that was read last: when it is still the same, so is everything before it.

use crate::sink::{LastRead, Range, Receipt};
use crate::source::Claimed;

/// Offsets of one partition; `committed <= prepared <= handed_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owned {
    epoch: i64,
    /// Offset behind the last message put into a batch, or behind what is none: markers of transactions, messages of
    /// those that were aborted, what compaction took away.
    handed_out: i64,
    /// Offset behind the last batch that was closed.
    prepared: i64,
    /// Offset behind the last batch known to be in Postgres.
    committed: i64,
    /// Of the message handed out last; its leader epoch is negative where brokers name none.
    last: LastRead,
    /// The same of what is committed.
    last_committed: LastRead,
    intake: Intake,
}

/// Whether messages of a partition are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intake {
    Open,
    /// Once the message that was read last is seen again.
    Checking,
    /// It could not be read further: what comes behind that is not wanted until it is read again.
    Broken,
}

/// Nothing is known of a last message.
const UNKNOWN: LastRead = LastRead { offset: -1, leader_epoch: -1 };

/// A log that may not be the one any more that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The message that was read last is not there, or is another one. What brokers know of its leader epoch tells
    /// whether the log was cut before it; reading goes on behind it.
    Other(LastRead),
    /// Reading cannot begin with it: retention has taken it. Reading begins with this offset, which is the next one.
    Gone(i64),
    /// This message stands between the one that was read last and the next position, where there was none.
    Appeared {
        /// Its offset.
        offset: i64,
        /// What was read last before it.
        last: LastRead,
    },
}

/// The partitions that a lane owns. Partition numbers are small, so they index a vector.
#[derive(Debug, Default)]
pub struct Positions {
    owned: Vec<Option<Owned>>,
    /// How often a partition got ahead without a message.
    passed: u64,
}

impl Positions {
    /// Takes up a claimed partition.
    ///
    /// # Panics
    /// When the partition number is negative.
    pub fn own(&mut self, claimed: Claimed) {
        let index = usize::try_from(claimed.partition).expect("Kafka counts partitions from 0");
        if self.owned.len() <= index {
            self.owned.resize(index + 1, None);
        }
        let next = claimed.next_offset;
        let last = claimed.last.unwrap_or(UNKNOWN);
        self.owned[index] = Some(Owned {
            epoch: claimed.epoch,
            handed_out: next,
            prepared: next,
            committed: next,
            last,
            last_committed: last,
            intake: Intake::Open,
        });
    }

    /// Releases a partition.
    pub fn forget(&mut self, partition: i32) {
        if let Some(owned) = self.get_mut(partition) {
            *owned = None;
        }
    }

    /// True when the partition is owned.
    pub fn owns(&self, partition: i32) -> bool {
        usize::try_from(partition)
            .is_ok_and(|index| self.owned.get(index).is_some_and(Option::is_some))
    }

    /// Partitions owned, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = i32> + '_ {
        self.owned
            .iter()
            .enumerate()
            .filter(|(_, owned)| owned.is_some())
            .map(|(index, _)| index as i32)
    }

    /// `partition` is read again, or for the first time, from the offset that is returned: that of the message read last,
    /// if it is known.
    pub fn begin(&mut self, partition: i32) -> Option<i64> {
        self.get_mut(partition)?.as_mut().map(Owned::begin)
    }

    /// Whether the message at (partition, offset) is the next to be put into a batch. Messages of
    /// partitions not owned, and those handed out before, are not wanted: [`Positions::turn_down`] is to be told of them.
    #[inline]
    pub fn accept(&mut self, partition: i32, offset: i64, leader_epoch: i32) -> bool {
        let Some(Some(owned)) = self.owned.get_mut(partition as usize) else { return false };
        if offset < owned.handed_out || owned.intake != Intake::Open {
            return false;
        }
        owned.handed_out = offset + 1;
        owned.last = LastRead { offset, leader_epoch };
        true
    }

    /// A message came that was not accepted. A doubt is raised once; messages that were fetched before it is dealt with
    /// are not to be handed in.
    pub fn turn_down(&mut self, partition: i32, offset: i64, leader_epoch: i32) -> Option<Doubt> {
        let owned = self.get_mut(partition)?.as_mut()?;
        let last = owned.last;
        match owned.intake {
            Intake::Broken => None,
            Intake::Checking => {
                owned.intake = Intake::Open;
                let same = offset == last.offset
                    && (leader_epoch == last.leader_epoch || leader_epoch < 0);
                (!same).then_some(Doubt::Other(last))
            }
            Intake::Open if last == UNKNOWN || offset <= last.offset => None,
            Intake::Open => {
                owned.intake = Intake::Broken;
                Some(Doubt::Appeared { offset, last })
            }
        }
    }

    /// There is no message to come in front of `end`.
    pub fn reach(&mut self, partition: i32, end: i64) -> Option<Doubt> {
        let owned = self.get_mut(partition)?.as_mut()?;
        if owned.intake == Intake::Checking {
            owned.intake = Intake::Open;
            return Some(Doubt::Other(owned.last));
        }
        if owned.handed_out < end && owned.intake == Intake::Open {
            owned.handed_out = end;
            self.passed += 1;
        }
        None
    }

    /// The topic has no such offset as the one from which `partition` was to be read. `None` when that was the next one.
    pub fn out_of_range(&mut self, partition: i32) -> Option<Doubt> {
        let owned = self.get_mut(partition)?.as_mut()?;
        let checking = owned.intake == Intake::Checking;
        checking.then(|| {
            owned.intake = Intake::Open;
            Doubt::Gone(owned.handed_out)
        })
    }

    /// How often a partition got ahead without a message.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// `partition` could not be read further. Whatever comes now would leave a gap.
    pub fn fail(&mut self, partition: i32) {
        if let Some(Some(owned)) = self.get_mut(partition) {
            owned.intake = Intake::Broken;
        }
    }

    /// Closes the batch: one range for each partition that got ahead.
    pub fn close_batch(&mut self) -> Vec<Range> {
        let mut ranges = Vec::new();
        for (index, owned) in self.owned.iter_mut().enumerate() {
            let Some(owned) = owned.as_mut().filter(|owned| owned.handed_out > owned.prepared)
            else {
                continue;
            };
            ranges.push(Range {
                partition: index as i32,
                from: owned.prepared,
                to: owned.handed_out,
                epoch: owned.epoch,
                last: (owned.last.leader_epoch >= 0).then_some(owned.last),
                ..Range::default()
            });
            owned.prepared = owned.handed_out;
        }
        ranges
    }

    /// Records what a sink has committed. Ranges of partitions released in the meantime are skipped.
    ///
    /// # Panics
    /// When a range does not begin where the last one ended: going on could commit wrong offsets.
    pub fn commit(&mut self, receipt: &Receipt) {
        for range in receipt.ranges() {
            let Some(Some(owned)) = self.get_mut(range.partition) else { continue };
            if owned.epoch != range.epoch {
                continue;
            }
            assert_eq!(owned.committed, range.from, "partition {}: ranges tile", range.partition);
            owned.committed = range.to;
            owned.last_committed = range.last.unwrap_or(UNKNOWN);
        }
    }

    /// Forgets all that is not committed and says from where to read again, as [`Positions::begin`] does: (partition,
    /// offset).
    pub fn rewind(&mut self) -> Vec<(i32, i64)> {
        let mut starts = Vec::new();
        for (index, owned) in self.owned.iter_mut().enumerate() {
            let Some(owned) = owned else { continue };
            owned.handed_out = owned.committed;
            owned.prepared = owned.committed;
            owned.last = owned.last_committed;
            starts.push((index as i32, owned.begin()));
        }
        starts
    }

    fn get_mut(&mut self, partition: i32) -> Option<&mut Option<Owned>> {
        self.owned.get_mut(usize::try_from(partition).ok()?)
    }
}

impl Owned {
    fn begin(&mut self) -> i64 {
        let known = self.last != UNKNOWN;
        self.intake = if known { Intake::Checking } else { Intake::Open };
        if known { self.last.offset } else { self.handed_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Brokers name none.
    const EPOCH: i32 = -1;

    fn positions(starts: &[(i32, i64)]) -> Positions {
        let mut positions = Positions::default();
        for &(partition, next_offset) in starts {
            positions.own(Claimed { partition, next_offset, epoch: 7, last: None });
        }
        positions
    }

    fn tiles(ranges: &[Range]) -> Vec<(i32, i64, i64)> {
        ranges.iter().map(|range| (range.partition, range.from, range.to)).collect()
    }

    #[test]
    fn a_batch_covers_one_range_for_each_partition_that_has_messages() {
        let mut positions = positions(&[(0, 10), (2, 5), (5, 0)]);
        assert!(
            positions.accept(0, 10, EPOCH)
                && positions.accept(2, 6, EPOCH)
                && positions.accept(0, 11, EPOCH)
        );
        assert_eq!(tiles(&positions.close_batch()), [(0, 10, 12), (2, 5, 7)]);
        assert!(positions.accept(2, 9, EPOCH));
        assert_eq!(tiles(&positions.close_batch()), [(2, 7, 10)]);
    }

    #[test]
    fn messages_handed_out_before_or_of_other_partitions_are_not_wanted() {
        let mut positions = positions(&[(0, 10)]);
        assert!(!positions.accept(0, 9, EPOCH), "before the stored position");
        assert!(positions.accept(0, 10, EPOCH));
        assert!(!positions.accept(0, 10, EPOCH), "again");
        assert!(!positions.accept(1, 0, EPOCH), "not owned");
        assert!(!positions.accept(-1, 0, EPOCH), "no partition at all");
    }

    #[test]
    fn a_range_covers_what_is_no_message() {
        let mut positions = positions(&[(0, 10), (1, 5), (2, 7)]);
        assert!(positions.accept(0, 10, EPOCH));
        positions.reach(0, 12);
        positions.reach(1, 6);
        positions.reach(2, 7);
        positions.reach(3, 9);
        assert_eq!(
            positions.passed(),
            2,
            "where it stood already, or is not owned, nothing is passed"
        );
        assert_eq!(tiles(&positions.close_batch()), [(0, 10, 12), (1, 5, 6)]);
        positions.reach(1, 3);
        assert!(!positions.accept(1, 5, EPOCH), "passed");
        assert_eq!(tiles(&positions.close_batch()), []);
        assert_eq!(positions.rewind(), [(0, 10), (1, 5), (2, 7)], "nothing is committed");
    }

    #[test]
    fn nothing_behind_what_could_not_be_read_is_wanted_until_it_is_read_again() {
        let mut positions = positions(&[(0, 10), (1, 0)]);
        assert!(positions.accept(0, 10, EPOCH));
        positions.fail(0);
        assert!(!positions.accept(0, 12, EPOCH));
        positions.reach(0, 13);
        assert!(positions.accept(1, 0, EPOCH));
        assert_eq!(tiles(&positions.close_batch()), [(0, 10, 11), (1, 0, 1)]);
        positions.rewind();
        assert!(positions.accept(0, 10, EPOCH) && positions.accept(0, 11, EPOCH));
    }

    #[test]
    fn a_rewind_goes_back_to_what_is_committed() {
        let mut positions = positions(&[(3, 100)]);
        assert!(positions.accept(3, 100, EPOCH));
        let first = positions.close_batch();
        assert!(positions.accept(3, 101, EPOCH));
        positions.commit(&Receipt::for_tests(first));
        assert!(positions.accept(3, 102, EPOCH));
        assert_eq!(positions.rewind(), [(3, 101)]);
        assert!(positions.accept(3, 101, EPOCH), "messages lost with the rewind are wanted again");
    }

    const LAST: LastRead = LastRead { offset: 97, leader_epoch: 5 };

    /// A partition whose position is 100, with markers behind the message that was read last.
    fn known() -> Positions {
        let mut positions = Positions::default();
        positions.own(Claimed { partition: 0, next_offset: 100, epoch: 7, last: Some(LAST) });
        assert_eq!(positions.begin(0), Some(97));
        assert!(!positions.accept(0, 97, 5) && !positions.accept(0, 100, 5), "not checked yet");
        positions
    }

    #[test]
    fn reading_goes_on_when_the_message_read_last_is_still_the_same() {
        let mut positions = known();
        assert_eq!(positions.turn_down(0, 97, 5), None);
        assert!(positions.accept(0, 100, 6));
        let ranges = positions.close_batch();
        assert_eq!(ranges[0].last, Some(LastRead { offset: 100, leader_epoch: 6 }));
        positions.commit(&Receipt::for_tests(ranges));
        assert!(positions.accept(0, 101, 6));
        assert_eq!(positions.rewind(), [(0, 100)], "what is committed is checked again");
        assert_eq!(positions.turn_down(0, 100, 6), None);
        assert!(positions.accept(0, 101, 6));
    }

    #[test]
    fn brokers_are_asked_when_the_message_read_last_is_not_the_same() {
        let other = Some(Doubt::Other(LAST));
        assert_eq!(known().turn_down(0, 97, 6), other, "another leader took it");
        assert_eq!(known().turn_down(0, 97, -1), None, "brokers no longer say who did");
        assert_eq!(known().turn_down(0, 100, 5), other, "compaction has taken it");
        let mut positions = known();
        assert_eq!(positions.reach(0, 97), other, "the log ends before it");
        assert!(positions.accept(0, 100, 6), "they have answered that it was not cut");
    }

    #[test]
    fn reading_begins_at_the_position_when_retention_has_taken_the_message_before() {
        let mut positions = known();
        assert_eq!(positions.out_of_range(0), Some(Doubt::Gone(100)));
        assert_eq!(positions.out_of_range(0), None, "the position is out of range as well");
        assert!(positions.accept(0, 100, 5));
    }

    #[test]
    fn a_message_where_there_was_none_is_not_skipped() {
        let mut positions = known();
        assert_eq!(positions.turn_down(0, 97, 5), None);
        assert_eq!(positions.turn_down(0, 96, 5), None, "read before");
        let appeared = Doubt::Appeared { offset: 98, last: LAST };
        assert_eq!(positions.turn_down(0, 98, 6), Some(appeared));
        assert!(!positions.accept(0, 100, 6));
        assert_eq!(positions.turn_down(0, 99, 6), None, "told once");
    }

    #[test]
    #[should_panic(expected = "ranges tile")]
    fn a_receipt_that_leaves_a_gap_ends_the_process() {
        let mut positions = positions(&[(0, 0)]);
        positions.accept(0, 0, EPOCH);
        let mut ranges = positions.close_batch();
        ranges[0].from = 5;
        positions.commit(&Receipt::for_tests(ranges));
    }

    #[test]
    fn a_receipt_of_an_older_claim_changes_nothing() {
        let mut positions = positions(&[(0, 0)]);
        positions.accept(0, 0, EPOCH);
        let old = positions.close_batch();
        positions.own(Claimed { partition: 0, next_offset: 1, epoch: 8, last: None });
        positions.commit(&Receipt::for_tests(old));
        assert_eq!(positions.rewind(), [(0, 1)]);
    }
}
