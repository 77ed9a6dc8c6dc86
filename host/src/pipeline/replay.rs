//! Dead letters once more: those that are chosen go through the plugin as it is now; the rows of a batch are written
//! and its dead letters removed in one transaction.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::work::Worker;
use super::{Deployed, gate};
use crate::backoff::Backoff;
use crate::batch::{Batch, Message};
use crate::fault::{Fault, Remedy, sqlstate};
use crate::plugin::load::Loader;
use crate::plugin::slot::Slot;
use crate::rows::{Rejection, Stage};
use crate::settings::{BatchSettings, Settings};
use crate::sink::dead_letters::Selection;
use crate::sink::dead_letters::read::DeadLetter;
use crate::sink::dead_letters::replay::{End, Replay as DeadLetters, Results};
use crate::sink::postgres::{Diagnosis, Options, can_be_diagnosed};
use crate::sink::{Parking, Prepared, Range, Version, WaitingKeys};

/// Dead letters in a batch: a step of the progress, and what is done again after a fault.
const DEAD_LETTERS_MAX: usize = 10_000;
/// How often a batch is tried while Postgres is away or busy, before the one who waits is told.
const ATTEMPTS_MAX: u32 = 5;

/// A replay under way.
pub struct Replay {
    runtime: Handle,
    deployed: Arc<Deployed>,
    worker: Worker,
    dead_letters: DeadLetters,
    room: BatchSettings,
    spare: Prepared,
    tally: Tally,
}

/// What became of the dead letters so far. After a dry run: what would have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Dead letters that were dealt with.
    pub dead_letters: u64,
    /// Dead letters that became rows.
    pub rows_from: u64,
    /// Rows, table by table in the order of the plugin's outputs, without those that triggers have dropped.
    pub rows: Vec<u64>,
    /// Rows that triggers have dropped, over all tables.
    pub dropped: u64,
    /// Dead letters of which the plugin kept nothing.
    pub filtered: u64,
    /// Dead letters that were rejected again.
    pub rejected: Vec<StillRejected>,
    /// Dead letters skipped, because another replay had taken them.
    pub busy: u64,
}

/// Dead letters that were rejected again, at one stage and with one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillRejected {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub code: String,
    /// How many.
    pub dead_letters: u64,
    /// Id of the first of them.
    pub example: i64,
    /// Its reason.
    pub reason: String,
}

impl Replay {
    /// Loads the plugin, compares its outputs with the tables, and connects. With `dry_run` nothing is changed, then
    /// or later: all is done in transactions that are rolled back. Blocks; not to be called on a thread of `runtime`.
    ///
    /// # Errors
    /// What is wrong with plugin or tables; `SL-P001` when Postgres cannot be reached.
    pub fn open(
        settings: &Settings,
        selection: Selection,
        dry_run: bool,
        runtime: &Handle,
    ) -> Result<Self, Fault> {
        let name: Arc<str> = settings.pipeline.name.as_str().into();
        let owner = format!("replay-{}", std::process::id());
        let options = Options::of(&settings.sink)?.named(&name, &owner);
        let end = if dry_run { End::RollBack } else { End::Commit };
        let dead_letters = runtime.block_on(DeadLetters::open(&options, &name, selection, end))?;
        let generation = Loader::new(&name, &settings.plugin).load_file(&settings.plugin.path)?;
        let deployed = Arc::new(gate(settings, &options, runtime)(&generation)?);
        let worker = Worker::new(name, &Slot::new(deployed.clone()))?;
        let max_messages = settings.batch.max_messages.min(DEAD_LETTERS_MAX);
        let rows = vec![0; generation.description.outputs.len()];
        Ok(Self {
            runtime: runtime.clone(),
            deployed,
            worker,
            dead_letters,
            room: BatchSettings { max_messages, ..settings.batch },
            spare: Prepared::default(),
            tally: Tally { rows, ..Tally::default() },
        })
    }

