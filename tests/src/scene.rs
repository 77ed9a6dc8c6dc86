//! What nearly every test starts with: a topic, a database with tables, a pipeline between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use anyhow::{Context, Result};
use sluice::demo::postgres::Throwaway;

use crate::checker::{Check, Readings, Shape};
use crate::host::{Host, Pipeline};
use crate::kafka::{Broker, Cluster, Topic, Tuning};
use crate::plugins::plugin;
use crate::postgres::Database;
use crate::wait::until_true;

/// Long enough to work off what any test sends, also when half of it fails and much of that by running out of time.
pub const DRAIN_MAX: Duration = Duration::from_secs(600);

/// Tests that measure time or memory run alone; the others side by side.
static QUIET: RwLock<()> = RwLock::new(());

/// Blocked by a test for as long as it runs.
#[derive(Debug)]
#[allow(dead_code)]
enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A topic and a database of one test.
#[derive(Debug)]
pub struct Scene {
    /// Name of topic, database, pipeline and folder.
    pub name: String,
    /// The topic.
    pub topic: Topic,
    /// The database.
    pub database: Database,
    /// Folder of settings and logs.
    pub folder: PathBuf,
    _turn: Turn,
}

fn shared() -> Turn {
    Turn::Shared(QUIET.read().unwrap_or_else(PoisonError::into_inner))
}

impl Scene {
    /// A scene named `name` with the table that `table` creates.
    pub fn new(name: &str, partitions: i32, table: &str) -> Result<Self> {
        Self::with_turn(name, partitions, table, shared())
    }

    /// The same for a test that nothing else may disturb.
    pub fn alone(name: &str, partitions: i32, table: &str) -> Result<Self> {
        let turn = Turn::Alone(QUIET.write().unwrap_or_else(PoisonError::into_inner));
        Self::with_turn(name, partitions, table, turn)
    }

    /// A scene whose database is on `server`, which the test may stop.
    pub fn on_server(name: &str, partitions: i32, server: &Throwaway) -> Result<Self> {
        let topic = Topic::create(name, partitions)?;
        Self::between(topic, Database::create_on(server, name)?, shared())
    }

    /// A cluster of brokers that the test may take apart, and a scene with a topic on it. Alone: so many
    /// brokers leave others no time.
    pub fn on_cluster(name: &str, partitions: i32) -> Result<(Cluster, Self)> {
        Self::on_cluster_with(name, |cluster| cluster.topic(name, partitions))
    }

    /// The same with the topic that `create` makes.
    pub fn on_cluster_with(
        name: &str,
        create: impl FnOnce(&Cluster) -> Result<Topic>,
    ) -> Result<(Cluster, Self)> {
        let turn = Turn::Alone(QUIET.write().unwrap_or_else(PoisonError::into_inner));
        let cluster = Cluster::start(&crate::folders::scratch_for(name)?)?;
        let topic = create(&cluster)?;
        let scene = Self::between(topic, Database::create(name)?, turn)?;
        Ok((cluster, scene))
    }

    /// A broker that the test may freeze, and a scene with a topic on it.
    pub fn on_broker(name: &str, partitions: i32, tuning: &Tuning) -> Result<(Broker, Self)> {
        let turn = Turn::Alone(QUIET.write().unwrap_or_else(PoisonError::into_inner));
        let broker =
            Broker::start(tuning, &crate::folders::scratch_for(&format!("{name}-broker"))?)?;
        let topic = Topic::create_on(broker.address(), name, partitions, 1)?;
        let scene = Self::between(topic, Database::create(name)?, turn)?;
        Ok((broker, scene))
    }

    /// A scene between a topic and a database that the test has made.
    pub fn around(topic: Topic, database: Database) -> Result<Self> {
        Self::between(topic, database, shared())
    }

    fn with_turn(name: &str, partitions: i32, table: &str, turn: Turn) -> Result<Self> {
        let database = Database::create(name)?;
        database.execute(table)?;
        Self::beginning(Topic::create(name, partitions)?, database, turn)
    }

