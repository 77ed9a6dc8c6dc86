//! Partitions that are blocked by the claimer: told once, written down for everybody, tried again with
//! backoff, and unblocked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{BlockedPartition, Claimer};
use crate::explain;
use crate::fault::{Fault, broker};
use crate::source::Stored;
use crate::source::native::End;

/// How often it is looked whether others can see that this host lives; the second while Postgres is away.
pub(super) const LIFE_PERIOD: Duration = Duration::from_secs(1);
const LIFE_PERIOD_AWAY: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody has set a position: while one is blocked, and otherwise.
const WATCH_PERIOD_BLOCKED: Duration = Duration::from_secs(2);
const WATCH_PERIOD: Duration = Duration::from_secs(10);
/// The same when that could not be done.
const WATCH_PERIOD_AWAY: Duration = Duration::from_secs(30);
/// How often the ends of the partitions are asked for.
const LAG_PERIOD: Duration = Duration::from_secs(20);
/// The same where they did not answer.
const LAG_PERIOD_UNKNOWN: Duration = Duration::from_secs(50);

impl Claimer {
    /// Blocks partitions that a lane could not read. Of those that are blocked already and that no lane has, this is an echo.
    pub(super) fn block_read(&mut self, mut partitions: Vec<i32>, fault: &Fault) {
        let ownership = &self.parts.ownership;
        partitions.retain(|&it| !self.blocks.has(it) || ownership.waiting(it).is_none());
        if !partitions.is_empty() {
            self.block(&partitions, fault);
        }
    }

    /// Stops reading `partitions` and says why, once per reason.
    pub(super) fn block(&mut self, partitions: &[i32], fault: &Fault) {
        self.parts.ownership.block(partitions);
        self.quarantine.end_if(|reading| partitions.contains(&reading));
        let now = Instant::now();
        let mut news = Vec::new();
        for &partition in partitions {
            let (again, is_news) = self.blocks.block(partition, fault.code, now);
            self.wanted.insert(partition, again);
            self.given.remove(&partition);
            news.extend(is_news.then_some(partition));
        }
        if !news.is_empty() {
            let hint = explain::hint(fault.code);
            let (partition, partitions) = ((news.len() == 1).then_some(news[0]), list(&news));
            let (pipeline, code) = (&*self.parts.pipeline, fault.code);
            tracing::error!(
                pipeline,
                partition,
                partitions,
                code,
                hint,
                "partition blocked: {}",
                fault.message
            );
        }
        // Nobody is kept waiting because it cannot be written down: it is in the log.
        if let Err(fault) = self.parts.store.block(partitions, fault) {
            tracing::debug!("failed to record what is blocked: {fault}");
        }
        self.tell_standing();
    }

    /// Says which blocked partitions go on: those that have `committed`, and those that stay quiet.
    pub(super) fn note_what_goes_on(&mut self, committed: impl Fn(i32) -> bool) {
        let resumed = self.blocks.resumed(committed, Instant::now());
        if resumed.is_empty() {
            return;
        }
        let partitions: Vec<i32> = resumed.iter().map(|&(partition, _)| partition).collect();
        for (partition, blocked) in resumed {
            let (pipeline, seconds) = (&*self.parts.pipeline, blocked.as_secs());
            tracing::info!(pipeline, partition, seconds, "partition resumed");
        }
        self.strike_out(&partitions, true);
    }

    /// Forgets partitions that are no longer this host's.
    pub(super) fn keep_only(&mut self, assigned: &BTreeSet<i32>) {
        self.wanted.retain(|partition, _| assigned.contains(partition));
        self.given.retain(|partition, _| assigned.contains(partition));
        self.quarantine.end_if(|reading| !assigned.contains(&reading));
        let lost = self.blocks.keep(|partition| assigned.contains(&partition));
        if !lost.is_empty() {
            self.strike_out(&lost, false);
        }
    }

    /// A host whose heartbeat was lost, because Postgres was away, must not count as crashed. Returns when to look again.
    pub(super) fn show_life(&mut self) -> Duration {
        let has_claimed = !self.given.is_empty() || !self.blocks.is_empty();
        match has_claimed.then(|| self.parts.store.show_life()) {
            Some(Err(_)) => LIFE_PERIOD_AWAY,
            _ => LIFE_PERIOD,
        }
    }

