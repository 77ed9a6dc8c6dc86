//! A host at work on a stream of messages, whatever is taken away from under it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::checker::Readings;
use crate::host::{Host, Pipeline};
use crate::load::{Load, Mix, Stream};
use crate::postgres::Database;
use crate::scene::Scene;
use crate::vigil::Vigil;
use crate::wait::{SOON, until_true};

/// Rows must be written again within this time after the cause of an outage is gone: the longest pause between
/// two attempts is 5 s.
pub const RESUME_MAX: Duration = Duration::from_secs(15);

/// Connections that a host has to lose: each of its lanes tells of its own.
pub const LANES: usize = 2;

/// A host at work on a stream of messages.
#[derive(Debug)]
pub struct Work {
    /// Topic and tables.
    pub scene: Scene,
    /// The host.
    pub host: Host,
    /// About 2000 messages a second.
    pub stream: Stream,
    /// A connection around whatever is in the way.
    pub direct: Database,
}

impl Work {
    /// Starts the scene's own pipeline, and waits until it writes.
    pub fn begin(scene: Scene) -> Result<Self> {
        let pipeline = scene.pipeline()?;
        Self::begin_with(scene, &pipeline)
    }

    /// The same with another pipeline.
    pub fn begin_with(scene: Scene, pipeline: &Pipeline) -> Result<Self> {
        let host = scene.start("host", pipeline)?;
        host.wait_for("partitions claimed", SOON)?;
        let stream = Load::new(&scene.topic, Mix::default())?.stream(2000);
        let direct = scene.database.again()?;
        let work = Self { scene, host, stream, direct };
        work.goes_on()?;
        Ok(work)
    }

    /// A watch over the host from now on.
    pub fn vigil(&self) -> Result<Vigil> {
        Vigil::begin(&self.host, &self.scene.topic, &self.scene.name)
    }

    /// Waits until messages have piled up that nobody writes.
    pub fn pile_up(&self, messages: u64) -> Result<()> {
        let sent = self.stream.acknowledged();
        until_true("messages wait", SOON, || Ok(self.stream.acknowledged() > sent + messages))
    }

    /// Messages that were written so far.
    pub fn written(&self) -> Result<i64> {
        self.written_as(&self.direct)
    }

    /// The same for whoever holds a lock on the positions.
    pub fn written_as(&self, person: &Database) -> Result<i64> {
        person.number("SELECT sum(next_offset) FROM sluice.positions")
    }

    /// Waits until every partition is written to.
    pub fn goes_on(&self) -> Result<()> {
        let behind = format!(
            "SELECT count(*) FROM sluice.positions WHERE next_offset > {}",
            self.direct.number("SELECT max(next_offset) FROM sluice.positions")?
        );
        let partitions = i64::from(self.scene.topic.partitions);
        until_true("all partitions are written to", SOON, || {
            Ok(self.direct.number(&behind)? == partitions)
        })
    }

    /// The same, which must happen soon after the cause of an outage is gone.
    pub fn resumes(&self) -> Result<()> {
        self.resumes_within(RESUME_MAX)
    }

    /// The same for what takes longer.
    pub fn resumes_within(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        self.goes_on()?;
        let time = start.elapsed();
        if time > limit {
            bail!("it went on after {time:?}\n{}", self.host.tail());
        }
        Ok(())
    }

    /// Accounts for everything.
    pub fn end(mut self) -> Result<()> {
        self.stream.stop()?;
        self.scene.database.reconnect()?;
        self.scene.wait_until_drained()?;
        self.host.drain()?;
        self.scene.check(&Readings::all())
    }
}
