//! The process that is measured: does one job, and says on its standard output from when on it counts and when
//! it was done. It ends with its standard input.

use std::io::{BufRead as _, Write as _, stdin};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sluice::cli::log;
use sluice::settings::Settings;

use crate::clocks;
use crate::way::Way;
pub use evenly::{Evenly, Seen};

mod copy;
mod drain;
mod evenly;
mod feed;
mod host;
mod link;
mod pipeline;

/// What a process is started for.
#[derive(Debug, Serialize, Deserialize)]
pub enum Work {
    /// One measurement.
    Turn(Job),
    /// A host with the pipeline that this file describes; see [`host`].
    Host(PathBuf),
    /// A producer; see [`feed`].
    Feed(Feed),
    /// A producer that sends at an even rate; see [`evenly`].
    Evenly(Evenly),
}

/// What to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Which row of the table.
    pub way: Way,
    /// Settings of the pipeline; the halves take from them what they need.
    pub settings: PathBuf,
    /// Messages in the topic.
    pub messages: u64,
    /// Partitions of the topic.
    pub partitions: i32,
    /// True when the host's start-up is all that does not count; otherwise all up to the first commit.
    pub from_start: bool,
    /// Table with the rows that `copy` writes.
    pub reference: String,
}

/// What to send.
#[derive(Debug, Serialize, Deserialize)]
pub struct Feed {
    /// Where.
    pub brokers: String,
    /// To which topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// Bad messages among a thousand.
    pub bad_per_mille: u32,
    /// How many messages to be ahead of those that are done.
    pub ahead: u64,
}

/// What was sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fed {
    /// Messages.
    pub sent: u64,
    /// Those of them that become dead letters.
    pub bad: u64,
    /// Those that the broker has.
    pub acknowledged: u64,
    /// The offset behind the last of these, by partition; in the last word only.
    pub ends: Vec<i64>,
}

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub enum Mark {
    /// From here on it counts.
    Begun(Begun),
    /// Everything is done.
    Done(Done),
}

/// The beginning of what counts.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begun {
    /// How long it took from the end of all preparations.
    pub after: Duration,
    /// CPU time since the process began.
    pub cpu: Duration,
}

/// The result of a job.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Messages since.
    pub messages: u64,
    /// Commits since; 0 where no host is measured.
    pub commits: u64,
    /// The time they took.
    pub time: Duration,
    /// CPU time since the process began.
    pub cpu: Duration,
    /// Most memory the process had.
    pub peak_bytes: u64,
}

/// Does the work that `text` describes.
pub fn run(text: &str) -> Result<()> {
    // As in the host's `main`.
    sluice::memory::keep_freed_memory();
    let work: Work = serde_json::from_str(text)?;
    log::start(&log::Arguments { log_format: log::LogFormat::Text, log_level: None }, "info");
    match work {
        Work::Turn(job) => turn(&job),
        Work::Host(settings) => host::run(&load(&settings)?),
        Work::Feed(feed) => feed::run(&feed),
        Work::Evenly(order) => evenly::run(&order),
    }
}

fn load(settings: &PathBuf) -> Result<Settings> {
    let settings = Settings::load_all(std::slice::from_ref(settings))?;
    settings.into_iter().next().context("no settings")
}

fn turn(job: &Job) -> Result<()> {
    let settings = load(&job.settings)?;
    match job.way {
        Way::Drain => drain::run(job, &settings),
        Way::Copy => copy::run(job, &settings),
        _ => pipeline::run(job, &settings),
    }
}

/// Says that it counts from now on, which is `after` the preparations.
fn begun(after: Duration) -> Result<()> {
    say(&Mark::Begun(Begun { after, cpu: own_cpu() }))
}

/// Says that `messages` took `time` and `commits`. Returns when the one who measures has read the clocks of all others: until
/// then sessions and clients must stay, for what ends is counted elsewhere.
fn done(messages: u64, commits: u64, time: Duration) -> Result<()> {
    let peak_bytes = clocks::peak_bytes()?;
    say(&Mark::Done(Done { messages, commits, time, cpu: own_cpu(), peak_bytes }))?;
    stdin().lock().read_line(&mut String::new()).map(drop).context("read standard input")
}

/// The thread that watches does nothing that the host would do.
fn own_cpu() -> Duration {
    clocks::of_process(std::process::id()).saturating_sub(clocks::of_this_thread())
}

fn say(what: &impl Serialize) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, what)?;
    writeln!(stdout).and_then(|()| stdout.flush()).context("write standard output")
}
