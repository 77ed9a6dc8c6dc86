//! What a steady rate costs, and how soon its messages are visible: hosts write what a producer sends evenly, and
//! nobody looks at the database while it counts.
//!
//! When a row became visible, Postgres knows: it notes the time of each commit (`track_commit_timestamp`), and each
//! reading says when it was sent, to half a millisecond. So the latency is that of all rows of the interval, and no
//! reader polls, whose queries would be much of what Postgres has to do.
//! Postgres notes the time as it begins to commit. Others see the rows when the WAL is on disk: what that takes
//! Postgres counts (`track_wal_io_timing`), and its mean is added. Where a commit waits for another's flush it is
//! visible a little later still.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use sluice::pipeline::counters::Snapshot;
use sluice::simulate::producer::{create_topic, unique};
use sluice_tests::host::Pipeline;
use sluice_tests::postgres::Database;
use sluice_tests::wait::{SOON, until_true};

use crate::apart::Party;
use crate::arguments::Arguments;
use crate::clocks;
use crate::inside::{Evenly, Seen, Work};
use crate::load::target;
use crate::priority::prefer;
use crate::scene::Scene;
use crate::settings;
use crate::turn::wal_bytes;
use crate::way::Way;

/// Until code is compiled, files are open, caches filled, partitions spread over as few lanes as are needed, and the pages
/// that each batch changes are in the WAL.
const WARM_UP: Duration = Duration::from_secs(10);

/// Messages a second of 500,000 devices that send one a minute each.
pub const DEVICES: u64 = 8_334;

/// A load that does not change.
#[derive(Debug, Clone, Copy)]
pub struct Steady<'a> {
    /// Messages a second.
    pub per_second: u64,
    /// The host's pace, unless it is its own default.
    pub pace: Option<&'a str>,
    /// Append or upsert.
    pub way: Way,
    /// How many hosts share the partitions.
    pub hosts: usize,
    /// For how long it counts.
    pub counted: Duration,
}

/// What it cost: CPU as percent of one core.
#[derive(Debug, Clone, Copy)]
pub struct Costs {
    /// All hosts together.
    pub host_percent: f64,
    /// All backends and background processes.
    pub postgres_percent: f64,
    /// The JVM.
    pub broker_percent: f64,
    /// Who sends.
    pub producer_percent: f64,
    /// Share of the machine that others used.
    pub foreign_percent: f64,
    pub commits_per_second: f64,
    pub messages_a_commit: f64,
    /// All WAL that Postgres wrote: rows, dead letters, positions and lineage, their indexes, and commit records. Hardly
    /// a full-page image is in it, as there is no checkpoint between the warm-up and the end.
    pub wal_bytes_a_message: f64,
    /// From the time of a message to the commit of its row, in milliseconds: p50, p99, p99.9 and the most.
    pub visible_ms: [f64; 4],
    /// From the call that sends it to the broker's acknowledgement: p50 and p99.
    pub acknowledged_ms: [f64; 2],
    /// How much later than it was due a message was sent at most.
    pub late_ms: f64,
    /// What a flush of the WAL took.
    pub flush_ms: f64,
    /// Of one host.
    pub threads: f64,
    /// Connections to Postgres of one host.
    pub connections: f64,
}

