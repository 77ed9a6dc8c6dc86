//! How long does a message take to become a row, when messages come as evenly as from 500,000 devices that send
//! one a minute each? A producer that is started for it sends, and sees the rows appear; the host is as in `road`.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sluice::pipeline::counters::Snapshot;
use sluice::simulate::producer::{create_topic, unique};
use sluice_tests::wait::{SOON, until_true};

use crate::apart::Party;
use crate::arguments::Arguments;
use crate::clocks;
use crate::figures::cell;
use crate::inside::{Evenly, Seen, Work};
use crate::load::target;
use crate::priority::prefer;
use crate::scene::{DATABASE, Scene};
use crate::settings;
use crate::way::Way;

/// Until code is compiled, files are open and caches filled.
const WARM_UP: Duration = Duration::from_secs(4);
const COUNTED: Duration = Duration::from_secs(15);

const FIGURES: [&str; 13] = [
    "visible after ms, p50",
    "p99",
    "p99.9",
    "max",
    "acknowledged after ms, p50",
    "p99",
    "messages a commit",
    "host, % of a core",
    "Postgres, % of a core",
    "broker, % of a core",
    "producer and reader, %",
    "foreign, % of the machine",
    "sent late by ms, max",
];

/// All runs.
pub struct Latencies {
    per_second: u64,
    runs: Vec<[f64; FIGURES.len()]>,
}

/// Measures so many times.
pub fn measure(scene: &Scene<'_>, arguments: &Arguments, runs: usize) -> Result<Latencies> {
    let mut latencies = Latencies { per_second: arguments.per_second, runs: Vec::new() };
    for _ in 0..runs {
        let figures = once(scene, arguments)?;
        eprintln!("latency  visible p50 {:.1} ms  p99 {:.1} ms", figures[0], figures[1]);
        latencies.runs.push(figures);
    }
    Ok(latencies)
}

fn once(scene: &Scene<'_>, arguments: &Arguments) -> Result<[f64; FIGURES.len()]> {
    scene.clean(Way::Road)?;
    let servers = scene.servers();
    // Name of the topic and of the pipeline.
    let name = unique("latency");
    create_topic(&target(&servers.brokers, &name), arguments.partitions)?;
    let plugin = servers.folder.join("readings.wasm");
    let settings =
        settings::of(arguments, servers, &name, &name, &plugin).write(&servers.folder)?;
    let mut host: Party<Snapshot> = Party::start(&Work::Host(settings), &servers.folder, "host")?;
    let claimed = format!("SELECT count(*) FROM sluice.positions WHERE pipeline = '{name}'");
    until_true("all partitions are claimed", SOON, || {
        host.latest()?;
        let migrated = "SELECT to_regclass('sluice.positions') IS NOT NULL";
        Ok(scene.database().holds(migrated)?
            && scene.database().number(&claimed)? == i64::from(arguments.partitions))
    })?;
    let order = Work::Evenly(Evenly {
        brokers: servers.brokers.clone(),
        topic: name.clone(),
        partitions: arguments.partitions,
        bad_per_mille: arguments.bad_per_mille,
        per_second: arguments.per_second,
        warm_up: WARM_UP,
        counted: COUNTED,
        url: servers.url_of(DATABASE),
        pipeline: name,
    });
    let mut producer: Party<Seen> = Party::start(&order, &servers.folder, "producer")?;
    until_true("the producer begins", SOON, || Ok(producer.latest()?.begun))?;
    let sessions = clocks::children(servers.postgres);
    let all = [host.pid(), servers.postgres, servers.broker, producer.pid()];
    prefer(all.into_iter().chain(sessions));
    std::thread::sleep(WARM_UP);
    let before = Clocks::read(all, host.latest()?)?;
    std::thread::sleep(COUNTED);
    let after = Clocks::read(all, host.latest()?)?;
    let seen = producer.finish()?;
    let counts = host.finish()?;
    ensure!(counts.messages == seen.sent, "{} messages of {}", counts.messages, seen.sent);
    let rows = u64::try_from(scene.database().number("SELECT count(*) FROM readings")?)?;
    ensure!(rows == seen.sent - seen.bad, "{rows} rows of {} messages", seen.sent);
    Ok(figures(&seen, &before, &after))
}

/// The clocks of a moment: those of host, Postgres, broker and producer, and of the machine.
struct Clocks {
    at: Instant,
    cpu: [Duration; 4],
    machine: Duration,
    counts: Snapshot,
}

impl Clocks {
    fn read([host, postgres, broker, producer]: [u32; 4], counts: Snapshot) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            cpu: [
                clocks::of_process(host),
                clocks::of_tree(postgres),
                clocks::of_process(broker),
                clocks::of_process(producer),
            ],
            machine: clocks::of_machine().context("read the machine's clock")?,
            counts,
        })
    }
}

fn figures(seen: &Seen, before: &Clocks, after: &Clocks) -> [f64; FIGURES.len()] {
    let time = (after.at - before.at).as_secs_f64();
    let percent = |cpu: Duration| cpu.as_secs_f64() * 100.0 / time;
    let cpu: [Duration; 4] =
        std::array::from_fn(|who| after.cpu[who].saturating_sub(before.cpu[who]));
    let machine = after.machine.saturating_sub(before.machine);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let foreign = percent(machine.saturating_sub(cpu.iter().sum())) / cores as f64;
    let [host, postgres, broker, producer] = cpu.map(percent);
    let messages = after.counts.messages - before.counts.messages;
    let batches = after.counts.batches - before.counts.batches;
    [
        seen.visible.p50_ms,
        seen.visible.p99_ms,
        seen.visible.p999_ms,
        seen.visible.max_ms,
        seen.acknowledged.p50_ms,
        seen.acknowledged.p99_ms,
        messages as f64 / batches as f64,
        host,
        postgres,
        broker,
        producer,
        foreign,
        seen.late_ms,
    ]
}

impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = sluice::progress::count(self.per_second);
        writeln!(formatter, "\n{per_second} short readings a second, sent evenly:")?;
        for (index, name) in FIGURES.iter().enumerate() {
            let values = self.runs.iter().map(|figures| figures[index]).collect();
            let cell = cell(values, |value| format!("{value:.1}"));
            writeln!(formatter, "{name:>28} {cell:>24}")?;
        }
        Ok(())
    }
}