    fn between(topic: Topic, database: Database, turn: Turn) -> Result<Self> {
        database.execute(Readings::TABLE)?;
        Self::beginning(topic, database, turn)
    }

    fn beginning(topic: Topic, database: Database, turn: Turn) -> Result<Self> {
        let name = topic.name.clone();
        let folder = crate::folders::scratch_for(&name)?;
        Ok(Self { name, topic, database, folder, _turn: turn })
    }

    /// A scene with twelve partitions and the table `readings` without a unique key.
    pub fn readings(name: &str) -> Result<Self> {
        Self::new(name, 12, Readings::TABLE)
    }

    /// The pipeline from the topic to the table `readings`.
    pub fn pipeline(&self) -> Result<Pipeline> {
        self.pipeline_of("readings")
    }

    /// The same with another plugin.
    pub fn pipeline_of(&self, name: &str) -> Result<Pipeline> {
        let Self { name: pipeline, topic, database, .. } = self;
        Ok(Pipeline::at(topic.brokers(), pipeline, &topic.name, database.url(), &plugin(name)?))
    }

    /// Starts a host with `pipeline`.
    pub fn start(&self, host: &str, pipeline: &Pipeline) -> Result<Host> {
        Host::start(host, &self.folder, &[pipeline.write(&self.folder)?])
    }

    /// A copy of a plugin that the test may replace.
    pub fn own_plugin(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join("plugin.wasm");
        self.replace_plugin(&path, &plugin(name)?)?;
        Ok(path)
    }

    /// Puts `component` in the place of `path`, at once.
    pub fn replace_plugin(&self, path: &Path, component: &Path) -> Result<()> {
        let new = self.folder.join("plugin.wasm.new");
        fs::copy(component, &new).with_context(|| format!("copy {}", component.display()))?;
        fs::rename(&new, path).context("put the plugin in place")
    }

    /// Waits until the positions of the pipeline stand at the end of the log.
    pub fn wait_until_drained(&self) -> Result<()> {
        self.wait_until_drained_as(&self.name)
    }

    /// Waits at most for `limit` until the positions of the pipeline stand at the end of the log.
    pub fn wait_until_drained_within(&self, limit: Duration) -> Result<()> {
        self.drained_within(&self.name, limit)
    }

    /// The same for a pipeline with another name.
    pub fn wait_until_drained_as(&self, pipeline: &str) -> Result<()> {
        self.drained_within(pipeline, DRAIN_MAX)
    }

    fn drained_within(&self, pipeline: &str, limit: Duration) -> Result<()> {
        let ends = self.topic.log_ends()?;
        let behind = || -> Result<Vec<(usize, i64)>> {
            let positions = self.positions(pipeline)?;
            let at = |partition: usize| positions.get(partition).copied().flatten().unwrap_or(-1);
            let behind =
                ends.iter().enumerate().map(|(partition, end)| (partition, end - at(partition)));
            Ok(behind.filter(|(_, lag)| *lag != 0).collect())
        };
        until_true("the pipeline has drained", limit, || Ok(behind()?.is_empty())).with_context(
            || format!("partitions behind, and by how much: {:?}", behind().unwrap_or_default()),
        )
    }

    /// Next offsets by partition; none where the pipeline was never.
    pub fn positions(&self, pipeline: &str) -> Result<Vec<Option<i64>>> {
        let partitions = usize::try_from(self.topic.partitions)?;
        let mut positions = vec![None; partitions];
        if !self.database.is_true("SELECT to_regclass('sluice.positions') IS NOT NULL")? {
            return Ok(positions);
        }
        let sql = "SELECT partition, next_offset FROM sluice.positions WHERE pipeline = $1 AND topic = $2";
        for row in self.database.query(sql, &[&pipeline, &self.topic.name])? {
            let partition = usize::try_from(row.get::<_, i32>(0))?;
            if let Some(position) = positions.get_mut(partition) {
                *position = Some(row.get(1));
            }
        }
        Ok(positions)
    }

    /// Accounts for every offset.
    pub fn check(&self, shape: &dyn Shape) -> Result<()> {
        Check::new(&self.name, shape).passes(&self.topic, &self.database)
    }
}
