//! The claims thread: claims what the group assigns, watches the topic's identity, holds partitions that
//! cannot be read, and tells the group where its partitions stand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::consumer::CommitMode;
use uuid::Uuid;

use crate::fault::{Fault, Remedy};
use crate::settings::Start;
use crate::source::member::Member;
use crate::source::rebalance::{Ownership, Report};
use crate::source::{ClaimAnswer, ClaimStore};

/// How often the topic's id is looked at. A topic deleted and created again is noticed within this time.
const IDENTITY_PERIOD: Duration = Duration::from_millis(250);
/// How often the group is told where its partitions stand.
const ADVICE_PERIOD: Duration = Duration::from_secs(1);
/// After this, a partition that was fenced or held is claimed again if it is still assigned.
const AGAIN_WAIT: Duration = Duration::from_secs(5);
/// Waits after failed claims: doubled each time.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(100);
const RETRY_WAIT_MAX: Duration = Duration::from_secs(5);

/// The thread's state.
pub struct ClaimsThread {
    member: Arc<Member>,
    ownership: Arc<Ownership>,
    store: Box<dyn ClaimStore>,
    start: Start,
    pipeline: Arc<str>,
    reports: Receiver<Report>,
    /// Assigned, not yet claimed; and when to try.
    wanted: BTreeMap<i32, Instant>,
    /// Why a partition is held; told once per reason.
    held: BTreeMap<i32, &'static str>,
    /// Next offsets that the group was not yet told.
    advice: BTreeMap<i32, i64>,
    topic_id: Option<Uuid>,
    retry_wait: Duration,
    away: bool,
}

impl ClaimsThread {
    /// What the thread works with.
    pub fn new(
        member: Arc<Member>,
        ownership: Arc<Ownership>,
        store: Box<dyn ClaimStore>,
        start: Start,
        pipeline: Arc<str>,
        reports: Receiver<Report>,
    ) -> Self {
        Self {
            member,
            ownership,
            store,
            start,
            pipeline,
            reports,
            wanted: BTreeMap::new(),
            held: BTreeMap::new(),
            advice: BTreeMap::new(),
            topic_id: None,
            retry_wait: RETRY_WAIT_MIN,
            away: false,
        }
    }

