//! A pipeline that gets its batches cut as planned: one partition, one lane, and a gate behind its table.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use sluice_tests::counts::long;
use sluice_tests::gate::Gate;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::load::{Load, Mix};
use sluice_tests::poison::{Kind, Sent, arrivals};
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

/// Rounds until every batch was one as planned: a lane that catches up with its fetcher takes what is there.
const ROUNDS_MAX: usize = 5;

/// Settings that find what is wrong with the plugin soon.
const PLUGIN_LINES: &str = "timeout = \"500ms\"\nmemory_bytes = \"64MiB\"\n";

/// A batch by what is odd in it; all else is harmless.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Messages.
    pub size: usize,
    /// By place.
    pub odd: BTreeMap<usize, Kind>,
}

/// A pipeline that gets batches cut as planned: one partition, one lane, and a gate behind its table.
pub struct Road {
    scene: Scene,
    host: Host,
    load: Load,
    sent: Sent,
    next: i64,
}

/// Sends batches of `size` with each of `kinds` in each place, until each of them was one.
pub fn reject(
    name: &str,
    table: &str,
    sink_lines: &str,
    size: usize,
    kinds: &[Kind],
) -> Result<()> {
    let mut road = Road::new(name, table, sink_lines, size)?;
    let mut planned = plan(size, kinds);
    for _ in 0..ROUNDS_MAX {
        let ranges = road.send(&planned)?;
        let whole = whole_batches(&ranges, &arrivals(&road.scene.database)?);
        let mut is_whole = whole.iter();
        planned.retain(|_| !is_whole.next().copied().unwrap_or_default());
        if planned.is_empty() {
            return road.end();
        }
    }
    bail!("{} batches were never one as planned", planned.len())
}

/// Each kind alone in the middle of one batch, and first of another with its successor as the last. Unless it is the
/// long run, large batches are filled better: three kinds each, and each kind in one place.
fn plan(size: usize, kinds: &[Kind]) -> Vec<Planned> {
    let batch = |places: &[(usize, &Kind)]| Planned {
        size,
        odd: places.iter().map(|(place, kind)| (*place, (*kind).clone())).collect(),
    };
    if size > 2 && !long() {
        let places = [0, size / 2, size - 1];
        let three = |kinds: &[Kind]| batch(&places.into_iter().zip(kinds).collect::<Vec<_>>());
        return kinds.chunks(places.len()).map(three).collect();
    }
    let mut planned = Vec::new();
    for (kind, next) in kinds.iter().zip(kinds.iter().cycle().skip(1)) {
        planned.push(batch(&[(size / 2, kind)]));
        if size > 1 {
            planned.push(batch(&[(0, kind), (size - 1, next)]));
        }
        if size == 2 {
            planned.push(batch(&[(0, kind)]));
        }
    }
    planned
}

impl Road {
    /// A road whose batches have `size` messages.
    pub fn new(name: &str, table: &str, sink_lines: &str, size: usize) -> Result<Self> {
        let scene = Scene::new(name, 1, table)?;
        let mut pipeline = pipeline(&scene, sink_lines)?;
        pipeline.lanes = 1;
        "queue_bytes = \"64MiB\"\n".clone_into(&mut pipeline.source_lines);
        pipeline.batch_lines = format!("max_messages = {size}");
        Gate::build(&scene.database, "every_type")?;
        let host = scene.start("host", &pipeline)?;
        host.wait_for("partitions claimed", SOON)?;
        let load = Load::new(&scene.topic, Mix::default())?;
        Ok(Self { scene, host, load, sent: Sent::default(), next: 0 })
    }

    /// Lets these batches wait behind the gate until all are there, then through. Returns their offsets.
    pub fn send(&mut self, batches: &[Planned]) -> Result<Vec<(i64, i64)>> {
        let gate = Gate::close(&self.scene.database)?;
        self.send_batch(&Planned { size: 1, odd: BTreeMap::new() })?;
        gate.wait_for_session(&[])?;
        let mut ranges = Vec::new();
        for batch in batches {
            let from = self.next;
            self.send_batch(batch)?;
            ranges.push((from, self.next));
        }
        gate.open()?;
        self.scene.wait_until_drained()?;
        Ok(ranges)
    }

    fn send_batch(&mut self, batch: &Planned) -> Result<()> {
        let harmless = Kind::harmless();
        let mut messages = Vec::with_capacity(batch.size);
        for place in 0..batch.size {
            let kind = batch.odd.get(&place).unwrap_or(&harmless);
            messages.push((0, kind.made(self.next)));
            self.sent.note(0, self.next, self.next, kind);
            self.next += 1;
        }
        self.load.send_made(&messages)
    }

    /// Stops the host and accounts for every message.
    pub fn end(self) -> Result<()> {
        self.host.drain()?;
        account(&self.scene, &self.sent)
    }
}

/// A pipeline of the plugin that passes every type through.
pub fn pipeline(scene: &Scene, sink_lines: &str) -> Result<Pipeline> {
    let mut pipeline = scene.pipeline_of("hostile-every-type")?;
    PLUGIN_LINES.clone_into(&mut pipeline.plugin_lines);
    pipeline.sink_lines = format!("table = \"every_type\"\n{sink_lines}");
    Ok(pipeline)
}

/// Every good message is a row, every bad one a dead letter with its bytes and the right words, and all sums are right.
pub fn account(scene: &Scene, sent: &Sent) -> Result<()> {
    let wrong = sent.wrong_dead_letters(&scene.database)?;
    if !wrong.is_empty() {
        bail!("{} dead letters say something else:\n{}", wrong.len(), wrong.join("\n"));
    }
    scene.check(sent)
}

/// For each range of offsets whether one transaction wrote it, and nothing beside it.
fn whole_batches(ranges: &[(i64, i64)], arrivals: &BTreeMap<i64, i64>) -> Vec<bool> {
    let is_whole = |&(from, to): &(i64, i64)| {
        let own: BTreeSet<i64> = arrivals.range(from..to).map(|(_, at)| *at).collect();
        let before = arrivals.range(..from).next_back().map(|(_, at)| *at);
        let after = arrivals.range(to..).next().map(|(_, at)| *at);
        let is_own = |at: Option<i64>| at.is_some_and(|at| own.contains(&at));
        own.len() <= 1 && !is_own(before) && !is_own(after)
    };
    ranges.iter().map(is_whole).collect()
}
