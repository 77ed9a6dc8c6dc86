//! Makes the changes, sees that rows are written after each, and gathers the rows in the end.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use fastrand::Rng;
use sluice_tests::checker::ByValue;
use sluice_tests::operator::blocked;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until, until_true};
use tokio_postgres::error::SqlState;

use super::blocking::{blocking, kinds};
use super::harmless::{self, set_type};
use super::table::{FILLED, Form, Table, types_of};

/// Name of the file with all statements, in the scene's folder.
pub const LOG: &str = "changes.sql";

/// Table into which all rows are gathered in the end, as [`ByValue::LINE`].
pub const GATHERED: &str = "gathered";

/// A pipeline shows as blocked with its next batch; one that writes what does not fit never would.
const BLOCKED_MAX: Duration = Duration::from_secs(5);

/// The longest pause between two attempts of a blocked pipeline is a minute.
const WRITTEN_MAX: Duration = Duration::from_secs(90);

/// Changes the table of a scene.
pub struct Driver<'a> {
    scene: &'a Scene,
    person: Database,
    table: Table,
    random: Rng,
    log: File,
    /// Tables whose rows were taken along to their successor, and how many they had; nobody writes to them.
    left: Vec<(String, i64)>,
}

impl<'a> Driver<'a> {
    /// Creates `table` in the scene's database; its changes are those of `seed`.
    pub fn begin(scene: &'a Scene, table: Table, seed: u64) -> Result<Self> {
        scene.database.execute(&format!("ALTER DATABASE {} SET timezone = 'UTC'", scene.name))?;
        let person = scene.database.again()?;
        person.create_login(&table.role)?;
        person.execute(&table.create())?;
        let log = File::create(scene.folder.join(LOG))?;
        Ok(Self { scene, person, table, random: Rng::with_seed(seed), log, left: Vec::new() })
    }

    /// Makes `count` changes, of which one in `every` blocks the pipeline for a moment.
    pub fn make_changes(&mut self, count: usize, every: usize) -> Result<()> {
        let mut kinds = kinds(self.table.form);
        self.random.shuffle(&mut kinds);
        let mut kinds = kinds.into_iter().cycle();
        self.wait_until_written(|| Ok(()))?;
        for number in 1..=count {
            if number % every == every / 2 {
                let kind = kinds.next().context("there are kinds")?;
                self.block(kind).with_context(|| format!("change {number}: {kind}"))?;
            } else {
                self.change().with_context(|| format!("change {number}"))?;
            }
        }
        Ok(())
    }

    /// Makes one change. Most often all partitions are written to before the next; else that comes as soon as it can.
    fn change(&mut self) -> Result<()> {
        let (kind, sql) = harmless::change(&mut self.table, &mut self.random);
        let taken_along = kind == "replace" && self.table.form == Form::Keyed;
        self.execute(kind, &sql)?;
        if let Some(former) = self.table.former.last().filter(|_| taken_along) {
            let rows = self.person.number(&format!("SELECT count(*) FROM {former}"))?;
            self.left.push((former.clone(), rows));
        }
        if self.random.u32(..4) > 0 {
            let unblocked = || match blocked(&self.person, &self.scene.name)? {
                Some((code, reason)) => bail!("the pipeline is blocked: {code}: {reason}"),
                None => Ok(()),
            };
            self.wait_until_written(unblocked).with_context(|| format!("after {kind}: {sql}"))?;
        }
        Ok(())
    }

    fn block(&mut self, kind: &'static str) -> Result<()> {
        let blocking = blocking(kind, &mut self.table);
        if let Some(before) = &blocking.before {
            self.execute(kind, before)?;
            self.wait_until_written(|| Ok(()))?;
        }
        self.execute(kind, &blocking.change)?;
        // Now and then it is undone before anybody has seen it.
        if self.random.u32(..4) > 0 {
            let is_blocked = || Ok(blocked(&self.person, &self.scene.name)?.is_some());
            let seen = until_true("the pipeline is blocked", BLOCKED_MAX, is_blocked);
            writeln!(self.log, "-- blocked: {}", seen.is_ok())?;
        }
        self.execute(kind, &blocking.mend)?;
        self.wait_until_written(|| Ok(()))?;
        let is_resumed = || Ok(blocked(&self.person, &self.scene.name)?.is_none());
        until_true("the pipeline has resumed", SOON, is_resumed)
    }

    fn execute(&mut self, kind: &str, sql: &str) -> Result<()> {
        writeln!(self.log, "-- {kind}\n{sql};")?;
        // A change of a partitioned table may take its locks in another order than a write: one of the two is ended.
        until("the change is not ended by a deadlock", SOON, || match self.person.execute(sql) {
            Err(error) if is_deadlock(&error) => Ok(None),
            result => result.map(Some),
        })
    }

    /// Waits until all partitions are written to from now on, as long as `check` finds nothing wrong. A transaction
    /// that writes to a table ended before the table was changed, or begins after that.
    fn wait_until_written(&self, check: impl Fn() -> Result<()>) -> Result<()> {
        let positions = || self.scene.positions(&self.scene.name);
        let before = positions()?;
        until_true("all partitions are written to", WRITTEN_MAX, || {
            check()?;
            let mut pairs = positions()?.into_iter().zip(&before);
            Ok(pairs.all(|(now, before)| now.unwrap_or_default() > before.unwrap_or_default()))
        })
        .with_context(|| format!("blocked: {:?}", blocked(&self.person, &self.scene.name)))
    }

    /// Gives all columns the types they began with, and waits until rows are written again.
    pub fn bring_back(&mut self) -> Result<()> {
        for column in FILLED {
            let first = types_of(self.table.form, column)[0];
            if self.table.types[column] == first {
                continue;
            }
            let sql = set_type(&mut self.table, column, first);
            self.execute("back", &sql)?;
        }
        self.wait_until_written(|| Ok(()))
    }

    /// Gathers the rows of the table, and of those that had its name before.
    pub fn gather_rows(&mut self) -> Result<()> {
        let mut tables = vec!["readings".to_owned()];
        if self.table.form != Form::Keyed {
            tables.extend(self.table.former.iter().cloned());
        }
        self.execute("gather", &format!("CREATE TABLE {GATHERED} (line text, arrival bigint)"))?;
        for table in tables {
            let line = ByValue::LINE;
            self.execute(
                "gather",
                &format!("INSERT INTO {GATHERED} SELECT {line}, arrival FROM {table}"),
            )?;
        }
        for (former, rows) in &self.left {
            let now = self.person.number(&format!("SELECT count(*) FROM {former}"))?;
            ensure!(
                now == *rows,
                "{} rows were written to {former}, which nobody names",
                now - rows
            );
        }
        Ok(())
    }
}

fn is_deadlock(error: &anyhow::Error) -> bool {
    let found = error.downcast_ref::<tokio_postgres::Error>();
    found.and_then(tokio_postgres::Error::code) == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}
