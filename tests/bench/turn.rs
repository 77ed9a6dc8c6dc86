//! One measurement: a child process does the job while the clocks of all who take part are read.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sluice_tests::host::Pipeline;
use sluice_tests::postgres::Database;

use crate::apart::{start, tail};
use crate::arguments::Arguments;
use crate::clocks;
use crate::figures::{Figures, Totals};
use crate::inside::{Begun, Done, Job, Mark, Work};
use crate::load::Load;
use crate::priority::prefer;
use crate::servers::Servers;
use crate::settings;
use crate::way::Way;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// What is measured.
    pub way: Way,
    /// With which messages.
    pub load: Load,
    /// Lanes of the host.
    pub lanes: usize,
    /// Most messages of a batch.
    pub batch: usize,
    /// True when all counts from the end of the host's start-up on, not from its first commit.
    pub from_start: bool,
    /// The host's pace, where the row has one of its own.
    pub pace: Option<&'static str>,
}

impl Case {
    /// `short road`
    pub fn name(&self) -> String {
        format!("{} {}", self.load.shape_name(), self.way.name())
    }
}

/// A case with all that belongs to one measurement of it.
pub struct Turn<'a> {
    /// What is measured.
    pub case: &'a Case,
    /// The topic.
    pub topic: &'a str,
    /// Name of the pipeline.
    pub name: String,
    /// The component.
    pub plugin: PathBuf,
    /// Table with the rows that the topic becomes.
    pub reference: String,
    /// Whose clocks are read.
    pub servers: &'a Servers,
    /// Where the rows go.
    pub database: &'a Database,
    /// What all turns have in common.
    pub arguments: &'a Arguments,
}

/// The clocks of a moment.
struct Clocks {
    at: Instant,
    postgres: Duration,
    broker: Duration,
    machine: Duration,
    wal_bytes: u64,
}

impl Turn<'_> {
    /// Measures once.
    pub fn run(&self) -> Result<Figures> {
        let log = self.servers.folder.join("host.log");
        self.measure(&log).with_context(|| tail(&log))
    }

    fn measure(&self, log: &Path) -> Result<Figures> {
        let mut child = start(&Work::Turn(self.job()?), log)?;
        let word = child.stdin.take().context("the process has no input")?;
        let mut marks = BufReader::new(child.stdout.take().context("the process has no output")?);
        prefer([child.id(), self.servers.broker, self.servers.postgres]);
        let Mark::Begun(begun) = next(&mut marks)? else { bail!("done before it has begun") };
        let before = self.clocks()?;
        prefer(clocks::children(self.servers.postgres));
        let Mark::Done(done) = next(&mut marks)? else { bail!("begun twice") };
        let after = self.clocks()?;
        drop(word);
        let status = child.wait()?;
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(figures(&begun, &before, &done, &after))
    }

    fn job(&self) -> Result<Job> {
        Ok(Job {
            way: self.case.way,
            settings: self.settings()?,
            messages: self.case.load.messages,
            partitions: self.case.load.partitions,
            from_start: self.case.from_start,
            reference: self.reference.clone(),
        })
    }

    fn settings(&self) -> Result<PathBuf> {
        let Case { way, lanes, batch, pace, .. } = *self.case;
        let pace = pace.or(self.arguments.pace.as_deref());
        let pipeline = Pipeline {
            batch_lines: settings::batch_lines(batch, pace),
            lanes,
            sink_lines: way.sink().to_owned(),
            ..settings::of(self.arguments, self.servers, &self.name, self.topic, &self.plugin)
        };
        pipeline.write(&self.servers.folder)
    }

    fn clocks(&self) -> Result<Clocks> {
        Ok(Clocks {
            wal_bytes: wal_bytes(self.database)?,
            at: Instant::now(),
            postgres: clocks::of_tree(self.servers.postgres),
            broker: clocks::of_process(self.servers.broker),
            machine: clocks::of_machine()?,
        })
    }
}

/// How much WAL was ever written.
pub fn wal_bytes(database: &Database) -> Result<u64> {
    let bytes = database.number("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")?;
    Ok(u64::try_from(bytes)?)
}

/// What happened between the two marks, a message.
fn figures(begun: &Begun, before: &Clocks, done: &Done, after: &Clocks) -> Figures {
    let host = done.cpu.saturating_sub(begun.cpu);
    let postgres = after.postgres.saturating_sub(before.postgres);
    let broker = after.broker.saturating_sub(before.broker);
    let all = after.machine.saturating_sub(before.machine);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let foreign = all.saturating_sub(host + postgres + broker).as_secs_f64()
        / ((after.at - before.at).as_secs_f64() * cores as f64);
    let per_message = |cpu: Duration| Some(cpu.as_secs_f64() * 1e6 / done.messages as f64);
    Figures {
        per_second: done.messages as f64 / done.time.as_secs_f64(),
        host_us: per_message(host),
        postgres_us: per_message(postgres),
        broker_us: per_message(broker),
        memory_mb: Some(done.peak_bytes as f64 / 1e6),
        start_ms: Some(begun.after.as_secs_f64() * 1e3),
        foreign_percent: Some(foreign * 100.0),
        totals: Some(Totals {
            messages: done.messages,
            commits: done.commits,
            time: done.time,
            wal_bytes: after.wal_bytes - before.wal_bytes,
        }),
    }
}

fn next(marks: &mut BufReader<ChildStdout>) -> Result<Mark> {
    let mut line = String::new();
    marks.read_line(&mut line)?;
    serde_json::from_str(&line).context("it said nothing")
}
