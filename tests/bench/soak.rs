//! The host at full speed for a long time: does it stay as fast as it was, does its memory stay what it was, and
//! is every message accounted for in the end?
//!
//! A producer stays a million messages ahead, the plugin is swapped all the time, old messages and old rows go,
//! and Postgres vacuums and writes its checkpoints as always.

mod books;
mod periods;
mod plugins;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice::pipeline::counters::Snapshot;
use sluice::simulate::producer::{create_topic, unique};
use sluice_tests::child::resident_bytes;
use sluice_tests::postgres::Database;

use crate::apart::Party;
use crate::arguments::Arguments;
use crate::clocks;
use crate::inside::{Fed, Feed, Work};
use crate::load::target;
use crate::priority::prefer;
use crate::scene::{build_plugins, open_database};
use crate::servers::{self, Servers};
use crate::settings;
use crate::way::Way;
use books::Books;
use periods::{Period, Reading, Report, Watched};
use plugins::Plugins;

/// How far the producer is ahead of the commits. The lag stays near it: the host never waits for messages, and
/// never comes near those that Kafka removes.
const AHEAD: u64 = 1_250_000;
/// More than the bytes of a message, its key, and what Kafka adds.
const MESSAGE_BYTES: u64 = 256;
/// A half of what Kafka keeps of a partition.
const PARTITION_BYTES: u64 = 64 << 20;
/// Time between two looks at the counters, and two words to the producer.
const LOOK: Duration = Duration::from_millis(100);
const SWAP_EVERY: Duration = Duration::from_secs(10);
/// So often that the rows of a fast machine fit on the disk, too.
const CLEAN_EVERY: Duration = Duration::from_secs(30);
/// Time between two lines, in soaks that are long enough.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// The part at the beginning that is compared with the one at the end.
const COMPARED: u32 = 6;
/// What all files together may take.
const DISK_MAX: u64 = 10_000_000_000;
const SPREAD: &str =
    "SELECT coalesce(max(next_offset) - min(next_offset), 0) FROM sluice.positions";
/// A pipeline that does nothing for so long has a fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the host for so many minutes.
pub fn run(arguments: &Arguments, minutes: f64) -> Result<()> {
    let time = Duration::try_from_secs_f64(minutes * 60.0)?;
    ensure!(time >= SWAP_EVERY * COMPARED, "a soak takes a minute at least");
    ensure!(
        AHEAD * MESSAGE_BYTES / u64::try_from(arguments.partitions)? < PARTITION_BYTES,
        "too few partitions: Kafka would remove messages that were not read"
    );
    let servers = Ending(Servers::find_or_start(&servers::SOAK, false)?);
    let mut soak = Soak::open(arguments, &servers.0)?;
    let report = soak.drive(time)?;
    let books = soak.close()?;
    println!("\n{report}\n{books}");
    ensure!(books.fit(), "the books do not fit");
    Ok(())
}

/// Servers that end with the soak.
struct Ending(Servers);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Err(error) = self.0.end() {
            eprintln!("broker and Postgres may be still there: {error:#}");
        }
    }
}

struct Soak<'a> {
    arguments: &'a Arguments,
    servers: &'a Servers,
    database: Database,
    plugins: Plugins,
    feeder: Party<Fed>,
    host: Party<Snapshot>,
}

impl<'a> Soak<'a> {
    fn open(arguments: &'a Arguments, servers: &'a Servers) -> Result<Self> {
        let database = open_database(servers)?;
        database.execute(&Way::Road.table())?;
        build_plugins(&servers.folder)?;
        let plugins = Plugins::place(servers.folder.join("readings.wasm"))?;
        let topic = unique("soak");
        create_topic(&target(&servers.brokers, &topic), arguments.partitions)?;
        let feed = Work::Feed(Feed {
            brokers: servers.brokers.clone(),
            topic: topic.clone(),
            partitions: arguments.partitions,
            bad_per_mille: arguments.bad_per_mille,
            ahead: AHEAD,
        });
        let mut feeder: Party<Fed> = Party::start(&feed, &servers.folder, "feeder")?;
        let settings = settings::of(arguments, servers, "soak", &topic, plugins.file())
            .write(&servers.folder)?;
        wait_for("the producer is ahead", || {
            feeder.tell(0)?;
            Ok(feeder.latest()?.acknowledged >= AHEAD)
        })?;
        let mut host: Party<Snapshot> =
            Party::start(&Work::Host(settings), &servers.folder, "host")?;
        wait_for("the first commit", || Ok(host.latest()?.messages > 0))?;
        let soak = Self { arguments, servers, database, plugins, feeder, host };
        let sessions = clocks::children(servers.postgres);
        prefer(soak.all().into_iter().chain(sessions));
        Ok(soak)
    }

