//! A lane: owns some partitions, one guest instance and one Postgres connection, and has a thread while it has work.
//! It fetches, decodes, calls the plugin and encodes, while the batch before is on its way to Postgres.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::batch::Batch;
use crate::bell::{Bell, Post};
use crate::fault::Fault;
use crate::pipeline::Deployed;
use crate::pipeline::backlog::Backlog;
use crate::pipeline::brake::Brake;
use crate::pipeline::budget::DeadLetterBudget;
use crate::pipeline::counters::Counters;
use crate::pipeline::order::{KeyOrder, Question};
use crate::pipeline::work::Worker;
use crate::plugin::fault::INTERRUPTED;
use crate::plugin::slot::Slot;
use crate::rows::{self, Rejection};
use crate::sink::postgres::{Writer, Written};
use crate::sink::{Parking, Prepared, WaitingKeys};
use crate::source::position::Positions;
use crate::source::rebalance::{Command, Report, Shared};
use crate::source::{Room, Source};

mod batches;
mod pace;

use batches::{RateLimited, Ready, Until, Writing};
use pace::{IDLE_WAIT, LOOK_AROUND, Pace};

/// How long a lane that was told to finish may take to write what it has.
const FINISH_WAIT: Duration = Duration::from_secs(20);
/// How long it waits, when there is nothing else to write, to learn that the topic is still the one that it has read.
const DOUBT_WAIT: Duration = Duration::from_secs(1);
/// How long batches stay small after one that was too large for a limit of the server.
const SMALLER_FOR: Duration = Duration::from_hours(1);

/// What a lane is made of.
pub struct Parts {
    /// Its number, for the log.
    pub number: usize,
    /// Reads messages.
    pub source: Box<dyn Source + Send>,
    /// Makes a connection for the topic's incarnation.
    pub connect: Box<dyn Fn(Uuid) -> Writer + Send>,
    /// The version of the plugin in use now.
    pub slot: Arc<Slot<Deployed>>,
    /// What it is told.
    pub commands: Receiver<Command>,
    /// Rung by source, writer, and whoever tells it something.
    pub bell: Arc<Bell>,
    /// What it tells the claimer, and what both know.
    pub shared: Shared,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// How many dead letters it may make.
    pub budget: Arc<DeadLetterBudget>,
    /// How many messages are parked.
    pub backlog: Arc<Backlog>,
    /// Stops it when no row is taken any more.
    pub brake: Arc<Brake>,
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// Name of the topic.
    pub topic: String,
    /// How large a batch may get.
    pub room: Room,
    /// Least time from the begin of a write to the next, unless a batch is full.
    pub pace: Duration,
    /// What is tried again.
    pub parking: Parking,
    /// Asks which keys are free again.
    pub questions: Post<Question>,
}

/// A lane at work.
pub struct Lane {
    parts: Parts,
    worker: Worker,
    positions: Positions,
    batch: Batch,
    /// When messages were put into the batch last, or a partition got ahead without.
    read: Instant,
    /// When one did for which no message was put into the batch since.
    passed: Option<Instant>,
    ready: Option<Ready>,
    writer: Option<(Uuid, Writer)>,
    writing: Option<Writing>,
    rate_limited: Option<RateLimited>,
    /// Most messages of a batch for now: less than is allowed after one was rate-limited.
    messages_max: usize,
    pace: Pace,
    /// No batch is larger until then: one was too large.
    smaller: Option<(usize, Instant)>,
    spare: Vec<Prepared>,
    spare_batches: Vec<Batch>,
    order: KeyOrder,
    finishing: bool,
}

impl Lane {
    /// Sets up the lane on the thread that will run it.
    pub fn new(parts: Parts) -> Result<Self, Fault> {
        let worker = Worker::new(parts.pipeline.clone(), &parts.slot)?;
        let batch = Batch::new(&parts.topic);
        let order = KeyOrder::new(parts.questions.clone(), parts.bell.clone());
        let (messages_max, pace) = (parts.room.messages_max, Pace::new(parts.pace));
        Ok(Self {
            parts,
            worker,
            positions: Positions::default(),
            batch,
            read: Instant::now(),
            passed: None,
            ready: None,
            writer: None,
            writing: None,
            rate_limited: None,
            messages_max,
            pace,
            smaller: None,
            spare: Vec::new(),
            spare_batches: Vec::new(),
            order,
            finishing: false,
        })
    }

