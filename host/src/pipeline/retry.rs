//! Parked messages once more: those that are due go through the plugin as batches of their own, and leave
//! `sluice.parked` in the transaction that writes their rows. Any host may do it; locks keep them apart.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::Deployed;
use super::backlog::Backlog;
use super::budget::DeadLetterBudget;
use super::counters::Counters;
use super::order::Question;
use super::replay::{batch_of, ranges_of};
use super::work::Worker;
use crate::backoff::Backoff;
use crate::bell::{Mailbox, Post};
use crate::fault::{self, Fault, Remedy, sqlstate};
use crate::plugin::fault::INTERRUPTED;
use crate::plugin::slot::Slot;
use crate::rows::{self, Rejection};
use crate::sink::dead_letters::read::DeadLetter;
use crate::sink::parked::due::{Due, Next, Results};
use crate::sink::parked::looks::{LOOK_EVERY, Watched};
use crate::sink::postgres::{Diagnosis, can_be_diagnosed};
use crate::sink::{Parking, Prepared, WaitingKeys};
use crate::threads::{self, Job, Turn, Work};

/// Of the time at most one part in so many goes into looking for what is due: millions may wait behind others.
const LOOK_SHARE: u32 = 20;
/// How often a batch is tried again of which Postgres refuses rows, and none of them when asked.
const FRUITLESS_MAX: u32 = 5;

/// What it is made of.
pub struct Parts {
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// The version of the plugin in use now.
    pub slot: Arc<Slot<Deployed>>,
    /// The parked messages.
    pub due: Due,
    /// Rings when there are any.
    pub parked: Arc<Watched>,
    /// What is tried again.
    pub parking: Parking,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// How many dead letters may be made.
    pub budget: Arc<DeadLetterBudget>,
    /// How many messages are parked.
    pub backlog: Arc<Backlog>,
    /// Lanes ask here which keys are free. It ends when nobody can ask any more.
    pub questions: Mailbox<Question>,
    /// For what waits on Postgres.
    pub runtime: Handle,
    /// Told if it panics.
    pub end: Post<Result<(), Fault>>,
}

/// Starts what tries parked messages again.
pub fn start(parts: Parts) -> Job<()> {
    let (runtime, bell) = (parts.runtime.clone(), parts.questions.bell.clone());
    let retrier = Retrier {
        parts,
        worker: None,
        spare: Prepared::default(),
        trouble: Trouble::default(),
        next_round: None,
    };
    threads::spawn(&runtime, bell, retrier)
}

struct Retrier {
    parts: Parts,
    /// Made with the first message.
    worker: Option<Worker>,
    spare: Prepared,
    trouble: Trouble,
    /// None while nothing is parked, as far as is known.
    next_round: Option<Instant>,
}

impl Retrier {
    /// A round if it is time for one, and answers.
    fn advance(&mut self) -> Turn<()> {
        if self.next_round.is_none() && self.parts.parked.take_found() {
            self.next_round = Some(Instant::now());
        }
        if self.next_round.is_some_and(|it| Instant::now() >= it) {
            let wait = self.round_or_pause();
            self.next_round = wait.map(|it| Instant::now() + it);
        }
        loop {
            match self.parts.questions.things.try_recv() {
                Ok(question) => self.answer(question),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Turn::End(()),
            }
        }
        let left = |it: Instant| it.saturating_duration_since(Instant::now());
        Turn::Sleep(self.next_round.map_or(Duration::MAX, left))
    }

    /// Returns when there is to be another round, if anything is parked.
    fn round_or_pause(&mut self) -> Option<Duration> {
        match self.round() {
            Ok(wait) => {
                self.trouble.over(&self.parts.pipeline);
                wait
            }
            Err(fault) => {
                self.parts.due.release();
                if sqlstate::depends_on_size(&fault.sqlstate) {
                    self.parts.due.take_fewer();
                }
                Some(self.trouble.met(&self.parts.pipeline, &fault))
            }
        }
    }

