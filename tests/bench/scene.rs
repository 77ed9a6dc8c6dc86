//! Where everything is measured: servers, topics, plugins, and one database.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use sluice_tests::folders;
use sluice_tests::postgres::Database;

use crate::arguments::Arguments;
use crate::beside;
use crate::figures::Figures;
use crate::load::{Filled, Load};
use crate::servers::{self, Servers};
use crate::turn::{Case, Turn};
use crate::way::Way;

/// Database of all runs but those of the program beside.
pub const DATABASE: &str = "bench";
const WARM_UPS: usize = 5;

/// Set up once; its servers end with it unless they are to be kept.
pub struct Scene<'a> {
    arguments: &'a Arguments,
    servers: Servers,
    database: Database,
    runs: u32,
}

impl<'a> Scene<'a> {
    /// Finds or starts the servers and builds the plugins.
    pub fn open(arguments: &'a Arguments) -> Result<Self> {
        let servers = Servers::find_or_start(&servers::RUNS, arguments.keep)?;
        let database = match open_database(&servers) {
            Ok(database) => database,
            Err(error) => {
                servers.end()?;
                return Err(error);
            }
        };
        let scene = Self { arguments, servers, database, runs: 0 };
        build_plugins(&scene.servers.folder)?;
        Ok(scene)
    }

    /// Fills the topic of `load`, and a table with the rows it becomes; the servers are warm then, too.
    pub fn prepare(&mut self, load: &Load) -> Result<()> {
        self.fill(load)?;
        let reference = reference(load);
        if self.database.text(&format!("SELECT to_regclass('{reference}')"))?.is_none() {
            self.measure(&self.case(Way::Road, load))?;
            self.database.execute(&format!("ALTER TABLE readings RENAME TO {reference}"))?;
        }
        Ok(())
    }

    /// Fills the topic of `load` if it is not there.
    pub fn fill(&mut self, load: &Load) -> Result<()> {
        if self.servers.topics.contains_key(&load.name()) {
            return Ok(());
        }
        let Load { messages, partitions, .. } = load;
        eprintln!("filling {partitions} partitions with {messages} {} readings", load.shape_name());
        let filled = load.fill(&self.servers.brokers)?;
        self.servers.topics.insert(load.name(), filled);
        self.servers.save()?;
        // The broker's code is compiled while it runs, and the more it has run the better.
        for _ in 0..WARM_UPS {
            self.measure(&self.case(Way::Drain, load))?;
        }
        Ok(())
    }

    fn case(&self, way: Way, load: &Load) -> Case {
        let Arguments { lanes, batch, .. } = *self.arguments;
        Case { way, load: *load, lanes, batch, from_start: false, pace: None }
    }

    /// Measures once.
    pub fn measure(&mut self, case: &Case) -> Result<Figures> {
        let filled = self.filled(&case.load)?.clone();
        self.runs += 1;
        self.clean(case.way)?;
        if case.way == Way::Beside {
            let command = self.arguments.beside.as_deref().context("--beside is missing")?;
            return beside::run(command, &self.servers, &filled.topic, case.load.messages);
        }
        let turn = Turn {
            case,
            topic: &filled.topic,
            // Another name each time, so that neither positions nor the group are known.
            name: format!("bench-{}-{}", std::process::id(), self.runs),
            plugin: self.plugin(case.way.plugin()),
            reference: reference(&case.load),
            servers: &self.servers,
            database: &self.database,
            arguments: self.arguments,
        };
        let figures = turn.run().with_context(|| case.name())?;
        self.check(case, &turn.name, filled.bad).with_context(|| case.name())?;
        Ok(figures)
    }

    /// An empty table, no positions, dead letters or lineage of runs before, and nothing left to write to disk.
    pub fn clean(&self, way: Way) -> Result<()> {
        self.database.execute("DROP TABLE IF EXISTS readings")?;
        self.database.execute(&way.table())?;
        if self.database.is_true("SELECT to_regclass('sluice.positions') IS NOT NULL")? {
            self.database
                .execute("TRUNCATE sluice.positions, sluice.lineage, sluice.dead_letters")?;
        }
        self.database.execute("CHECKPOINT")
    }

    /// Every message has become a row or a dead letter, as its making foresaw.
    fn check(&self, case: &Case, pipeline: &str, bad: u64) -> Result<()> {
        if case.way == Way::Drain {
            return Ok(());
        }
        let count = |sql: &str| -> Result<u64> { Ok(u64::try_from(self.database.number(sql)?)?) };
        let (messages, rows) = (case.load.messages, count("SELECT count(*) FROM readings")?);
        let mut bad = bad;
        if case.way == Way::Refused {
            // Which rows the table refuses, its constraint alone knows.
            let refused = count(
                "SELECT count(*) FROM sluice.dead_letters WHERE stage = 'sink' AND code = '23514'",
            )?;
            let wanted = messages / 150..messages / 70;
            ensure!(wanted.contains(&refused), "{refused} of {messages} messages were refused");
            bad += refused;
        }
        ensure!(rows == messages - bad, "{rows} rows of {messages} messages, {bad} of them bad");
        if case.way == Way::Copy {
            return Ok(());
        }
        let dead_letters = count(&format!(
            "SELECT count(*) FROM sluice.dead_letters WHERE pipeline = '{pipeline}'"
        ))?;
        ensure!(dead_letters == bad, "{dead_letters} dead letters of {bad} bad messages");
        let positions = count(&format!(
            "SELECT sum(next_offset) FROM sluice.positions WHERE pipeline = '{pipeline}'"
        ))?;
        ensure!(positions == messages, "positions stand behind {positions} of {messages} messages");
        Ok(())
    }

    /// The servers.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The database of all runs.
    pub fn database(&self) -> &Database {
        &self.database
    }

    fn filled(&self, load: &Load) -> Result<&Filled> {
        self.servers.topics.get(&load.name()).context("the topic was not filled")
    }

    fn plugin(&self, name: &str) -> PathBuf {
        self.servers.folder.join(format!("{name}.wasm"))
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if self.arguments.keep {
            eprintln!("broker and Postgres go on; a call without --keep ends them");
        } else if let Err(error) = self.servers.end() {
            eprintln!("broker and Postgres may be still there: {error:#}");
        }
    }
}

/// The table with the rows of a load.
fn reference(load: &Load) -> String {
    format!("reference_{}", load.name())
}

/// Builds the plugins and copies them into `folder`: somebody may be building them while we measure.
pub fn build_plugins(folder: &Path) -> Result<()> {
    let built = sluice::cli::plugin::build::build(folders::workspace(), "readings")?;
    for name in ["readings.wasm", "readings-raw.wasm"] {
        let from = built.with_file_name(name);
        fs::copy(&from, folder.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

/// The database of all runs, created when it is not there.
pub fn open_database(servers: &Servers) -> Result<Database> {
    let maintenance = Database::open(servers.url_of("postgres"))?;
    if !maintenance
        .is_true(&format!("SELECT true FROM pg_database WHERE datname = '{DATABASE}'"))?
    {
        maintenance.execute(&format!("CREATE DATABASE {DATABASE}"))?;
    }
    Database::open(servers.url_of(DATABASE))
}