    /// The version of the plugin that the dead letters go through.
    pub fn version(&self) -> &Version {
        &self.deployed.version
    }

    /// The tables that rows go to, in the order of the plugin's outputs.
    pub fn tables(&self) -> Vec<String> {
        self.deployed.plan.table_names().map(str::to_owned).collect()
    }

    /// How many dead letters are selected and not dealt with yet.
    pub fn count(&self) -> Result<u64, Fault> {
        self.runtime.block_on(self.dead_letters.count())
    }

    /// How many of the selected dead letters keep but a part of their message: they stay dead letters.
    pub fn count_cut(&self) -> Result<u64, Fault> {
        self.runtime.block_on(self.dead_letters.count_cut())
    }

    /// What became of the dead letters so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Deals with one more batch of at most `max` dead letters. False when there was none left.
    ///
    /// # Errors
    /// What keeps the batch from being dealt with; its dead letters are where they were. An outage after a few attempts.
    pub fn step(&mut self, max: u64) -> Result<bool, Fault> {
        let mut backoff = Backoff::default();
        loop {
            match self.batch(max) {
                Err(fault)
                    if fault.remedy == Remedy::Retry && backoff.attempts() < ATTEMPTS_MAX =>
                {
                    std::thread::sleep(backoff.pause());
                }
                done => return done,
            }
        }
    }

    fn batch(&mut self, max: u64) -> Result<bool, Fault> {
        let max_messages = self.room.max_messages.min(usize::try_from(max).unwrap_or(usize::MAX));
        let room = BatchSettings { max_messages, ..self.room };
        let ids = self.runtime.block_on(self.dead_letters.next(&room))?;
        let Some(last) = ids.last() else { return Ok(false) };
        let taken = self.runtime.block_on(self.dead_letters.take(&self.deployed.plan, &ids))?;
        let mut batch = batch_of(&taken);
        let mut prepared = self.process(&mut batch, ranges_of(&taken))?;
        let (results, dropped) = match self.settle(&taken, &prepared) {
            Err(fault) if can_be_diagnosed(&fault) => {
                self.turn_refused_away(&ids, &taken, &batch, &mut prepared)?;
                self.settle(&taken, &prepared)?
            }
            settled => settled?,
        };
        self.tally.busy += (ids.len() - taken.len()) as u64;
        self.tally.add(&prepared, &results, &dropped);
        self.dead_letters.pass(*last);
        self.spare = prepared;
        Ok(true)
    }

    /// Sends the dead letters through the plugin, while they stay taken.
    fn process(&mut self, batch: &mut Batch, ranges: Vec<Range>) -> Result<Prepared, Fault> {
        let (worker, spare) = (&mut self.worker, std::mem::take(&mut self.spare));
        // A dead letter that is to be tried later stays one: it was asked for now.
        let parking = Parking { kept: true, ..Parking::default() };
        let waiting = WaitingKeys::default();
        let process = || worker.process(batch, ranges, parking, &waiting, spare);
        let (_, prepared) = self.dead_letters.keep_open(&self.runtime, process)?;
        Ok(prepared)
    }

    fn settle(
        &mut self,
        taken: &[DeadLetter],
        prepared: &Prepared,
    ) -> Result<(Results, Vec<u64>), Fault> {
        let results = results(taken, prepared);
        let Deployed { plan, version, .. } = &*self.deployed;
        let settled = self.dead_letters.settle(plan, prepared, &results, version);
        let dropped = self.runtime.block_on(settled)?;
        Ok((results, dropped))
    }

