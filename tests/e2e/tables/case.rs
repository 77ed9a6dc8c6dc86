//! One case: a topic with one partition, a table, a host that writes to it, and every message that was sent.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sluice_tests::checker::ByValue;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::operator::{blocked, lag};
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until, until_true};

/// Longest time until a blocked pipeline has noticed that it was mended and has written what was waiting.
pub const RESUME_MAX: Duration = Duration::from_secs(90);

/// Rounds until the messages of one batch were one: a lane takes what is there.
const ROUNDS_MAX: usize = 5;

/// Columns of the table `readings`; `arrival` and `written_at` are filled by Postgres.
pub const COLUMNS: &str = "device_id text NOT NULL, measured_at timestamptz NOT NULL, seq bigint NOT NULL, \
    power_w float8 NOT NULL, voltage_v float8 NOT NULL, current_a float8, energy_wh bigint, temperature_c float8, \
    status text NOT NULL, arrival bigint NOT NULL DEFAULT nextval('arrivals'), \
    written_at timestamptz NOT NULL DEFAULT now()";

/// Creates the table `readings`, then makes `changes`.
pub fn table(changes: &str) -> String {
    table_with("", changes)
}

/// Creates the table with `options` after its columns, then makes `changes`.
pub fn table_with(options: &str, changes: &str) -> String {
    format!(
        "CREATE SEQUENCE arrivals; GRANT USAGE ON SEQUENCE arrivals TO PUBLIC; \
         CREATE TABLE readings ({COLUMNS}) {options}; {changes}"
    )
}

/// A message before it has its number: what becomes of it, and which of its fields differ from those of all others.
#[derive(Debug, Clone)]
pub struct Odd {
    truth: &'static str,
    fields: Value,
}

/// A message that becomes a row.
pub fn good(fields: Value) -> Odd {
    Odd { truth: "row", fields }
}

/// A message that Postgres, or the host on behalf of its column, rejects.
pub fn bad(fields: Value) -> Odd {
    bad_at("sink", fields)
}

/// A message that `stage` rejects.
pub fn bad_at(stage: &'static str, fields: Value) -> Odd {
    Odd { truth: stage, fields }
}

/// Ten good messages around a bad one.
pub fn ten_good_around(bad: &Odd) -> Vec<Odd> {
    let good = good(json!({}));
    (0..11).map(|place| if place == 5 { bad } else { &good }.clone()).collect()
}

/// A host that writes to one table.
pub struct Case {
    /// Topic and database.
    pub scene: Scene,
    /// Its settings; those of the next host.
    pub pipeline: Pipeline,
    /// What the messages become.
    pub shape: ByValue,
    /// Fields that all messages have from now on.
    pub fields: Value,
    host: Option<Host>,
    load: Load,
    next: i64,
}

impl Case {
    /// A case named `name` with the table that `table` creates, and a host at work on it.
    pub fn begin(name: &str, table: &str) -> Result<Self> {
        let mut case = Self::new(name, table)?;
        case.start()?;
        Ok(case)
    }

    /// A case without a host.
    pub fn new(name: &str, table: &str) -> Result<Self> {
        Self::on(Scene::new(name, 1, table)?)
    }

    /// A case without a host, on a scene that has its table.
    pub fn on(mut scene: Scene) -> Result<Self> {
        let name = &scene.name;
        scene.database.execute(&format!("ALTER DATABASE \"{name}\" SET timezone = 'UTC'"))?;
        scene.database.reconnect()?;
        let pipeline = scene.pipeline()?;
        let load = Load::new(&scene.topic, Mix::default())?;
        let (shape, fields) = (ByValue::all(), json!({}));
        Ok(Self { scene, pipeline, shape, fields, host: None, load, next: 1 })
    }

    /// Starts a host with the case's settings, and waits until it reads.
    pub fn start(&mut self) -> Result<()> {
        let host = self.scene.start("host", &self.pipeline)?;
        host.wait_for("partitions claimed", SOON)?;
        self.host = Some(host);
        Ok(())
    }

    /// Starts a host that is not expected to read.
    pub fn start_blocked(&mut self) -> Result<()> {
        self.host = Some(self.scene.start("host", &self.pipeline)?);
        Ok(())
    }

    /// Stops the host.
    pub fn stop(&mut self) -> Result<()> {
        self.host.take().context("there is a host")?.drain().map(drop)
    }

    /// The settings file.
    pub fn file(&self) -> Result<PathBuf> {
        self.pipeline.write(&self.scene.folder)
    }

    /// Runs statements as the person who owns the tables.
    pub fn execute(&self, sql: &str) -> Result<()> {
        self.scene.database.execute(sql)
    }

    /// Lets the host be the role `name`, which may write to `readings` and keep its own tables.
    pub fn as_role(&mut self, name: &str) -> Result<()> {
        self.log_in_as(name)?;
        self.execute(&format!(
            "GRANT CREATE ON DATABASE {} TO {name}; GRANT INSERT, SELECT, UPDATE ON readings TO {name}",
            self.scene.name
        ))
    }

