//! The claimer: claims what the group assigns, blocks partitions that cannot be read, and tells the group where its
//! partitions stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::bell::Mailbox;
use crate::fault::{Fault, Remedy};
use crate::settings::Start;
use crate::sink::KeyHash;
use crate::source::identity::{Identity, created_again};
use crate::source::loads::{Load, Packing};
use crate::source::member::Member;
use crate::source::native::End;
use crate::source::rebalance::{Committed, Ownership, Report};
use crate::source::{ClaimAnswer, ClaimStore, Claimed, Crash, Stored};
use crate::threads::{self, Job, Turn, Work};

mod blocks;
mod keep;
mod quarantine;
mod standing;
mod transactions;

use blocks::Blocks;
use keep::LIFE_PERIOD;
use quarantine::{Admission, Quarantine};
pub use standing::{BlockedPartition, Standing};
use transactions::OpenTransactions;

/// How often it is looked whether partitions that are not claimed yet can be.
const CLAIM_PERIOD: Duration = Duration::from_millis(50);
/// How often the group is told where its partitions stand.
const INFORM_PERIOD: Duration = Duration::from_secs(1);
/// After this, a partition that was fenced is claimed again if it is still assigned.
const AGAIN_WAIT: Duration = Duration::from_secs(5);
/// After this, a partition in quarantine asks again for its turn.
const TURN_WAIT: Duration = Duration::from_millis(200);
/// Waits after failed claims: doubled each time.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// What it works with.
pub struct Parts {
    /// The host as a member of the group.
    pub member: Arc<Member>,
    /// Who has which partition on this host.
    pub ownership: Arc<Ownership>,
    /// Where positions are kept.
    pub store: Box<dyn ClaimStore>,
    /// Where a pipeline begins that has no position.
    pub start: Start,
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// What it is told.
    pub reports: Mailbox<Report>,
    /// What it shares with lanes.
    pub committed: Arc<Committed>,
    /// The same.
    pub identity: Arc<Identity>,
    /// The same.
    pub loads: Arc<[Load]>,
    /// What it tells.
    pub standing: Arc<Standing>,
}

/// What it has and waits for.
pub struct Claimer {
    parts: Parts,
    /// Assigned, not yet claimed; and when to try.
    wanted: BTreeMap<i32, Instant>,
    blocks: Blocks,
    quarantine: Quarantine,
    transactions: OpenTransactions,
    packing: Packing,
    /// When it was looked last how much lanes have to do.
    loads_seen: Instant,
    /// What lanes have, or will have when it is known which keys wait.
    given: BTreeMap<i32, Given>,
    retry_wait: Duration,
    away: bool,
    due: Due,
}

/// A partition that was given to a lane.
#[derive(Debug, Clone, Copy)]
struct Given {
    epoch: i64,
    /// As far as is known to be committed.
    next_offset: i64,
}

impl Given {
    /// True when commits were lost that were answered: a standby took over without them, or a backup was restored.
    fn is_ahead_of(self, stored: &Stored) -> bool {
        (stored.epoch, stored.next_offset) < (self.epoch, self.next_offset)
    }
}

/// When each of the things that are done now and then is due.
struct Due {
    inform: Instant,
    life: Instant,
    watch: Instant,
    lag: Instant,
}

impl Claimer {
    /// Starts to work, with nothing yet.
    pub fn start(parts: Parts, runtime: &Handle) -> Job<()> {
        let bell = parts.reports.bell.clone();
        threads::spawn(runtime, bell, Self::new(parts))
    }

    fn new(parts: Parts) -> Self {
        let now = Instant::now();
        let due = Due { inform: now, life: now, watch: now, lag: now };
        Self {
            packing: Packing::new(parts.loads.len()),
            loads_seen: now,
            parts,
            due,
            wanted: BTreeMap::new(),
            blocks: Blocks::default(),
            quarantine: Quarantine::new(now),
            transactions: OpenTransactions::default(),
            given: BTreeMap::new(),
            retry_wait: RETRY_WAIT_MIN,
            away: false,
        }
    }

