//! Claims and releases: what happens between the group giving a partition to this host and a lane
//! reading it, and back. Knows neither SQL nor librdkafka's callbacks.

use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::bell::{Mailbox, Post};
use crate::fault::Fault;
use crate::sink::KeyHash;
use crate::source::Claimed;
use crate::source::identity::Identity;
use crate::source::loads::Load;

/// How long a revocation waits for lanes to write what they have. The group would wait longer, but a
/// successor should not; what is not written in time is fenced by the successor's claim and read again.
const RELEASE_WAIT: Duration = Duration::from_secs(5);
/// The same for a partition that cannot be read: the claimer has other things to do.
const BLOCK_WAIT: Duration = Duration::from_secs(1);

/// What a lane is told.
#[derive(Debug)]
pub enum Command {
    /// Read this partition.
    Start {
        /// Where, and under which claim.
        claimed: Claimed,
        /// The incarnation of the topic that was claimed.
        topic_id: Uuid,
        /// Keys of its messages that are parked: later ones of these keys wait behind them.
        waiting: Vec<KeyHash>,
    },
    /// Write what you have until `deadline`, then release these partitions and say so.
    Release {
        /// The partitions.
        partitions: Vec<i32>,
        /// After this, what is not written is thrown away.
        deadline: Instant,
        /// Told when it is done.
        done: SyncSender<()>,
    },
    /// Write what you have, then end.
    Finish,
}

/// Tells a lane something and wakes it.
#[derive(Debug, Clone)]
pub struct LaneHandle(Post<Command>);

impl LaneHandle {
    /// A handle, and where the lane is told.
    pub fn pair() -> (Self, Mailbox<Command>) {
        let (post, mailbox) = Post::new();
        (Self(post), mailbox)
    }

    /// False when the lane has ended.
    pub fn tell(&self, command: Command) -> bool {
        self.0.send(command).is_ok()
    }
}

/// What the claimer is told.
#[derive(Debug)]
pub enum Report {
    /// The group gave these partitions to this host.
    Assigned(Vec<i32>),
    /// The keys that wait in a partition which was claimed are known, or cannot be read.
    KeysRead {
        /// The partition, under the claim that was made.
        claimed: Claimed,
        /// The incarnation of the topic that was claimed.
        topic_id: Uuid,
        /// Of the assignment for which it was claimed.
        generation: u64,
        /// The keys.
        waiting: Result<Vec<KeyHash>, Fault>,
    },
    /// A lane found these partitions claimed by somebody else.
    Fenced(Vec<i32>),
    /// A lane cannot read a partition.
    Blocked {
        /// The partition; `None` for all of the topic.
        partition: Option<i32>,
        /// Why.
        fault: Fault,
    },
    /// The topic is not the one any more under whose id partitions are claimed.
    OtherTopic(Fault),
    /// Lanes have ended: commit to the group what is known, and end.
    Finish,
}

/// What lanes tell the claimer, and what both know.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Arrives at the claimer, and wakes it.
    pub reports: Post<Report>,
    /// What lanes have committed.
    pub committed: Arc<Committed>,
    /// Whether what they have read is of the topic that was claimed.
    pub identity: Arc<Identity>,
    /// How much each of them has to do.
    pub loads: Arc<[Load]>,
}

impl Shared {
    /// With none of `lanes` at work yet, and where reports arrive.
    pub fn new(lanes: usize) -> (Self, Mailbox<Report>) {
        let (reports, reported) = Post::new();
        let loads = (0..lanes).map(|_| Load::default()).collect();
        (Self { reports, committed: Arc::default(), identity: Arc::default(), loads }, reported)
    }
}

/// Next offsets of what lanes have committed since somebody took note. Nobody is woken: a lane commits many times a
/// second, and the group is told once.
#[derive(Debug, Default)]
pub struct Committed(Mutex<BTreeMap<i32, i64>>);

impl Committed {
    /// A lane has committed up to these next offsets.
    pub fn note(&self, next_offsets: impl Iterator<Item = (i32, i64)>) {
        self.lock().extend(next_offsets);
    }

    /// True when nothing was committed since.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// True when something of `partition` was committed since.
    pub fn has(&self, partition: i32) -> bool {
        self.lock().contains_key(&partition)
    }