    /// Moves messages until there is nothing to do; returns for how long if nobody rings, or `None` when it was told to
    /// finish and has.
    ///
    /// # Errors
    /// A fault that only a person can mend.
    pub fn run(&mut self) -> Result<Option<Duration>, Fault> {
        loop {
            self.obey()?;
            if self.finishing {
                break;
            }
            if let Some((topic_id, _)) = &self.writer {
                self.order.look(*topic_id, Instant::now());
            }
            let wait = if self.rate_limited.is_some() { self.resume()? } else { self.gather() };
            let learned = self.take_receipt(Duration::ZERO)?;
            let processes = self.should_process(Instant::now());
            if processes {
                self.process()?;
            }
            if !self.write() && !processes && !learned && !wait.is_zero() {
                return Ok(Some(wait));
            }
        }
        self.drain(Instant::now() + FINISH_WAIT)?;
        Ok(None)
    }

    fn obey(&mut self) -> Result<(), Fault> {
        loop {
            let command = match self.parts.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    // The pipeline could not begin as a whole.
                    self.finishing = true;
                    return Ok(());
                }
            };
            self.parts.source.hurry();
            match command {
                Command::Start { claimed, topic_id, waiting } => {
                    self.connect(topic_id)?;
                    self.order.own(claimed.partition, &waiting);
                    self.positions.own(claimed);
                    self.start(claimed.partition)?;
                }
                Command::Release { partitions, deadline, done } => {
                    self.release(&partitions, deadline)?;
                    // Nobody waits for a partition that was lost.
                    let _ = done.send(());
                }
                Command::Finish => self.finishing = true,
            }
        }
    }

    /// One connection for all partitions; another incarnation of the topic needs another one.
    fn connect(&mut self, topic_id: Uuid) -> Result<(), Fault> {
        if self.writer.as_ref().is_some_and(|(id, _)| *id == topic_id) {
            return Ok(());
        }
        self.drain(Instant::now())?;
        self.writer = Some((topic_id, (self.parts.connect)(topic_id)));
        Ok(())
    }

    fn busy(&self) -> bool {
        self.writer.as_ref().is_some_and(|(_, writer)| writer.busy())
    }

    fn room(&self) -> Room {
        Room { messages_max: self.messages_max, ..self.parts.room }
    }

    fn swap(&mut self) -> bool {
        let swapped = self.worker.swap(&self.parts.slot);
        if swapped {
            Counters::add(&self.parts.counters.swaps, 1);
            self.parts.budget.begin_version(&self.parts.slot.current().version.digest);
        }
        swapped
    }

    fn process(&mut self) -> Result<(), Fault> {
        if !self.parts.backlog.has_room() {
            self.rate_limited = Some(RateLimited::new(Until::FewerParked, &self.parts.counters));
            self.batch.clear();
            return Ok(());
        }
        let (begun, full) = (Instant::now(), self.room().is_full(&self.batch));
        self.parts.source.hurry();
        self.pace.note(&self.batch);
        self.passed = None;
        self.swap();
        let ranges = self.positions.close_batch();
        let spare = self.spare.pop().unwrap_or_default();
        let (parking, waiting) = (self.parts.parking.clone(), self.order.waiting());
        let made = self.worker.process(&mut self.batch, ranges, parking, waiting, spare);
        let (plan, prepared) = match made {
            // Whoever has the partitions next reads it again.
            Err(fault) if fault.code == INTERRUPTED => return self.throw_away(),
            made => made?,
        };
        self.learn_largest_call();
        let reservation = match self.parts.budget.reserve(prepared.dead_letters(), Instant::now()) {
            Ok(reservation) => reservation,
            Err(free) => {
                self.limit_rate(prepared, free);
                return Ok(());
            }
        };
        self.parts.brake.check(prepared.has_rows(), prepared.rejected())?;
        self.messages_max = self.messages_max.saturating_mul(2).min(self.largest_batch());
        let number = self.order.made(&prepared);
        let next = self.spare_batches.pop().unwrap_or_else(|| Batch::new(&self.parts.topic));
        let batch = std::mem::replace(&mut self.batch, next);
        self.ready = Some(Ready { plan, prepared, batch, number, reservation, begun, full });
        Ok(())
    }

    fn largest_batch(&mut self) -> usize {
        self.smaller = self.smaller.filter(|(_, until)| Instant::now() < *until);
        let max = self.parts.room.messages_max;
        self.smaller.map_or(max, |(messages, _)| messages.min(max))
    }

    /// There is room for `free` dead letters, and the batch would make more: the next one ends ahead of the first
    /// dead letter too many.
    fn limit_rate(&mut self, prepared: Prepared, free: u64) {
        self.parts.budget.log_rate_limited(&prepared, Instant::now());
        let messages = prepared.messages_ahead_of_dead_letter(free);
        self.messages_max = messages.max(1);
        let until = if messages == 0 { Until::RoomForDeadLetters } else { Until::Now };
        self.rate_limited = Some(RateLimited::new(until, &self.parts.counters));
        self.spare.push(prepared);
        self.batch.clear();
    }

    /// Nothing is read while a batch is rate-limited. Goes on when there is room for dead letters again, or another version
    /// of the plugin, which may make fewer. Returns how long it does not.
    fn resume(&mut self) -> Result<Duration, Fault> {
        let wait = self.parts.source.rest_while_full();
        // Reading begins again where the committed positions stand: not while they may still move.
        if self.busy() {
            return Ok(wait.min(IDLE_WAIT));
        }
        let waits = match self.rate_limited.as_ref().map(|limited| limited.until) {
            Some(Until::RoomForDeadLetters) => {
                !self.swap() && !self.parts.budget.has_room(Instant::now())
            }
            Some(Until::FewerParked) => !self.parts.backlog.has_room(),
            Some(Until::Now) | None => false,
        };
        if waits {
            return Ok(wait.min(LOOK_AROUND));
        }
        self.rate_limited = None;
        self.rewind()?;
        Ok(Duration::ZERO)
    }

    /// Begins to write what is ready, if nothing is being written; says whether it did.
    fn write(&mut self) -> bool {
        let Some((_, writer)) = self.writer.as_mut().filter(|(_, writer)| !writer.busy()) else {
            return false;
        };
        let Some(ready) = self.ready.take() else { return false };
        let Ready { plan, prepared, batch, number, reservation, begun, full } = ready;
        if !batch.is_empty() {
            self.pace.begin(Instant::now());
        }
        writer.write(plan.clone(), prepared);
        let reservation = Some(reservation);
        self.writing = Some(Writing { plan, batch, number, reservation, begun, full });
        true
    }

    /// Waits at most for `wait` until it is known what became of the batch that is being written; says whether it is.
    fn take_receipt(&mut self, wait: Duration) -> Result<bool, Fault> {
        let Some((_, writer)) = &mut self.writer else { return Ok(false) };
        let written = if wait.is_zero() { writer.poll() } else { writer.wait(wait) };
        let Some(written) = written else { return Ok(false) };
        self.learn(written)?;
        Ok(true)
    }

    fn learn(&mut self, written: Written) -> Result<(), Fault> {
        match written {
            Written::Done { receipt, reuse } => {
                self.count(&receipt, &reuse);
                self.parts.brake.written(reuse.has_rows(), reuse.rejected());
                if let Some(Writing { number, reservation, .. }) = &mut self.writing {
                    self.order.committed(*number);
                    let dead_letters = receipt.ranges().iter().map(|range| range.rejected).sum();
                    reservation
                        .take()
                        .into_iter()
                        .for_each(|it| it.spend(dead_letters, Instant::now()));
                }
                self.written(reuse);
                self.positions.commit(&receipt);
                let next = receipt.ranges().iter().map(|range| (range.partition, range.to));
                self.parts.shared.committed.note(next);
                Ok(())
            }
            Written::Fenced { partitions, reuse } => {
                self.written(reuse);
                self.fenced(partitions)
            }
            Written::Refused { rejections, prepared } => self.write_without(&rejections, prepared),
            Written::Changed { plan, reuse } => {
                if let Some(Writing { plan: old, .. }) = &self.writing {
                    Deployed::replace_plan(&self.parts.slot, old, plan);
                }
                self.written(reuse);
                // The same messages once more, encoded for the tables as they are.
                self.rewind()
            }
            Written::TooLarge { fault, reuse } => self.make_smaller(&fault, reuse),
            Written::Stopped { fault, .. } => Err(fault),
        }
    }

    /// Writes the batch again, with dead letters in the place of rows that were refused.
    fn write_without(
        &mut self,
        rejections: &[Rejection],
        mut prepared: Prepared,
    ) -> Result<(), Fault> {
        let (Some((_, writer)), Some(writing)) = (&mut self.writer, &self.writing) else {
            return Ok(());
        };
        let Writing { plan, batch, number, .. } = writing;
        let Some(first) = rejections.first() else { return Ok(()) };
        let message = first.message as usize;
        tracing::warn!(
            pipeline = &*self.parts.pipeline,
            messages = rejections.len(),
            partition = batch.partitions[message],
            offset = batch.offsets[message],
            sqlstate = first.code,
            "rows rejected by Postgres, their messages become dead letters; the first: {}",
            rows::loggable(first.stage, &first.code, &first.reason)
        );
        let known = prepared.parked_keys().len();
        prepared.reject(batch, rejections);
        self.parts.brake.check(prepared.has_rows(), prepared.rejected())?;
        let mut fresh = WaitingKeys::default();
        for &(partition, key) in &prepared.parked_keys()[known..] {
            fresh.insert(partition, key, *number);
        }
        self.order.parked(&prepared.parked_keys()[known..], *number);
        writer.write(plan.clone(), prepared);
        // The batch behind was made when nobody knew.
        if let Some(ready) = &mut self.ready {
            ready.prepared.wait_behind(&ready.batch, &fresh);
            self.order.parked(ready.prepared.parked_keys(), ready.number);
        }
        Ok(())
    }

    /// Somebody else has claimed partitions of the batch: nothing of it was written. They are released,
    /// and the others are read again from what is committed.
    fn fenced(&mut self, partitions: Vec<i32>) -> Result<(), Fault> {
        Counters::add(&self.parts.counters.fenced, 1);
        tracing::warn!(
            pipeline = &*self.parts.pipeline,
            ?partitions,
            code = "SL-P016",
            "batch fenced"
        );
        for &partition in &partitions {
            self.leave(partition)?;
        }
        self.report(Report::Fenced(partitions));
        self.rewind()
    }

    fn release(&mut self, partitions: &[i32], deadline: Instant) -> Result<(), Fault> {
        let owned: Vec<i32> =
            partitions.iter().copied().filter(|&it| self.positions.owns(it)).collect();
        for &partition in &owned {
            // No new messages of it; those gathered are still written.
            self.parts.source.stop(partition)?;
        }
        self.drain(deadline)?;
        // Once more: a drain that failed has started all partitions again.
        owned.into_iter().try_for_each(|partition| self.leave(partition))
    }

    fn leave(&mut self, partition: i32) -> Result<(), Fault> {
        self.positions.forget(partition);
        self.order.forget(partition);
        self.parts.source.stop(partition)
    }

    /// Writes what was gathered, as long as `deadline` allows. What is not written then is thrown away
    /// together with the connection, so that it cannot come through later unseen, and is read again.
    fn drain(&mut self, deadline: Instant) -> Result<(), Fault> {
        let in_doubt = Instant::now() + DOUBT_WAIT;
        let mut wait = Duration::ZERO;
        loop {
            self.take_receipt(wait)?;
            if !self.has_gathered_nothing() && self.ready.is_none() && self.is_known() {
                self.process()?;
            }
            self.write();
            let nothing_on_its_way = !self.busy() && self.ready.is_none();
            if nothing_on_its_way && self.has_gathered_nothing() {
                return Ok(());
            }
            let deadline = if nothing_on_its_way { deadline.min(in_doubt) } else { deadline };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.throw_away();
            }
            wait = left.min(IDLE_WAIT);
        }
    }

    fn throw_away(&mut self) -> Result<(), Fault> {
        if let Some((topic_id, writer)) = self.writer.take() {
            drop(writer);
            self.writer = Some((topic_id, (self.parts.connect)(topic_id)));
        }
        self.rewind()
    }

    /// Reads all partitions again from what is known to be committed.
    fn rewind(&mut self) -> Result<(), Fault> {
        self.batch.clear();
        self.passed = None;
        if let Some(Ready { prepared, batch, .. }) = self.ready.take() {
            self.spare.push(prepared);
            self.spare_batch(batch);
        }
        if let Some(Writing { batch, .. }) = self.writing.take() {
            self.spare_batch(batch);
        }
        for (partition, offset) in self.positions.rewind() {
            self.parts.source.stop(partition)?;
            self.parts.source.start(partition, offset)?;
        }
        Ok(())
    }

    fn start(&mut self, partition: i32) -> Result<(), Fault> {
        let offset = self.positions.begin(partition);
        offset.map_or(Ok(()), |offset| self.parts.source.start(partition, offset))
    }

    fn report(&self, report: Report) {
        // Fails only while the pipeline ends, when nobody needs it any more.
        let _ = self.parts.shared.reports.send(report);
    }
}