    /// Takes note of what was reported, and does what is due. False when told to finish.
    fn advance(&mut self) -> bool {
        loop {
            match self.parts.reports.things.try_recv() {
                Ok(Report::Finish) | Err(TryRecvError::Disconnected) => return false,
                Ok(report) => self.note(report),
                Err(TryRecvError::Empty) => break,
            }
        }
        self.claim_what_is_due();
        self.do_what_is_due();
        true
    }

    /// How long nothing is to be done unless something is reported.
    fn patience(&self) -> Duration {
        let (due, now) = (&self.due, Instant::now());
        let first = due.inform.min(due.life).min(due.watch).min(due.lag);
        // One that is due and was not claimed waits for its lane to release it.
        let claim = self.wanted.values().min().map(|&at| at.max(now + CLAIM_PERIOD));
        first.min(claim.unwrap_or(first)).saturating_duration_since(now)
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        if now >= self.due.inform {
            self.take_note_of_commits(CommitMode::Async);
            self.pack_or_spread(now);
            self.due.inform = now + INFORM_PERIOD;
        }
        if now >= self.due.life {
            self.due.life = Instant::now() + self.show_life();
        }
        if now >= self.due.watch {
            self.due.watch = Instant::now() + self.watch_positions();
        }
        if now >= self.due.lag {
            self.due.lag = Instant::now() + self.measure_lag();
        }
    }

    fn note(&mut self, report: Report) {
        match report {
            Report::Assigned(partitions) => {
                self.retry_wait = RETRY_WAIT_MIN;
                self.wanted.extend(partitions.into_iter().map(|it| (it, Instant::now())));
            }
            Report::KeysRead { claimed, topic_id, generation, waiting } => {
                self.give(claimed, topic_id, generation, waiting);
            }
            Report::Fenced(partitions) => self.claim_again(partitions, AGAIN_WAIT),
            Report::Blocked { partition, fault } => {
                let partitions = match partition {
                    Some(partition) => vec![partition],
                    None => self.parts.ownership.partitions(),
                };
                self.block_read(partitions, &fault);
            }
            Report::OtherTopic(fault) => self.other_topic(&fault),
            Report::Finish => {}
        }
    }

    /// Tells the group what lanes have committed, and sees which partitions go on by that.
    fn take_note_of_commits(&mut self, mode: CommitMode) {
        self.quarantine.end_if(|partition| self.parts.committed.has(partition));
        let next_offsets = self.parts.committed.take();
        for (partition, &next_offset) in &next_offsets {
            if let Some(given) = self.given.get_mut(partition) {
                given.next_offset = given.next_offset.max(next_offset);
            }
        }
        if !self.blocks.is_empty() {
            self.note_what_goes_on(|blocked| next_offsets.contains_key(&blocked));
        }
        self.parts.member.inform(next_offsets.into_iter(), mode);
    }

    /// Takes partitions from their lanes and claims them again after `wait`.
    fn claim_again(&mut self, partitions: Vec<i32>, wait: Duration) {
        self.parts.ownership.block(&partitions);
        let again = Instant::now() + wait;
        for partition in partitions {
            self.given.remove(&partition);
            self.wanted.insert(partition, again);
        }
    }

    fn claim_what_is_due(&mut self) {
        let now = Instant::now();
        self.quarantine.end_if(|partition| self.parts.committed.has(partition));
        let due: Vec<(i32, u64)> = self
            .wanted
            .iter()
            .filter(|&(_, at)| *at <= now)
            .filter_map(|(&partition, _)| {
                Some((partition, self.parts.ownership.waiting(partition)?))
            })
            .collect();
        let assigned: BTreeSet<i32> = self.parts.ownership.partitions().into_iter().collect();
        self.keep_only(&assigned);
        if due.is_empty() {
            return;
        }
        // What lanes have committed under claims that are over says nothing of the next ones.
        self.take_note_of_commits(CommitMode::Async);
        match self.claim(&due) {
            Ok(()) => {
                self.retry_wait = RETRY_WAIT_MIN;
                if std::mem::take(&mut self.away) {
                    tracing::info!(pipeline = &*self.parts.pipeline, "claims resumed");
                }
            }
            Err(fault) => self.put_off(&due, &fault),
        }
    }