    /// What was committed since, by partition.
    pub fn take(&self) -> BTreeMap<i32, i64> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
struct Assignment {
    /// Tells one assignment of a partition from the next, so that a late claim is not acted on.
    generation: u64,
    lane: Option<usize>,
}

/// Who has which partition on this host.
#[derive(Debug)]
pub struct Ownership {
    lanes: Vec<LaneHandle>,
    reports: Post<Report>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    assigned: BTreeMap<i32, Assignment>,
    generations: u64,
    /// So many lanes, the first ones, get partitions.
    lanes_in_use: usize,
}

impl State {
    /// How many partitions each of the first `lanes` has.
    fn loads(&self, lanes: usize) -> Vec<usize> {
        let mut loads = vec![0; lanes];
        for lane in self.assigned.values().filter_map(|assignment| assignment.lane) {
            if let Some(load) = loads.get_mut(lane) {
                *load += 1;
            }
        }
        loads
    }
}

impl Ownership {
    /// Nothing is assigned yet.
    pub fn new(lanes: Vec<LaneHandle>, reports: Post<Report>) -> Self {
        let lanes_in_use = lanes.len();
        let state = State { assigned: BTreeMap::new(), generations: 0, lanes_in_use };
        Self { lanes, reports, state: Mutex::new(state) }
    }

    /// The group gave `partitions` to this host: they are claimed in the background.
    pub fn assigned(&self, partitions: Vec<i32>) {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            for &partition in &partitions {
                state.generations += 1;
                let generation = state.generations;
                state.assigned.insert(partition, Assignment { generation, lane: None });
            }
        }
        // Fails only when the pipeline is ending, and then nothing is to be claimed.
        let _ = self.reports.send(Report::Assigned(partitions));
    }

