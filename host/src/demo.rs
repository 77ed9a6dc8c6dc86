//! The main job, shown: half a million devices, an embedded broker, a throwaway Postgres, a plugin that is
//! replaced on the way. Runs the same pipeline as `sluice run`, from a settings file of its own, and
//! checks what it says about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;

use crate::fault::Fault;
use crate::pipeline::{self, Control};
use crate::progress::{Progress, Stream};
use crate::settings::Settings;
use crate::simulate::Producer;

use books::{Books, Sent};
use brokers::Brokers;
use database::Database;
use observer::{Observer, Seen, quantile};
use plugins::Plugins;
use screen::{Further, Live, Summary, Swap, short};
use traffic::{Around, Ended, Traffic};

mod books;
mod brokers;
mod database;
mod observer;
mod plugins;
pub mod postgres;
mod screen;
mod traffic;

/// Devices of the demo; each sends one reading a minute.
pub const DEVICES: u64 = 500_000;
/// Partitions of the topic.
pub const PARTITIONS: i32 = 12;
const BAD_PER_MILLE: u32 = 10;
const SEED: u64 = 22;
/// Around the swap, the slowest message is looked for within this time before and after.
const AROUND_SWAP_MS: u64 = 2500;

/// What a demo is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Real brokers instead of the embedded one.
    pub brokers: Option<String>,
    /// A real database instead of a throwaway one.
    pub database: Option<String>,
    /// Messages to send at once.
    pub messages: u64,
    /// Time during which messages are sent as they come.
    pub live: Duration,
    /// Leave everything running until `stop`.
    pub keep: bool,
    /// The component of the plugin `readings`.
    pub plugin: PathBuf,
}

/// How the demo ended, when nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything is accounted for.
    Accounted,
    /// Something is not; the screen says what.
    NotAccounted,
    /// `stop` was set before the end.
    Stopped,
}

