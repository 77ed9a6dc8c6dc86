//! Both worlds at once: everything that may happen to hosts, to Kafka, to Postgres and to the table between them, in
//! random order and for as long as is asked for (an hour with `SLUICE_LONG=1`), and each kind at least once. In the end the
//! values of all rows, dead letters, positions and ranges of lineage are compared with the topic.
//!
//! A run prints its seed when it fails; `SLUICE_SEED` makes the same events again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use sluice_tests::checker::Readings;
use sluice_tests::counts::long;
use sluice_tests::host::Host;
use sluice_tests::load::{Load, Mix, Stream};
use sluice_tests::operator::blocked;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

use events::{EVENTS, Event};
use servers::Servers;

mod changes;
mod events;
mod servers;

const PARTITIONS: i32 = 3;

/// Messages a second outside of transactions, dead letters among them.
const RATE: u32 = 300;

/// Messages of each transaction.
const TRANSACTION: usize = 30;

/// Numbers of messages in transactions begin here, and as much later again for each producer, so that no two messages
/// are alike. Three times the greatest of them, which is `energy_wh`, fits an `integer`.
const NUMBERS: u64 = 50_000_000;

/// A pipeline that was blocked tries again after a minute at most, and claims of a lost host take another session.
const WRITTEN_MAX: Duration = Duration::from_secs(240);

/// Hosts, the topic, the table, and what is done to them.
struct Worlds {
    hosts: Vec<Host>,
    /// Hosts that were started so far.
    started: usize,
    stream: Option<Stream>,
    /// Sends in transactions.
    transactions: Load,
    /// Producers of transactions so far.
    producers: u64,
    scene: Scene,
    servers: Servers,
    random: Rng,
}

impl Worlds {
    fn begin(name: &str, seed: u64) -> Result<Self> {
        let (servers, scene) = Servers::begin(name, PARTITIONS)?;
        let transactions = producer(&scene, 1)?;
        let mut worlds = Self {
            hosts: Vec::new(),
            started: 0,
            stream: None,
            transactions,
            producers: 1,
            scene,
            servers,
            random: Rng::with_seed(seed),
        };
        worlds.start_host()?;
        worlds.start_host()?;
        worlds.stream = Some(Load::new(&worlds.scene.topic, Mix::default())?.stream(RATE));
        worlds.goes_on()?;
        Ok(worlds)
    }

    /// Starts one more host, and waits until it has its share of the partitions.
    fn start_host(&mut self) -> Result<()> {
        let mut pipeline = self.scene.pipeline()?.paced(self.started);
        pipeline = pipeline.property("session.timeout.ms", "3000");
        pipeline.url = self.servers.url();
        let host = self.scene.start(&format!("host-{}", self.started), &pipeline)?;
        self.started += 1;
        host.wait_for("partitions claimed", 2 * SOON)?;
        self.hosts.push(host);
        Ok(())
    }

    /// Makes all events once, and goes on with them, each round in another order, until the time is over.
    fn run(&mut self, time: Duration) -> Result<()> {
        let start = Instant::now();
        let mut events = EVENTS.to_vec();
        for round in 1.. {
            self.random.shuffle(&mut events);
            for (name, event) in &events {
                let begin = Instant::now();
                if round > 1 && start.elapsed() >= time {
                    return Ok(());
                }
                self.make(*event).with_context(|| self.state(name))?;
                println!("{:.1?}: {name}, {:.1?}", start.elapsed(), begin.elapsed());
            }
        }
        Ok(())
    }

    /// One event, and messages behind it on all partitions.
    fn make(&mut self, event: Event) -> Result<()> {
        event(self)?;
        self.commit_transaction()?;
        self.goes_on()
    }

    /// Waits until all is written that can be read now, and a message behind it on every partition.
    fn goes_on(&self) -> Result<()> {
        let ends = self.scene.topic.log_ends()?;
        let positions = || self.scene.positions(&self.scene.name);
        until_true("all partitions are written to", WRITTEN_MAX, || {
            let mut pairs = positions()?.into_iter().zip(&ends);
            Ok(pairs.all(|(position, end)| position.is_some_and(|position| position > *end)))
        })
        .with_context(|| format!("log {ends:?}, positions {:?}", positions().ok()))
    }