/// Measures once.
pub fn measure(scene: &Scene<'_>, arguments: &Arguments, steady: &Steady<'_>) -> Result<Costs> {
    scene.clean(steady.way)?;
    // One minute in six or so it would analyse the table just now.
    scene.database().execute("ALTER TABLE readings SET (autovacuum_enabled = false)")?;
    let (servers, partitions) = (scene.servers(), arguments.partitions);
    // Name of the topic and of the pipeline.
    let name = unique("steady");
    create_topic(&target(&servers.brokers, &name), partitions)?;
    let plugin = servers.folder.join("readings.wasm");
    let pace = steady.pace.or(arguments.pace.as_deref());
    let pipeline = Pipeline {
        batch_lines: settings::batch_lines(arguments.batch, pace),
        sink_lines: steady.way.sink().to_owned(),
        ..settings::of(arguments, servers, &name, &name, &plugin)
    };
    let settings = pipeline.write(&servers.folder)?;
    let mut hosts = start_hosts(scene, steady.hosts, &settings)?;
    let claimed = format!(
        "SELECT count(*) = {partitions} AND count(DISTINCT owner) = {} FROM sluice.positions
         WHERE pipeline = '{name}'",
        steady.hosts
    );
    until_true("the hosts share the partitions", SOON, || {
        hosts.iter_mut().try_for_each(|host| host.latest().map(drop))?;
        let migrated = "SELECT to_regclass('sluice.positions') IS NOT NULL";
        Ok(scene.database().is_true(migrated)? && scene.database().is_true(&claimed)?)
    })?;
    let order = Work::Evenly(Evenly {
        brokers: servers.brokers.clone(),
        topic: name,
        partitions,
        bad_per_mille: arguments.bad_per_mille,
        per_second: steady.per_second,
        warm_up: WARM_UP,
        counted: steady.counted,
    });
    let mut producer: Party<Seen> = Party::start(&order, &servers.folder, "producer")?;
    until_true("the producer begins", SOON, || Ok(producer.latest()?.begun))?;
    let mut watched = Watched { scene, hosts, producer: producer.pid() };
    prefer(watched.processes());
    std::thread::sleep(WARM_UP);
    let (flushes, wal) = (Flushes::read(scene.database())?, wal_bytes(scene.database())?);
    let before = watched.clocks()?;
    std::thread::sleep(steady.counted);
    let after = watched.clocks()?;
    let wal = wal_bytes(scene.database())? - wal;
    let [threads, connections] = watched.threads_and_connections()?;
    let seen = producer.finish()?;
    let counts = watched.finish(seen.sent)?;
    check(scene, counts, &seen)?;
    let flush_ms = flushes.mean_ms_since(scene.database())?;
    let visible_ms = visible(scene.database(), &before, &after)?.map(|ms| ms + flush_ms);
    Ok(Costs { visible_ms, flush_ms, threads, connections, ..costs(&before, &after, wal, &seen) })
}

fn start_hosts(scene: &Scene<'_>, hosts: usize, settings: &Path) -> Result<Vec<Party<Snapshot>>> {
    let folder = &scene.servers().folder;
    let work = Work::Host(settings.to_path_buf());
    (0..hosts).map(|number| Party::start(&work, folder, &format!("host-{number}"))).collect()
}

/// Every message has become a row or a dead letter, once.
fn check(scene: &Scene<'_>, messages: u64, seen: &Seen) -> Result<()> {
    ensure!(messages == seen.sent, "{messages} messages of {}", seen.sent);
    let rows = u64::try_from(scene.database().number("SELECT count(*) FROM readings")?)?;
    ensure!(rows == seen.sent - seen.bad, "{rows} rows of {} messages", seen.sent);
    Ok(())
}

/// Whose clocks are read.
struct Watched<'a> {
    scene: &'a Scene<'a>,
    hosts: Vec<Party<Snapshot>>,
    producer: u32,
}

/// The clocks of a moment: those of hosts, Postgres, broker and producer, and of the machine.
struct Clocks {
    at: Instant,
    time: Timestamp,
    cpu: [Duration; 4],
    machine: Duration,
    messages: u64,
    batches: u64,
}