    /// Deals with one batch, if messages are due; returns how long nothing else will be, `None` when nothing is parked.
    fn round(&mut self) -> Result<Option<Duration>, Fault> {
        if !self.parts.budget.has_room(Instant::now()) {
            // Each may be the last attempt of a message: they wait as the lanes do.
            return Ok(Some(LOOK_EVERY));
        }
        let runtime = self.parts.runtime.clone();
        let begun = Instant::now();
        let Next { wait, behind, more } = runtime.block_on(self.parts.due.next())?;
        if wait.is_none() && !behind && !more {
            // At most a few wait, for what others have in their hands.
            self.parts.backlog.clear();
        } else if let Some(max) = self.parts.backlog.wants_count(begun) {
            let messages = runtime.block_on(self.parts.due.count(max))?;
            self.parts.backlog.counted(messages, begun, Instant::now());
        }
        let pause = begun.elapsed() * LOOK_SHARE;
        let is_due = wait.is_some_and(|wait| wait.is_zero());
        let wait = match wait.map(|wait| wait.min(LOOK_EVERY).max(pause)) {
            _ if more => Some(pause),
            wait => wait,
        };
        if !is_due && !behind {
            self.parts.due.rest();
            return Ok(wait);
        }
        let moved = self.batch(&runtime)?;
        // What is due and was not taken is in other hands, or behind what is.
        Ok(match (moved, is_due) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => Some(LOOK_EVERY.max(pause)),
            (false, false) => wait,
        })
    }

    fn batch(&mut self, runtime: &Handle) -> Result<bool, Fault> {
        if self.worker.is_none() {
            self.worker = Some(Worker::new(self.parts.pipeline.clone(), &self.parts.slot)?);
        }
        let worker = self.worker.as_mut().expect("made above");
        worker.swap(&self.parts.slot);
        let (plan, version) = (worker.deployed().plan.clone(), worker.deployed().version.clone());
        let messages = runtime.block_on(self.parts.due.take(&plan))?;
        if messages.is_empty() {
            self.parts.due.release();
            return Ok(false);
        }
        let mut batch = batch_of(&messages);
        let parking = Parking {
            tried: messages.iter().map(|message| message.attempts as u32).collect(),
            kept: true,
            ..self.parts.parking.clone()
        };
        let (spare, ranges) = (std::mem::take(&mut self.spare), ranges_of(&messages));
        let waiting = WaitingKeys::default();
        let processed = self
            .parts
            .due
            .keep_open(runtime, || worker.process(&mut batch, ranges, parking, &waiting, spare));
        let (_, mut prepared) = processed?;
        let refused = runtime.block_on(self.parts.due.ask(&plan, &prepared))?;
        if !refused.is_empty() {
            prepared.reject(&batch, &refused);
        }
        let mut fruitless = 0;
        loop {
            let results = self.results(&messages, &prepared);
            let due = &mut self.parts.due;
            let settled = runtime.block_on(due.settle(&plan, &prepared, &results, &version));
            match settled {
                Ok(dropped) => {
                    self.count(&results);
                    let (names, sent) = (plan.table_names(), prepared.rows_of_tables());
                    let counters = &self.parts.counters;
                    counters.dropped.note(&self.parts.pipeline, names, sent, &dropped);
                    self.spare = prepared;
                    return Ok(true);
                }
                Err(fault) if can_be_diagnosed(&fault) && fruitless < FRUITLESS_MAX => {
                    match runtime.block_on(due.diagnose(&plan, &prepared))? {
                        Diagnosis::Rows(rejections) => prepared.reject(&batch, &rejections),
                        Diagnosis::Nothing => fruitless += 1,
                        Diagnosis::Changed(next) => {
                            Deployed::replace_plan(&self.parts.slot, &plan, Arc::from(next));
                            due.release();
                            return Ok(true);
                        }
                    }
                    if !runtime.block_on(due.take_again(&plan, &messages))? {
                        due.release();
                        return Ok(false);
                    }
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    fn results(&self, messages: &[DeadLetter], prepared: &Prepared) -> Results {
        let rule = &self.parts.parking.rule;
        let mut results = Results {
            passed: prepared.passed().map(|(message, rows)| (messages[message].id, rows)).collect(),
            ..Results::default()
        };
        for rejection in prepared.kept() {
            let message = &messages[rejection.message as usize];
            let attempts = message.attempts as u32 + 1;
            if rejection.retry && rule.goes_on(attempts) {
                let pause = rule.pause_after(attempts);
                results.again.push((message.id, rejection.clone(), pause));
            } else {
                results.gave_up.push((message.id, rejection.clone()));
            }
        }
        results
    }

    fn count(&self, results: &Results) {
        let Results { passed, gave_up, again } = results;
        let counters = &self.parts.counters;
        Counters::add(&counters.retried, passed.len() as u64);
        Counters::add(&counters.given_up, gave_up.len() as u64);
        self.parts.budget.spend(gave_up.len() as u64, Instant::now());
        self.parts.backlog.remove((passed.len() + gave_up.len()) as u64);
        if let Some((_, Rejection { stage, code, reason, .. })) = gave_up.first() {
            let reason = rows::loggable(*stage, code, reason);
            tracing::warn!(
                pipeline = &*self.parts.pipeline,
                messages = gave_up.len(),
                stage = stage.name(),
                rejection = code,
                "parked messages became dead letters after their last attempt; the first: {reason}"
            );
        }
        tracing::debug!(
            pipeline = &*self.parts.pipeline,
            passed = passed.len(),
            again = again.len(),
            gave_up = gave_up.len(),
            "parked messages retried"
        );
    }

    fn answer(&mut self, Question { topic_id, keys, answer }: Question) {
        let free = self.parts.due.free(topic_id, keys);
        // No answer is one, too: the lane asks again.
        if let Ok(free) = self.parts.runtime.block_on(free) {
            let _ = answer.send(free);
        }
    }
}

impl Work for Retrier {
    type End = ();

    fn turn(&mut self) -> Turn<()> {
        let who = "what tries parked messages again";
        fault::caught(who, || Ok(self.advance())).unwrap_or_else(|fault| {
            // Fails only when nobody waits for the pipeline any more.
            let _ = self.parts.end.send(Err(fault));
            Turn::End(())
        })
    }
}

/// A time in which retries do not work, told in one line at its beginning and one at its end; but not an outage,
/// of which the lanes tell.
#[derive(Default)]
struct Trouble {
    backoff: Backoff,
    code: Option<&'static str>,
}

impl Trouble {
    fn met(&mut self, pipeline: &str, fault: &Fault) -> Duration {
        let is_news = self.code != Some(fault.code) && fault.code != INTERRUPTED;
        if fault.remedy != Remedy::Retry && is_news {
            self.code = Some(fault.code);
            tracing::warn!(
                pipeline,
                code = fault.code,
                "cannot retry parked messages now: {fault}"
            );
        }
        self.backoff.pause()
    }

    fn over(&mut self, pipeline: &str) {
        if self.code.is_some() {
            tracing::info!(pipeline, "retries of parked messages resumed");
        }
        *self = Self::default();
    }
}