    /// The group took `partitions` away: waits until the lanes have released them, but not for long. When they were
    /// `lost`, somebody else may have them already, and the group is not kept waiting; the lanes still
    /// have time to learn what became of the write that is under way.
    pub fn revoked(&self, partitions: &[i32], lost: bool) {
        let wait = if lost { Duration::ZERO } else { RELEASE_WAIT };
        let released = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut by_lane: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
            for &partition in partitions {
                if let Some(Assignment { lane: Some(lane), .. }) = state.assigned.remove(&partition)
                {
                    by_lane.entry(lane).or_default().push(partition);
                }
            }
            by_lane
        };
        self.release(released, RELEASE_WAIT, wait);
    }

    /// Takes `partition` from its lane although it stays assigned: it cannot be read.
    pub fn block(&self, partitions: &[i32]) {
        let released = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut by_lane: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
            for &partition in partitions {
                if let Some(assignment) = state.assigned.get_mut(&partition)
                    && let Some(lane) = assignment.lane.take()
                {
                    by_lane.entry(lane).or_default().push(partition);
                }
            }
            by_lane
        };
        self.release(released, BLOCK_WAIT, BLOCK_WAIT);
    }

    /// Lanes have `time` to write what they have; we wait for `wait` and a bit, because they answer even when
    /// they threw work away.
    fn release(&self, by_lane: BTreeMap<usize, Vec<i32>>, time: Duration, wait: Duration) {
        let now = Instant::now();
        let (deadline, patience) = (now + time, now + wait + wait / 4);
        let (done, all_done) = sync_channel(self.lanes.len());
        let mut told = 0;
        for (lane, partitions) in by_lane {
            let command = Command::Release { partitions, deadline, done: done.clone() };
            told += usize::from(self.lanes[lane].tell(command));
        }
        drop(done);
        for _ in 0..told {
            let left = patience.saturating_duration_since(Instant::now());
            if all_done.recv_timeout(left).is_err() {
                break;
            }
        }
    }

    /// The assignment of `partition`, if it is still this host's and no lane has it: to be handed to
    /// [`Ownership::give`] with the claim made for it.
    pub fn waiting(&self, partition: i32) -> Option<u64> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.assigned.get(&partition).filter(|it| it.lane.is_none()).map(|it| it.generation)
    }

    /// Where the claimer is told.
    pub fn reports(&self) -> Post<Report> {
        self.reports.clone()
    }

    /// Partitions assigned to this host, ascending.
    pub fn partitions(&self) -> Vec<i32> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.assigned.keys().copied().collect()
    }

    /// How many lanes have partitions.
    pub fn lanes_with_partitions(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.loads(self.lanes.len()).iter().filter(|&&count| count > 0).count()
    }

    /// From now on so many lanes get partitions; returns those that other lanes have, or that a lane has beyond its share:
    /// to be claimed again.
    pub fn spread_over(&self, lanes: usize) -> Vec<i32> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lanes_in_use = lanes;
        let had: Vec<(i32, usize)> = state
            .assigned
            .iter()
            .filter_map(|(&partition, assignment)| Some((partition, assignment.lane?)))
            .collect();
        let share = had.len().div_ceil(lanes);
        let mut kept = vec![0; lanes];
        let moves = |&(partition, lane): &(i32, usize)| match kept.get_mut(lane) {
            Some(count) if *count < share => {
                *count += 1;
                None
            }
            _ => Some(partition),
        };
        had.iter().filter_map(moves).collect()
    }

    /// Gives a claimed partition to the lane with the fewest of those in use, unless it was taken away in the meantime. The lane is told
    /// which keys were `waiting` when it was claimed.
    ///
    /// # Panics
    /// When there is no lane; settings ask for at least one.
    pub fn give(&self, claimed: Claimed, topic_id: Uuid, waiting: Vec<KeyHash>, generation: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let loads = state.loads(state.lanes_in_use);
        let Some(assignment) = state.assigned.get_mut(&claimed.partition) else { return };
        if assignment.generation != generation {
            return;
        }
        let lane = (0..loads.len()).min_by_key(|&lane| loads[lane]).expect("there is a lane");
        // Sent under the lock, so that a revocation that follows reaches the lane behind it.
        if self.lanes[lane].tell(Command::Start { claimed, topic_id, waiting }) {
            assignment.lane = Some(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;

    fn ownership(lanes: usize) -> (Ownership, Vec<Receiver<Command>>, Receiver<Report>) {
        let (handles, ends): (_, Vec<_>) = (0..lanes).map(|_| LaneHandle::pair()).unzip();
        let receivers = ends.into_iter().map(|end| end.things).collect();
        let (reports, reported) = Post::new();
        (Ownership::new(handles, reports), receivers, reported.things)
    }

    fn claimed(partition: i32) -> Claimed {
        Claimed { partition, next_offset: 0, epoch: 1, last: None }
    }

    fn give_all(ownership: &Ownership, partitions: &[i32]) {
        ownership.assigned(partitions.to_vec());
        for &partition in partitions {
            let generation = ownership.waiting(partition).expect("assigned");
            ownership.give(claimed(partition), Uuid::nil(), Vec::new(), generation);
        }
    }

    #[test]
    fn partitions_are_spread_over_the_lanes() {
        let (ownership, lanes, _reports) = ownership(2);
        give_all(&ownership, &[0, 2, 4, 6]);
        for lane in lanes {
            assert_eq!(lane.try_iter().count(), 2);
        }
    }

    #[test]
    fn partitions_are_packed_into_fewer_lanes_and_spread_again() {
        let (ownership, lanes, _reports) = ownership(2);
        give_all(&ownership, &[0, 1, 2, 3, 4]);
        assert_eq!(ownership.lanes_with_partitions(), 2);
        let give_again = |partitions: &[i32]| {
            ownership.revoked(partitions, true);
            give_all(&ownership, partitions);
        };
        let moved = ownership.spread_over(1);
        assert_eq!(moved, [1, 3]);
        give_again(&moved);
        assert_eq!(ownership.lanes_with_partitions(), 1);
        give_again(&[0]);
        assert_eq!(ownership.lanes_with_partitions(), 1);
        let moved = ownership.spread_over(2);
        assert_eq!(moved, [3, 4]);
        give_again(&moved);
        assert_eq!(ownership.lanes_with_partitions(), 2);
        let started = |lane: &Receiver<Command>| {
            lane.try_iter().filter(|it| matches!(it, Command::Start { .. })).count()
        };
        assert_eq!((started(&lanes[0]), started(&lanes[1])), (6, 4));
    }

    #[test]
    fn a_claim_that_comes_after_the_partition_was_taken_away_is_dropped() {
        let (ownership, lanes, _reports) = ownership(1);
        ownership.assigned(vec![3]);
        let generation = ownership.waiting(3).expect("assigned");
        ownership.revoked(&[3], false);
        ownership.give(claimed(3), Uuid::nil(), Vec::new(), generation);
        ownership.assigned(vec![3]);
        ownership.give(claimed(3), Uuid::nil(), Vec::new(), generation);
        assert_eq!(lanes[0].try_iter().count(), 0);
    }

    #[test]
    fn a_lost_partition_is_not_waited_for() {
        let (ownership, lanes, _reports) = ownership(1);
        give_all(&ownership, &[0]);
        // Nobody answers for the lane: it would wait indefinitely, or for as long as lanes have.
        let begin = Instant::now();
        ownership.revoked(&[0], true);
        assert!(begin.elapsed() < RELEASE_WAIT / 2);
        assert!(matches!(lanes[0].recv(), Ok(Command::Start { .. })));
        assert!(matches!(lanes[0].recv(), Ok(Command::Release { .. })));
    }
}