    /// Waits until no host is blocked. One that is leaves its partitions to the other, and its pauses grow from event to
    /// event; that it has resumed, it says with the first batch that it has written.
    fn wait_until_resumed(&self) -> Result<()> {
        let is_blocked = |host: &Host| {
            let events = host.all_events();
            let mut events = events.iter().rev();
            let last = events.find(|it| it.is("pipeline blocked") || it.is("pipeline resumed"));
            last.is_some_and(|it| it.is("pipeline blocked"))
        };
        until_true("no host is blocked", WRITTEN_MAX, || Ok(!self.hosts.iter().any(is_blocked)))
    }

    fn commit_transaction(&mut self) -> Result<()> {
        self.transactions.begin()?;
        self.transactions.send(TRANSACTION)?;
        self.transactions.commit()
    }

    /// How many events each host has logged: what comes later is news.
    fn logged(&self) -> Vec<usize> {
        self.hosts.iter().map(|host| host.all_events().len()).collect()
    }

    /// True when a host has told of a failure with `code` since it had logged so much.
    fn has_told(&self, code: &str, logged: &[usize]) -> bool {
        let tells = |(host, &logged): (&Host, &usize)| {
            let events = host.all_events();
            events[logged..].iter().any(|event| event.text("code").as_deref() == Some(code))
        };
        self.hosts.iter().zip(logged).any(tells)
    }

    fn wait_until_told(&self, code: &str, logged: &[usize]) -> Result<()> {
        until_true(&format!("a host tells of {code}"), 2 * SOON, || Ok(self.has_told(code, logged)))
    }

    /// For a person who looks into a failure of `event`.
    fn state(&self, event: &str) -> String {
        let tails = self.hosts.iter().map(Host::tail).collect::<Vec<_>>().join("\n");
        let blocked = blocked(&self.scene.database, &self.scene.name);
        format!("{event}; blocked: {blocked:?}; logs of the hosts end:\n{tails}")
    }

    /// Accounts for everything.
    fn end(mut self) -> Result<()> {
        self.wait_until_resumed().with_context(|| self.state("the end"))?;
        let stream = self.stream.take().context("there is a stream")?;
        let sent = stream.stop()?.acknowledged();
        let drained = self.scene.wait_until_drained();
        drained.with_context(|| self.state("the end"))?;
        self.hosts.into_iter().try_for_each(|host| host.drain().map(drop))?;
        let database = &self.scene.database;
        // What a host wrote down about itself before it was killed stays for a while.
        let blocked = database.number("SELECT count(*) FROM sluice.blocks WHERE partition >= 0")?;
        ensure!(blocked == 0, "{blocked} partitions are blocked");
        let rows = database.number("SELECT count(*) FROM readings")?;
        let dead_letters = database.number("SELECT count(*) FROM sluice.dead_letters")?;
        println!(
            "{sent} messages outside of transactions; {rows} rows, {dead_letters} dead letters"
        );
        let moved = u64::try_from(rows + dead_letters)?;
        ensure!(rows > 0 && dead_letters > 0 && moved > sent, "{rows}, {dead_letters}, {sent}");
        self.scene.check(&Readings::all())
    }
}

/// Producer number `number` of transactions to all partitions that the topic has now; it ends what the one before it
/// left open.
fn producer(scene: &Scene, number: u64) -> Result<Load> {
    let load = Load::new(&scene.topic, Mix::default())?.counting_from(number * NUMBERS);
    load.in_transactions(&scene.name)
}

#[test]
fn nothing_is_lost_or_repeated_whatever_happens_in_both_worlds() -> Result<()> {
    let seed = match std::env::var("SLUICE_SEED") {
        Ok(seed) => seed.parse().context("SLUICE_SEED is a number")?,
        Err(_) => fastrand::u64(..1_000_000),
    };
    let time = Duration::from_secs(if long() { 3600 } else { 90 });
    let run = || {
        let mut worlds = Worlds::begin("worlds", seed)?;
        worlds.run(time)?;
        worlds.end()
    };
    run().with_context(|| format!("SLUICE_SEED={seed}"))
}