    /// Lets the host be the role `name`, which may do nothing yet.
    pub fn log_in_as(&mut self, name: &str) -> Result<()> {
        self.pipeline.url = self.scene.database.create_login(name)?;
        Ok(())
    }

    /// Sends `count` good messages.
    pub fn send(&mut self, count: usize) -> Result<()> {
        self.send_each(&vec![good(json!({})); count])
    }

    /// Sends messages one after the other.
    pub fn send_each(&mut self, messages: &[Odd]) -> Result<()> {
        let made: Vec<(i32, Made)> = messages
            .iter()
            .zip(self.next..)
            .map(|(odd, number)| (0, self.made(odd, number)))
            .collect();
        self.next += i64::try_from(messages.len())?;
        self.load.send_made(&made)
    }

    fn made(&self, odd: &Odd, number: i64) -> Made {
        let mut reading = json!({
            "device_id": format!("dev-{}", number % 7),
            "measured_at": format!("2026-11-22T03:04:05.{:03}Z", number % 1000),
            "seq": number,
            "power_w": 100.0 + (number % 50) as f64,
            "voltage_v": 230.5,
            "current_a": (number % 8) as f64 / 4.0,
            "energy_wh": 1000 + number,
            "temperature_c": 21.5,
            "status": "ok",
        });
        for fields in [&self.fields, &odd.fields] {
            let Some(fields) = fields.as_object() else { continue };
            for (name, value) in fields {
                reading[name] = value.clone();
            }
        }
        Made::raw(odd.truth, &number.to_string(), &reading.to_string())
    }

    /// Sends messages that are one batch: while they gather, the host waits for the table with a good one.
    pub fn send_as_one_batch(&mut self, messages: &[Odd]) -> Result<()> {
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'readings'::regclass)";
        for _ in 0..ROUNDS_MAX {
            let person = self.scene.database.again()?;
            person.execute("BEGIN; LOCK TABLE readings IN SHARE MODE")?;
            self.send(1)?;
            until_true("the host waits for the table", SOON, || person.is_true(waiting))?;
            let first =
                self.scene.database.number("SELECT coalesce(max(arrival), 0) FROM readings")? + 1;
            self.send_each(messages)?;
            person.execute("ROLLBACK")?;
            self.drained()?;
            // The message that the host waited with came before all others, in a transaction of its own.
            let batches = self.scene.database.number(&format!(
                "SELECT count(DISTINCT written_at) FROM readings WHERE arrival >= {first}"
            ))?;
            if batches <= 2 {
                return Ok(());
            }
        }
        bail!("{} messages were never one batch", messages.len())
    }

    /// Waits until all that was sent is a row or a dead letter.
    pub fn drained(&self) -> Result<()> {
        self.drained_within(SOON)
    }

    /// Waits until a pipeline that was blocked has resumed, and until all that was sent is a row or a dead letter.
    pub fn resumed(&self) -> Result<()> {
        self.drained_within(RESUME_MAX)?;
        let database = &self.scene.database;
        until_true(
            "nothing is blocked",
            SOON,
            || Ok(blocked(database, &self.scene.name)?.is_none()),
        )
    }

    fn drained_within(&self, limit: Duration) -> Result<()> {
        self.scene.wait_until_drained_within(limit).with_context(|| {
            let tail = self.host.as_ref().map(Host::tail).unwrap_or_default();
            format!("blocked: {:?}\n{tail}", blocked(&self.scene.database, &self.scene.name))
        })
    }

    /// Waits until the pipeline is blocked with `code`; returns the reason.
    pub fn wait_until_blocked(&self, code: &str) -> Result<String> {
        let what = format!("the pipeline is blocked with {code}");
        let database = &self.scene.database;
        until(&what, SOON, || {
            let now = blocked(database, &self.scene.name)?;
            Ok(now.and_then(|(found, reason)| (found == code).then_some(reason)))
        })
        .with_context(|| format!("blocked: {:?}", blocked(database, &self.scene.name)))
    }

    /// Code of what blocks the pipeline, as `sluice lag` shows it.
    pub fn shown_by_lag(&self) -> Result<String> {
        let shown = lag(&self.file()?)?;
        let code = shown["blocked"][0]["code"].as_str();
        Ok(code.with_context(|| format!("nothing is blocked: {shown}"))?.to_owned())
    }

    /// Code and reason of each dead letter, in the order of offsets.
    pub fn dead_letters(&self) -> Result<Vec<(String, String)>> {
        dead_letters(&self.scene.database)
    }

    /// Stops the host and accounts for every message.
    pub fn end(mut self) -> Result<()> {
        self.drained()?;
        self.stop()?;
        self.scene.check(&self.shape)
    }
}

fn dead_letters(database: &Database) -> Result<Vec<(String, String)>> {
    let sql = "SELECT code, reason FROM sluice.dead_letters ORDER BY partition, \"offset\"";
    let rows = database.query(sql, &[])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