    /// Works until told to finish.
    pub fn run(mut self) {
        let (mut identity_at, mut advice_at) = (Instant::now(), Instant::now());
        loop {
            match self.reports.recv_timeout(Duration::from_millis(50)) {
                Ok(Report::Finish) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(report) => self.note(report),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.claim_what_is_due();
            let now = Instant::now();
            if now >= identity_at {
                self.check_identity();
                identity_at = Instant::now() + IDENTITY_PERIOD;
            }
            if now >= advice_at {
                self.advise(CommitMode::Async);
                advice_at = now + ADVICE_PERIOD;
            }
        }
        self.advise(CommitMode::Sync);
    }

    fn note(&mut self, report: Report) {
        let again = Instant::now() + AGAIN_WAIT;
        match report {
            Report::Assigned(partitions) => {
                self.retry_wait = RETRY_WAIT_MIN;
                self.wanted.extend(partitions.into_iter().map(|it| (it, Instant::now())));
            }
            Report::Committed(next_offsets) => self.advice.extend(next_offsets),
            Report::Fenced(partitions) => {
                self.ownership.hold(&partitions);
                self.wanted.extend(partitions.into_iter().map(|it| (it, again)));
            }
            Report::Held { partition, fault } => {
                let partitions = match partition {
                    Some(partition) => vec![partition],
                    None => self.ownership.partitions(),
                };
                self.hold(&partitions, &fault);
            }
            Report::Finish => {}
        }
    }

    /// Stops reading `partitions` and says why, once per partition and reason.
    fn hold(&mut self, partitions: &[i32], fault: &Fault) {
        self.ownership.hold(partitions);
        for &partition in partitions {
            self.wanted.insert(partition, Instant::now() + AGAIN_WAIT);
            if self.held.insert(partition, fault.code) != Some(fault.code) {
                tracing::error!(
                    pipeline = &*self.pipeline,
                    partition,
                    code = fault.code,
                    "partition held: {}",
                    fault.message
                );
            }
        }
    }

    fn claim_what_is_due(&mut self) {
        let now = Instant::now();
        let due: Vec<(i32, u64)> = self
            .wanted
            .iter()
            .filter(|&(_, at)| *at <= now)
            .filter_map(|(&partition, _)| Some((partition, self.ownership.waiting(partition)?)))
            .collect();
        let mut assigned = BTreeSet::new();
        assigned.extend(self.ownership.partitions());
        self.wanted.retain(|partition, _| assigned.contains(partition));
        self.held.retain(|partition, _| assigned.contains(partition));
        if due.is_empty() {
            return;
        }
        match self.claim(&due) {
            Ok(()) => {
                self.retry_wait = RETRY_WAIT_MIN;
                if std::mem::take(&mut self.away) {
                    tracing::info!(pipeline = &*self.pipeline, "claims go on");
                }
            }
            Err(fault) => self.put_off(&due, &fault),
        }
    }

    /// An outage is waited for; anything else holds the partitions until it is mended.
    fn put_off(&mut self, due: &[(i32, u64)], fault: &Fault) {
        let partitions: Vec<i32> = due.iter().map(|&(partition, _)| partition).collect();
        if fault.remedy != Remedy::Retry {
            return self.hold(&partitions, fault);
        }
        if !std::mem::replace(&mut self.away, true) {
            tracing::warn!(
                pipeline = &*self.pipeline,
                code = fault.code,
                "claims wait for an outage to end: {}",
                fault.message
            );
        }
        let again = Instant::now() + self.retry_wait;
        self.retry_wait = (self.retry_wait * 2).min(RETRY_WAIT_MAX);
        self.wanted.extend(partitions.into_iter().map(|it| (it, again)));
    }

    fn claim(&mut self, due: &[(i32, u64)]) -> Result<(), Fault> {
        let topic_id = self.member.topic_id()?;
        self.topic_id = Some(topic_id);
        let partitions: Vec<i32> = due.iter().map(|&(partition, _)| partition).collect();
        self.initialise(topic_id, &partitions)?;
        let generations: BTreeMap<i32, u64> = due.iter().copied().collect();
        let mut claimed_partitions = Vec::new();
        for answer in self.store.claim(topic_id, &partitions)? {
            match answer {
                ClaimAnswer::Claimed(claimed) => {
                    self.wanted.remove(&claimed.partition);
                    claimed_partitions.push(claimed.partition);
                    self.ownership.give(claimed, topic_id, generations[&claimed.partition]);
                }
                ClaimAnswer::OtherTopic { partition, stored } => {
                    self.hold(&[partition], &created_again(stored, topic_id));
                }
            }
        }
        if !claimed_partitions.is_empty() {
            let partitions = claimed_partitions;
            tracing::info!(pipeline = &*self.pipeline, ?partitions, "partitions claimed");
        }
        Ok(())
    }

    /// On a pipeline's first claim all partitions of the topic get a position, at `start`. A partition that
    /// has none later was added to the topic meanwhile: it begins with its first message whatever `start`
    /// says, or messages would be passed over.
    fn initialise(&self, topic_id: Uuid, partitions: &[i32]) -> Result<(), Fault> {
        let known = self.store.known()?;
        let (start, missing) = if known.is_empty() {
            (self.start, self.member.partitions()?)
        } else {
            let missing = partitions.iter().copied().filter(|it| !known.contains(it));
            (Start::Earliest, missing.collect())
        };
        if missing.is_empty() {
            return Ok(());
        }
        let starts = missing
            .into_iter()
            .map(|partition| Ok((partition, self.member.start_of(partition, start)?)))
            .collect::<Result<Vec<_>, Fault>>()?;
        self.store.initialise(topic_id, &starts)
    }

    /// When the topic was deleted and created again, offsets mean other messages: nothing more may be
    /// written under the old claims, ours included.
    fn check_identity(&mut self) {
        let Some(known) = self.topic_id else { return };
        let partitions = self.ownership.partitions();
        if partitions.is_empty() {
            return;
        }
        let fault = match self.member.topic_id() {
            Ok(found) if found == known => return,
            Ok(found) => created_again(known, found),
            Err(fault) if fault.remedy == Remedy::Retry => return,
            Err(fault) => fault,
        };
        self.topic_id = None;
        if let Err(fault) = self.store.fence(&partitions) {
            tracing::warn!(code = fault.code, "could not fence our own writes: {}", fault.message);
        }
        self.hold(&partitions, &fault);
    }

    fn advise(&mut self, mode: CommitMode) {
        let advice = std::mem::take(&mut self.advice);
        self.member.advise(advice.into_iter(), mode);
    }
}

fn created_again(stored: Uuid, found: Uuid) -> Fault {
    Fault::stop(
        "SL-K015",
        format!("the topic was deleted and created again (id {stored}, now {found})"),
    )
}