/// Runs the demo, shows it on the standard output, and cleans up.
///
/// # Errors
/// Whatever keeps it from running; a [`Fault`] where there is a code for it.
pub fn run(options: &Options, stop: &AtomicBool) -> Result<End> {
    let start = Instant::now();
    let folder = private_folder()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stage = Stage::set(options, folder.path(), runtime.handle())?;
    if stop.load(Ordering::Relaxed) {
        return Ok(End::Stopped);
    }
    let road = Road::start(&stage.settings, runtime.handle())?;
    let summary = match stage.play(options, &road, stop, start) {
        Ok(summary) => summary,
        Err(Ended::Stopped) => {
            say("stopped; cleaning up");
            return Ok(End::Stopped);
        }
        Err(Ended::Failed(fault)) => return Err(fault.into()),
    };
    say(&format!("\n{summary}"));
    if options.keep {
        while !stop.load(Ordering::Relaxed) {
            road.alive()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        say("cleaning up");
    }
    road.end()?;
    let fits = summary.books.differences().is_empty();
    Ok(if fits { End::Accounted } else { End::NotAccounted })
}

/// For the settings, which may contain the password of a database.
fn private_folder() -> std::io::Result<tempfile::TempDir> {
    let mine = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("sluice-demo-").permissions(mine).tempdir()
}

/// Everything around the pipeline. Fields are dropped in this order.
struct Stage {
    database: Database,
    brokers: Brokers,
    plugins: Plugins,
    settings: PathBuf,
    pipeline: String,
    runtime: Handle,
}

impl Stage {
    fn set(options: &Options, folder: &Path, runtime: &Handle) -> Result<Self> {
        let plugins = Plugins::place(&options.plugin, folder)?;
        let brokers = Brokers::open(options.brokers.as_deref())?;
        say(&brokers.describe());
        // In a throwaway database nobody else has a pipeline.
        let pipeline = match options.database {
            Some(_) => crate::simulate::producer::unique("demo"),
            None => "demo".to_owned(),
        };
        let database =
            Database::open(options.database.as_deref(), &pipeline, runtime, &mut |line| say(line))?;
        say(&database.describe()?);
        let settings = folder.join("readings.toml");
        fs::write(&settings, settings_text(&pipeline, &brokers, &database, plugins.file()))
            .with_context(|| format!("write {}", settings.display()))?;
        let runtime = runtime.clone();
        Ok(Self { database, brokers, plugins, settings, pipeline, runtime })
    }

    fn play(
        &self,
        options: &Options,
        road: &Road,
        stop: &AtomicBool,
        start: Instant,
    ) -> Result<Summary, Ended> {
        let producer = Producer::connect(self.brokers.target())?;
        let ledger = producer.ledger();
        let session = self.database.session()?;
        let observer = Observer::start(session, &self.pipeline, ledger.clone(), &self.runtime);
        let seen = observer.seen();
        let live_messages = (options.live.as_secs_f64() * traffic::LIVE_PER_SECOND as f64) as u64;
        let progress = Progress::new(Stream::Stdout, options.messages + live_messages);
        let alive = || road.alive();
        let around = Around { seen, stop, alive: &alive, progress };
        let mut traffic = Traffic::new(producer, self.brokers.unread_bytes_max(), around);

        traffic.wait_for_claims()?;
        let at_once = traffic.timed(|traffic| traffic.at_once(options.messages))?;
        let live = self.play_live(&mut traffic, seen, options.live)?;
        let (messages, good) = traffic.sent();
        traffic.finish();

        let ends = (0..PARTITIONS).map(|partition| ledger.end(partition)).collect();
        let sent = Sent { messages, good, acknowledged: ledger.acknowledged(), ends };
        let books = Books { sent, written: self.database.written()? };
        Ok(Summary {
            books,
            at_once: (options.messages, at_once),
            live,
            further: self.further(options.keep),
            took: start.elapsed(),
        })
    }

    fn play_live(
        &self,
        traffic: &mut Traffic<'_>,
        seen: &Seen,
        time: Duration,
    ) -> Result<Live, Ended> {
        let [first, second] = self.plugins.digests();
        let from_ms = seen.now_ms();
        let mut swapped_ms = None;
        let time = traffic.live(time, |progress| {
            let (first, second) = (short(first), short(second));
            progress.note(&format!(
                "replacing readings {first} with {second} (the same code and a note: another digest)"
            ));
            seen.await_version(self.plugins.digests()[1].as_str());
            swapped_ms = Some(seen.now_ms());
            self.plugins.swap().map_err(|error| {
                Fault::block("SL-S005", "failed to replace the plugin").because(error)
            })
        })?;
        let mut latencies = seen.samples(from_ms..u64::MAX);
        Ok(Live {
            time,
            p50_ms: quantile(&mut latencies, 0.5),
            p99_ms: quantile(&mut latencies, 0.99),
            swap: swapped_ms.and_then(|at_ms| swap(seen, at_ms, from_ms)),
        })
    }

    fn further(&self, kept: bool) -> Further {
        Further {
            kept,
            url: self.database.shown_url(),
            settings: self.settings.display().to_string(),
            brokers: self.brokers.target().brokers.clone(),
            topic: self.brokers.target().topic.clone(),
            table: self.database.table(),
            program: program(),
        }
    }
}

/// How to call this program from the folder where it was started.
fn program() -> String {
    let Ok(file) = std::env::current_exe() else { return "sluice".to_owned() };
    let here = std::env::current_dir().unwrap_or_default();
    file.strip_prefix(&here).unwrap_or(&file).display().to_string()
}

/// How the swap at `at_ms` went, among messages sent from `from_ms` on; `None` when not all partitions have gone on with the new version.
fn swap(seen: &Seen, at_ms: u64, from_ms: u64) -> Option<Swap> {
    let arrived_ms = seen.arrived_ms()?;
    let around = at_ms.saturating_sub(AROUND_SWAP_MS).max(from_ms)..arrived_ms + AROUND_SWAP_MS;
    Some(Swap {
        took: Duration::from_millis(arrived_ms.saturating_sub(at_ms)),
        slowest_ms: seen.samples(around).into_iter().max().unwrap_or(0),
    })
}

/// The pipeline, as `sluice run` would run it. Ends when dropped.
struct Road {
    control: Control,
    ended: Receiver<Result<(), Fault>>,
}

impl Road {
    fn start(settings: &Path, runtime: &Handle) -> Result<Self> {
        let running = pipeline::start(&Settings::load(settings)?, runtime)?;
        let control = running.control();
        let (sender, ended) = channel();
        std::thread::Builder::new().name("sluice-demo".to_owned()).spawn(move || {
            // Nobody listens any more when the demo has failed.
            let _ = sender.send(running.wait().map(drop));
        })?;
        Ok(Self { control, ended })
    }

    /// Fails when the pipeline has ended by itself.
    fn alive(&self) -> Result<(), Fault> {
        match self.ended.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            Ok(Err(fault)) => Err(fault),
            Ok(Ok(())) | Err(TryRecvError::Disconnected) => {
                Err(Fault::block("SL-S008", "the pipeline ended before its time"))
            }
        }
    }

    /// Stops the pipeline and waits until it has.
    fn end(self) -> Result<(), Fault> {
        self.control.stop();
        self.ended.recv().unwrap_or(Ok(()))
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        self.control.stop();
        // Disconnected when it had ended before.
        let _ = self.ended.recv_timeout(Duration::from_secs(10));
    }
}

/// The shortest settings that do it.
fn settings_text(pipeline: &str, brokers: &Brokers, database: &Database, plugin: &Path) -> String {
    // What looks like a variable was filled in already, or is none.
    let quoted = |text: &str| toml::Value::String(text.replace("${", "$${")).to_string();
    let properties: Vec<_> = brokers
        .properties()
        .into_iter()
        .map(|(name, value)| format!("{} = {}", quoted(name), quoted(value)))
        .collect();
    let properties = match properties.as_slice() {
        [] => String::new(),
        some => format!("properties = {{ {} }}\n", some.join(", ")),
    };
    let target = brokers.target();
    format!(
        "[pipeline]\nname = {}\n\n[source]\nbrokers = {}\ntopic = {}\n{properties}\n[plugin]\npath = {}\n\n\
         [sink]\nurl = {}\ntable = {}\n",
        quoted(pipeline),
        quoted(&target.brokers),
        quoted(&target.topic),
        quoted(&plugin.display().to_string()),
        quoted(database.url()),
        quoted(&database.table()),
    )
}

fn say(line: &str) {
    Stream::Stdout.line(line);
}