    /// An outage is waited for; anything else blocks the partitions until it is mended.
    fn put_off(&mut self, due: &[(i32, u64)], fault: &Fault) {
        let partitions: Vec<i32> = due.iter().map(|&(partition, _)| partition).collect();
        if fault.remedy != Remedy::Retry {
            return self.block(&partitions, fault);
        }
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(
                pipeline = &*self.parts.pipeline,
                code = fault.code,
                "cannot claim partitions, retrying: {}",
                fault.message
            );
        }
        let again = Instant::now() + self.retry_wait;
        self.retry_wait = (self.retry_wait * 2).min(RETRY_WAIT_MAX);
        self.wanted.extend(partitions.into_iter().map(|it| (it, again)));
    }

    fn claim(&mut self, due: &[(i32, u64)]) -> Result<(), Fault> {
        let asked = Instant::now();
        let named = self.parts.member.topic_id()?;
        self.parts.store.show_life()?;
        let partitions: Vec<i32> = due.iter().map(|&(partition, _)| partition).collect();
        let stored = self.parts.store.positions()?;
        let topic_id = self.known_id(named, &partitions, &stored);
        if let Some(before) = self.parts.identity.claimed(topic_id, asked) {
            self.other_topic(&created_again(before, topic_id));
            return Ok(());
        }
        self.initialise(topic_id, &partitions, &stored)?;
        let crashes = self.crashes(topic_id, &partitions, stored)?;
        let admitted = self.admit(&partitions, &crashes);
        if admitted.is_empty() {
            return Ok(());
        }
        let generations: BTreeMap<i32, u64> = due.iter().copied().collect();
        let mut all_claimed = BTreeMap::new();
        let answers = self.parts.store.claim(topic_id, &admitted)?;
        for answer in answers {
            match answer {
                ClaimAnswer::Claimed(claimed) => {
                    let partition = claimed.partition;
                    self.wanted.remove(&partition);
                    self.blocks.claimed(partition, Instant::now());
                    let Claimed { epoch, next_offset, .. } = claimed;
                    self.given.insert(partition, Given { epoch, next_offset });
                    all_claimed.insert(partition, (claimed, generations[&partition]));
                }
                ClaimAnswer::OtherTopic { partition, stored } => {
                    self.block(&[partition], &created_again(stored, topic_id));
                }
            }
        }
        if !all_claimed.is_empty() {
            let partitions: Vec<i32> = all_claimed.keys().copied().collect();
            tracing::info!(pipeline = &*self.parts.pipeline, ?partitions, "partitions claimed");
            let reports = self.parts.ownership.reports();
            let read = move |partition, waiting| {
                let (claimed, generation) = all_claimed[&partition];
                // Fails only while the pipeline ends.
                let _ = reports.send(Report::KeysRead { claimed, topic_id, generation, waiting });
            };
            // Now that the owner before is fenced, nothing that it parked can be missing.
            self.parts.store.read_parked_keys(topic_id, partitions, Box::new(read));
        }
        Ok(())
    }

    /// Gives a claimed partition to a lane, unless the claim is over.
    fn give(
        &mut self,
        claimed: Claimed,
        topic_id: Uuid,
        generation: u64,
        waiting: Result<Vec<KeyHash>, Fault>,
    ) {
        let Claimed { partition, epoch, .. } = claimed;
        if self.given.get(&partition).is_none_or(|given| given.epoch != epoch) {
            return;
        }
        match waiting {
            Ok(waiting) => self.parts.ownership.give(claimed, topic_id, waiting, generation),
            Err(fault) => {
                self.given.remove(&partition);
                self.put_off(&[(partition, generation)], &fault);
            }
        }
    }

    /// The id that brokers have `named`, or one that is known from before where they name none: during an upgrade some
    /// do and some do not.
    fn known_id(&self, named: Uuid, partitions: &[i32], stored: &[Stored]) -> Uuid {
        if !named.is_nil() {
            return named;
        }
        let mut ours = stored.iter().filter(|it| partitions.contains(&it.partition));
        let stored = || ours.find_map(|it| Some(it.topic_id).filter(|id| !id.is_nil()));
        self.parts.identity.id().or_else(stored).unwrap_or(named)
    }

    /// How many owners have crashed at the positions of `partitions`. Those that crashed just now are counted first, if
    /// there is anything to read that could have killed them.
    fn crashes(
        &mut self,
        topic_id: Uuid,
        partitions: &[i32],
        mut stored: Vec<Stored>,
    ) -> Result<BTreeMap<i32, i32>, Fault> {
        let ours = |it: &&Stored| it.topic_id == topic_id && partitions.contains(&it.partition);
        let crashed: Vec<&Stored> =
            stored.iter().filter(ours).filter(|it| it.owner_crashed).collect();
        if !crashed.is_empty() {
            let partitions: Vec<i32> = crashed.iter().map(|it| it.partition).collect();
            let ends = self.parts.member.ends(&partitions, End::Readable)?;
            let record_crashes = |it: &&Stored| {
                let counts = it.next_offset < *ends.get(&it.partition)?;
                let (partition, owner) = (it.partition, it.owner.clone());
                Some(Crash { partition, owner, counts })
            };
            let noted: Vec<Crash> = crashed.iter().filter_map(record_crashes).collect();
            self.parts.store.record_crashes(&noted)?;
            stored = self.parts.store.positions()?;
        }
        Ok(stored.iter().filter(ours).map(|it| (it.partition, it.crashes)).collect())
    }

    /// Which of `partitions` to claim now.
    fn admit(&mut self, partitions: &[i32], crashes: &BTreeMap<i32, i32>) -> Vec<i32> {
        let now = Instant::now();
        let Admission { mut free, quarantined, waiting, crash_loops } =
            self.quarantine.admit(partitions, crashes, now);
        self.wanted.extend(waiting.into_iter().map(|it| (it, now + TURN_WAIT)));
        for (partition, crashes) in crash_loops {
            self.block(&[partition], &keep::deadly(partition, crashes));
        }
        if let Some(partition) = quarantined {
            let pipeline = &*self.parts.pipeline;
            tracing::warn!(
                pipeline,
                partition,
                "hosts crashed twice at this position: reading the partition while no other one in quarantine is read"
            );
        }
        free.extend(quarantined);
        free
    }

    /// On a pipeline's first claim all partitions of the topic get a position, at `start`. A partition that
    /// has none later was added to the topic in the meantime: it begins with its first message whatever `start`
    /// says, or messages would be skipped.
    fn initialise(
        &mut self,
        topic_id: Uuid,
        partitions: &[i32],
        stored: &[Stored],
    ) -> Result<(), Fault> {
        let (start, missing) = if stored.is_empty() {
            // A broker that has just started may not know of all partitions that the group has assigned.
            let known = self.parts.member.partitions()?;
            let unknown = partitions.iter().copied().filter(|it| !known.contains(it));
            (self.parts.start, known.iter().copied().chain(unknown).collect())
        } else {
            let known = |partition: &i32| stored.iter().any(|it| it.partition == *partition);
            let missing = partitions.iter().copied().filter(|it| !known(it));
            (Start::Earliest, missing.collect::<Vec<i32>>())
        };
        if missing.is_empty() {
            return Ok(());
        }
        let starts = missing
            .into_iter()
            .map(|partition| Ok((partition, self.parts.member.start_of(partition, start)?)))
            .collect::<Result<Vec<_>, Fault>>()?;
        self.parts.store.initialise(topic_id, &starts)
    }
}

impl Work for Claimer {
    type End = ();

    /// Most of the time it is only seen that this host still lives, and that the group was told all.
    fn glance(&mut self) -> Option<Duration> {
        let now = Instant::now();
        if self.wanted.values().any(|&at| at <= now) {
            return None;
        }
        if now >= self.due.inform && self.parts.committed.is_empty() && self.blocks.is_empty() {
            self.due.inform = now + INFORM_PERIOD;
        }
        if self.parts.store.is_known_to_live() && now >= self.due.life {
            self.due.life = now + LIFE_PERIOD;
        }
        Some(self.patience()).filter(|wait| !wait.is_zero())
    }

    fn turn(&mut self) -> Turn<()> {
        if self.advance() {
            return Turn::Sleep(self.patience());
        }
        self.take_note_of_commits(CommitMode::Sync);
        self.leave();
        Turn::End(())
    }
}