    /// Looks whether somebody has set a position, or commits were lost, and returns when to look again.
    pub(super) fn watch_positions(&mut self) -> Duration {
        if self.given.is_empty() && self.blocks.is_empty() {
            return WATCH_PERIOD_BLOCKED;
        }
        if let Some(partition) = self.quarantine.release(Instant::now())
            && let Err(fault) = self.parts.store.reset_crashes(partition)
        {
            tracing::debug!(partition, "failed to leave quarantine: {fault}");
        }
        let Ok(stored) = self.parts.store.positions() else { return WATCH_PERIOD_AWAY };
        let now = Instant::now();
        for partition in self.blocks.resolved(&stored) {
            self.wanted.insert(partition, now);
        }
        let is_set = |it: &&Stored| {
            it.resolved && self.given.get(&it.partition).is_some_and(|given| given.epoch < it.epoch)
        };
        let set: Vec<i32> = stored.iter().filter(is_set).map(|it| it.partition).collect();
        if !set.is_empty() {
            let partitions = list(&set);
            tracing::warn!(partitions, "the position was set by an operator; reading from there");
            self.claim_again(set, Duration::ZERO);
        }
        let lost =
            |it: &&Stored| self.given.get(&it.partition).is_some_and(|given| given.is_ahead_of(it));
        let lost: Vec<i32> = stored.iter().filter(lost).map(|it| it.partition).collect();
        if !lost.is_empty() {
            let (pipeline, partitions) = (&*self.parts.pipeline, list(&lost));
            tracing::warn!(
                pipeline,
                partitions,
                "Postgres has lost commits; reading again from the positions it has"
            );
            self.claim_again(lost, Duration::ZERO);
        }
        if self.blocks.is_empty() { WATCH_PERIOD } else { WATCH_PERIOD_BLOCKED }
    }

    /// Moves partitions between lanes where there is much less or much more to do than before.
    pub(super) fn pack_or_spread(&mut self, now: Instant) {
        let time = now - std::mem::replace(&mut self.loads_seen, now);
        let ownership = &self.parts.ownership;
        let settled = self.wanted.is_empty().then(|| ownership.lanes_with_partitions());
        let Some(lanes) = self.packing.look(&self.parts.loads, settled, time) else { return };
        let moved = ownership.spread_over(lanes);
        if !moved.is_empty() {
            let (pipeline, partitions) = (&*self.parts.pipeline, list(&moved));
            tracing::info!(pipeline, lanes, partitions, "partitions change lanes");
            self.claim_again(moved, Duration::ZERO);
        }
    }

    /// Reckons how far this host's partitions are behind, and returns when to do it again.
    pub(super) fn measure_lag(&mut self) -> Duration {
        let assigned = self.parts.ownership.partitions();
        if assigned.is_empty() {
            self.parts.standing.set_lag(None);
            return WATCH_PERIOD_BLOCKED;
        }
        let lag = self.lag(&assigned);
        self.parts.standing.set_lag(lag);
        if lag.is_some() { LAG_PERIOD } else { LAG_PERIOD_UNKNOWN }
    }

    fn lag(&mut self, assigned: &[i32]) -> Option<i64> {
        let stored = self.parts.store.positions().ok()?;
        let ends = self.parts.member.ends(assigned, End::Readable).ok()?;
        self.look_for_open_transactions(assigned, &ends);
        let ours = stored.iter().filter(|it| assigned.contains(&it.partition));
        let lags = ours.map(|it| Some((ends.get(&it.partition)? - it.next_offset).max(0)));
        lags.sum()
    }

    /// What an open transaction keeps from being read counts as no lag, because nobody can read it yet.
    fn look_for_open_transactions(&mut self, assigned: &[i32], readable: &BTreeMap<i32, i64>) {
        let Ok(written) = self.parts.member.ends(assigned, End::Written) else { return };
        let old = self.transactions.look(readable, &written, Instant::now());
        let Some(oldest) = old.iter().max_by_key(|it| it.seconds) else { return };
        let (pipeline, partition) = (&*self.parts.pipeline, oldest.partition);
        let partitions: Vec<i32> = old.iter().map(|it| it.partition).collect();
        let (partitions, offset, seconds) = (list(&partitions), oldest.offset, oldest.seconds);
        let messages: i64 = old.iter().map(|it| it.messages).sum();
        tracing::warn!(
            pipeline,
            partition,
            partitions,
            offset,
            messages,
            seconds,
            "an open transaction keeps messages from being read"
        );
    }

    /// When the topic was deleted and created again, offsets mean other messages: nothing more may be
    /// written under the old claims, ours included.
    pub(super) fn other_topic(&mut self, fault: &Fault) {
        let partitions = self.parts.ownership.partitions();
        if partitions.is_empty() {
            return;
        }
        if let Err(fault) = self.parts.store.fence(&partitions) {
            tracing::warn!(code = fault.code, "failed to fence our own writes: {}", fault.message);
        }
        self.block(&partitions, fault);
    }

    /// Releases all partitions cleanly, so that nobody takes this end for a crash.
    pub(super) fn leave(&mut self) {
        if let Err(fault) = self.parts.store.release_cleanly() {
            tracing::debug!("unclean release: {fault}");
        }
        self.parts.standing.clear();
    }

    fn strike_out(&mut self, partitions: &[i32], anybody: bool) {
        if let Err(fault) = self.parts.store.unblock(partitions, anybody) {
            tracing::debug!("failed to remove what was blocked: {fault}");
        }
        self.tell_standing();
    }

    fn tell_standing(&self) {
        let blocked = self.blocks.all();
        let blocked =
            blocked.map(|(partition, code, since)| BlockedPartition { partition, code, since });
        self.parts.standing.set_blocked(blocked.collect());
    }
}

/// Partition numbers for the log.
fn list(partitions: &[i32]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `SL-K017`
pub(super) fn deadly(partition: i32, crashes: i32) -> Fault {
    let message = format!(
        "crash loop: hosts crashed {crashes} times at the position of partition {partition}"
    );
    Fault::block(broker::DEADLY, message)
}