impl Watched<'_> {
    fn processes(&self) -> Vec<u32> {
        let servers = self.scene.servers();
        let own = [servers.postgres, servers.broker, self.producer];
        let hosts = self.hosts.iter().map(Party::pid);
        hosts.chain(own).chain(clocks::children(servers.postgres)).collect()
    }

    fn clocks(&mut self) -> Result<Clocks> {
        let (mut messages, mut batches) = (0, 0);
        for host in &mut self.hosts {
            let counts = host.latest()?;
            messages += counts.messages;
            batches += counts.batches;
        }
        let servers = self.scene.servers();
        Ok(Clocks {
            at: Instant::now(),
            time: Timestamp::now(),
            cpu: [
                self.hosts.iter().map(|host| clocks::of_process(host.pid())).sum(),
                clocks::of_tree(servers.postgres),
                clocks::of_process(servers.broker),
                clocks::of_process(self.producer),
            ],
            machine: clocks::of_machine()?,
            messages,
            batches,
        })
    }

    /// Of one host.
    fn threads_and_connections(&self) -> Result<[f64; 2]> {
        let hosts = self.hosts.len() as f64;
        let threads: usize = self.hosts.iter().map(|host| clocks::threads(host.pid())).sum();
        let connections = self.scene.database().number(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
             AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )?;
        Ok([threads as f64 / hosts, connections as f64 / hosts])
    }

    /// Ends the hosts when all that was sent is written: at a slow pace the last messages wait for their turn. Returns how
    /// many messages they have written.
    fn finish(mut self, sent: u64) -> Result<u64> {
        until_true("all messages are written", SOON, || Ok(self.clocks()?.messages >= sent))?;
        let counts: Result<Vec<_>> = self.hosts.into_iter().map(Party::finish).collect();
        Ok(counts?.iter().map(|counts| counts.messages).sum())
    }
}

/// How long flushes of the WAL took so far, in all, and how many there were.
struct Flushes {
    total_us: i64,
    count: i64,
}

impl Flushes {
    fn read(database: &Database) -> Result<Self> {
        let total = "SELECT (1000 * (wal_write_time + wal_sync_time))::bigint FROM pg_stat_wal";
        let total_us = database.number(total)?;
        Ok(Self { total_us, count: database.number("SELECT wal_sync FROM pg_stat_wal")? })
    }

    fn mean_ms_since(&self, database: &Database) -> Result<f64> {
        let now = Self::read(database)?;
        let count = (now.count - self.count).max(1);
        Ok((now.total_us - self.total_us) as f64 / count as f64 / 1e3)
    }
}

/// How long messages took that were sent between two moments: p50, p99, p99.9 and the most, in milliseconds.
fn visible(database: &Database, from: &Clocks, to: &Clocks) -> Result<[f64; 4]> {
    let quantiles = format!(
        "SELECT array_to_string(percentile_disc(ARRAY[0.5, 0.99, 0.999, 1]) WITHIN GROUP (ORDER BY took), ' ')
         FROM (SELECT (1000 * extract(epoch FROM pg_xact_commit_timestamp(xmin) - measured_at))::float8 AS took
               FROM readings WHERE measured_at >= '{}' AND measured_at < '{}') AS rows",
        from.time, to.time
    );
    let text = database.text(&quantiles)?.context("no row of the interval")?;
    let values: Vec<f64> = text.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    values.try_into().ok().context("four quantiles")
}

fn costs(before: &Clocks, after: &Clocks, wal: u64, seen: &Seen) -> Costs {
    let time = (after.at - before.at).as_secs_f64();
    let percent = |cpu: Duration| cpu.as_secs_f64() * 100.0 / time;
    let cpu: [Duration; 4] =
        std::array::from_fn(|who| after.cpu[who].saturating_sub(before.cpu[who]));
    let machine = after.machine.saturating_sub(before.machine);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let [host, postgres, broker, producer] = cpu.map(percent);
    let messages = (after.messages - before.messages) as f64;
    let batches = (after.batches - before.batches) as f64;
    Costs {
        host_percent: host,
        postgres_percent: postgres,
        broker_percent: broker,
        producer_percent: producer,
        foreign_percent: percent(machine.saturating_sub(cpu.iter().sum())) / cores as f64,
        commits_per_second: batches / time,
        messages_a_commit: messages / batches,
        wal_bytes_a_message: wal as f64 / messages,
        visible_ms: [0.0; 4],
        acknowledged_ms: [seen.acknowledged.p50_ms, seen.acknowledged.p99_ms],
        late_ms: seen.late_ms,
        flush_ms: 0.0,
        threads: 0.0,
        connections: 0.0,
    }
}