    /// After Postgres has refused rows: their dead letters are rejected, and all are taken again.
    fn turn_refused_away(
        &mut self,
        ids: &[i64],
        taken: &[DeadLetter],
        batch: &Batch,
        prepared: &mut Prepared,
    ) -> Result<(), Fault> {
        let plan = &self.deployed.plan;
        match self.runtime.block_on(self.dead_letters.diagnose(plan, prepared))? {
            Diagnosis::Rows(rejections) => prepared.reject(batch, &rejections),
            Diagnosis::Nothing => {}
            Diagnosis::Changed(next) => {
                let Deployed { generation, version, .. } = &*self.deployed;
                let (generation, version) = (generation.clone(), version.clone());
                let slot =
                    Slot::new(Arc::new(Deployed { generation, plan: Arc::from(next), version }));
                self.deployed = slot.current();
                self.worker.swap(&slot);
                let message = "tables were changed in the meantime";
                return Err(Fault::retry(sqlstate::CONTENTION, message));
            }
        }
        let again = self.runtime.block_on(self.dead_letters.take(plan, ids))?;
        if !again
            .iter()
            .map(|dead_letter| dead_letter.id)
            .eq(taken.iter().map(|dead_letter| dead_letter.id))
        {
            let message = "dead letters were taken by somebody else in the meantime";
            return Err(Fault::retry(sqlstate::CONTENTION, message));
        }
        Ok(())
    }
}

/// The dead letters' messages, as they were.
pub(super) fn batch_of(dead_letters: &[DeadLetter]) -> Batch {
    let mut batch = Batch::new(dead_letters.first().map_or("", |dead_letter| &dead_letter.topic));
    for dead_letter in dead_letters {
        batch.push(Message {
            partition: dead_letter.partition,
            offset: dead_letter.offset,
            timestamp_us: dead_letter.timestamp_us.unwrap_or(-1),
            key: dead_letter.key.as_deref(),
            payload: dead_letter.payload.as_deref(),
        });
        for (name, value) in &dead_letter.headers {
            batch.push_header(name, value.as_deref());
        }
        batch.close_message();
    }
    batch
}

/// For counting, and for the words of a fault; no position moves.
pub(super) fn ranges_of(dead_letters: &[DeadLetter]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for DeadLetter { partition, offset, .. } in dead_letters {
        match ranges.iter_mut().find(|range| range.partition == *partition) {
            Some(range) => {
                range.from = range.from.min(*offset);
                range.to = range.to.max(offset + 1);
            }
            None => ranges.push(Range {
                partition: *partition,
                from: *offset,
                to: offset + 1,
                ..Range::default()
            }),
        }
    }
    ranges
}

fn results(dead_letters: &[DeadLetter], prepared: &Prepared) -> Results {
    Results {
        passed: prepared.passed().map(|(message, rows)| (dead_letters[message].id, rows)).collect(),
        rejected: (prepared.kept().iter())
            .map(|rejection| (dead_letters[rejection.message as usize].id, rejection.clone()))
            .collect(),
    }
}

impl Tally {
    fn add(&mut self, prepared: &Prepared, results: &Results, dropped: &[u64]) {
        for range in prepared.ranges() {
            self.dead_letters += range.messages;
            self.rows_from += range.rows_from;
            self.filtered += range.filtered;
        }
        for (sum, rows) in self.rows.iter_mut().zip(prepared.rows_of_tables()) {
            *sum += rows as u64;
        }
        for (sum, dropped) in self.rows.iter_mut().zip(dropped) {
            *sum -= dropped;
        }
        self.dropped += dropped.iter().sum::<u64>();
        for (id, rejection) in &results.rejected {
            self.reject(*id, rejection);
        }
    }

    fn reject(&mut self, id: i64, rejection: &Rejection) {
        let Rejection { stage, code, reason, .. } = rejection;
        let same = |known: &&mut StillRejected| known.stage == *stage && known.code == *code;
        match self.rejected.iter_mut().find(same) {
            Some(known) => known.dead_letters += 1,
            None => self.rejected.push(StillRejected {
                stage: *stage,
                code: code.clone(),
                dead_letters: 1,
                example: id,
                reason: reason.clone(),
            }),
        }
    }
}