    /// Host, Postgres, broker and producer.
    fn all(&self) -> [u32; 4] {
        [self.host.pid(), self.servers.postgres, self.servers.broker, self.feeder.pid()]
    }

    /// The soak itself; prints a line now and then.
    fn drive(&mut self, time: Duration) -> Result<Report> {
        let (stop, cleaner) = clean_all_the_time(self.database.again()?);
        let every = LINE_EVERY.min(time / COMPARED);
        let mut periods = Vec::new();
        println!("{}", Period::heading());
        let start = Instant::now();
        let mut before = self.read()?;
        let mut swap_at = start + SWAP_EVERY;
        let mut line_at = start + every;
        while start.elapsed() < time {
            let watched = self.watch(line_at, &mut swap_at)?;
            line_at += every;
            let now = self.read()?;
            let period = Period::between(&before, &now, watched);
            println!("{}", period.line(start.elapsed()));
            ensure!(now.disk < DISK_MAX, "{} MB on disk are too many", now.disk / 1_000_000);
            periods.push(period);
            before = now;
        }
        drop(stop);
        let blocked = cleaner.join().ok().context("the cleaner panicked")??;
        println!("the slowest TRUNCATE took {} ms", blocked.as_millis());
        Ok(Report::new(&periods, COMPARED as usize))
    }

    /// Keeps the producer going and swaps the plugin until `end`.
    fn watch(&mut self, end: Instant, swap_at: &mut Instant) -> Result<Watched> {
        let mut watched = Watched::default();
        let (mut messages, mut moved) = (0, Instant::now());
        while Instant::now() < end {
            let (counts, fed) = (self.host.latest()?, self.feeder.latest()?);
            self.feeder.tell(counts.messages)?;
            if counts.messages > messages {
                (messages, moved) = (counts.messages, Instant::now());
            }
            let lag = fed.acknowledged.saturating_sub(messages);
            watched.look(lag, resident_bytes(self.host.pid())?, moved.elapsed());
            ensure!(moved.elapsed() < PATIENCE, "nothing moves any more");
            if Instant::now() >= *swap_at {
                self.plugins.swap()?;
                *swap_at += SWAP_EVERY;
            }
            std::thread::sleep(LOOK);
        }
        Ok(watched)
    }

    fn read(&mut self) -> Result<Reading> {
        let [host, postgres, broker, feeder] = self.all();
        Ok(Reading {
            at: Instant::now(),
            counts: self.host.latest()?,
            sent: self.feeder.latest()?.sent,
            cpu: [
                clocks::of_process(host),
                clocks::of_tree(postgres),
                clocks::of_process(broker),
                clocks::of_process(feeder),
            ],
            machine: clocks::of_machine()?,
            postgres_bytes: clocks::memory_of_tree(postgres),
            broker_bytes: resident_bytes(broker)?,
            disk: self.servers.folders().into_iter().map(clocks::disk_of).sum(),
            spread: u64::try_from(self.database.number(SPREAD)?)?,
        })
    }

    /// Lets the host write what was sent, ends it, and checks the books.
    fn close(self) -> Result<Books> {
        let Self { arguments, database, plugins, feeder, mut host, .. } = self;
        let fed = feeder.finish()?;
        wait_for("everything is committed", || Ok(host.latest()?.messages >= fed.sent))?;
        let counts = host.finish()?;
        Books::check(&database, &fed, &counts, plugins.swaps(), arguments.lanes as u64)
    }
}

fn wait_for(what: &str, probe: impl FnMut() -> Result<bool>) -> Result<()> {
    sluice_tests::wait::until_true(what, PATIENCE, probe)
}

type Cleaner = std::thread::JoinHandle<Result<Duration>>;

/// Empties the tables now and then, until the sender is gone; returns how long that took at most. Each table by
/// itself: who has one lock and waits for another could wait for a host that does the same.
fn clean_all_the_time(database: Database) -> (Sender<()>, Cleaner) {
    let (stop, stopped) = channel::<()>();
    let clean = move || {
        let mut slowest = Duration::ZERO;
        while stopped.recv_timeout(CLEAN_EVERY) == Err(RecvTimeoutError::Timeout) {
            for table in ["readings", "sluice.dead_letters"] {
                let start = Instant::now();
                database.execute(&format!("TRUNCATE {table}"))?;
                slowest = start.elapsed().max(slowest);
            }
        }
        Ok(slowest)
    };
    (stop, std::thread::spawn(clean))
}
