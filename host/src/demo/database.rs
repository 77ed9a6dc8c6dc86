//! The demo's tables: in a throwaway Postgres, or in a schema of their own in a real one, where they go
//! again when the demo ends. Reads back what the pipeline has written.

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;

use super::postgres::Throwaway;
use crate::fault::Fault;
use crate::sink::postgres::{Options, Session, without_passwords};

/// Columns of the table that the plugin `readings` fills.
const COLUMNS: &str = "device_id text NOT NULL, measured_at timestamptz NOT NULL, seq bigint NOT NULL, \
    power_w float8 NOT NULL, voltage_v float8 NOT NULL, current_a float8, energy_wh bigint, \
    temperature_c float8, status text NOT NULL";
/// Schema of the table in a database that is not ours alone.
const SCHEMA: &str = "sluice_demo";

/// A database with a table `readings`.
pub struct Database {
    url: String,
    options: Options,
    runtime: Handle,
    pipeline: String,
    shared: Option<Shared>,
    server: Option<Throwaway>,
}

/// What the demo has made in somebody else's database.
struct Shared {
    /// The schema `sluice` was not there before.
    migrated: bool,
}

/// What the pipeline has written, as its tables have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows in the table.
    pub rows: u64,
    /// Dead letters by code, most frequent first.
    pub dead_letters: Vec<(String, u64)>,
    /// Which version wrote which offsets, by partition and offset.
    pub lineage: Vec<Stretch>,
    /// Next offset by partition.
    pub positions: Vec<(i32, i64)>,
}

/// Offsets of one partition that one version of the plugin has processed: a row of `sluice.lineage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    pub plugin: String,
    pub version: String,
    pub digest: String,
    pub messages: u64,
    pub rows: u64,
    pub rejected: u64,
}

impl Database {
    /// Starts a server, or makes a schema in the database at `url`; then creates the table.
    ///
    /// # Errors
    /// `SL-S006` when the schema is there already; `SL-P...` when the database cannot be reached.
    pub fn open(
        url: Option<&str>,
        pipeline: &str,
        runtime: &Handle,
        note: &mut dyn FnMut(&str),
    ) -> anyhow::Result<Self> {
        let (url, server) = if let Some(url) = url {
            (url.to_owned(), None)
        } else {
            // Room for the log of the whole demo, so that no checkpoint falls into it.
            let server = Throwaway::start(&[("max_wal_size", "4GB")], note)?;
            (server.url(), Some(server))
        };
        let options = Options::parse(&url)?.named(pipeline, "demo");
        let mut database = Self {
            url,
            options,
            runtime: runtime.clone(),
            pipeline: pipeline.to_owned(),
            shared: None,
            server,
        };
        database.create()?;
        Ok(database)
    }

    fn create(&mut self) -> Result<(), Fault> {
        let session = self.session()?;
        if self.server.is_none() {
            let there = self.runtime.block_on(session.query_one(
                "SELECT to_regnamespace('sluice') IS NOT NULL, to_regnamespace($1) IS NOT NULL",
                &[&SCHEMA],
            ));
            let there = there.map_err(|error| failed("look for the schema", error))?;
            if there.get(1) {
                return Err(Fault::block(
                    "SL-S006",
                    format!("the schema {SCHEMA} is there already"),
                ));
            }
            self.execute(&session, &format!("CREATE SCHEMA {SCHEMA}"))?;
            self.shared = Some(Shared { migrated: !there.get::<_, bool>(0) });
        }
        self.execute(&session, &format!("CREATE TABLE {} ({COLUMNS})", self.table()))
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as it is shown. The password of a real database is not: whoever looks over a shoulder or into a recording
    /// would have it. That of a throwaway server ends with it.
    pub fn shown_url(&self) -> String {
        match self.server {
            Some(_) => self.url.clone(),
            None => without_passwords(&self.url),
        }
    }

    /// Name of the table, with its schema where it has one of its own.
    pub fn table(&self) -> String {
        let schema = if self.server.is_none() { format!("{SCHEMA}.") } else { String::new() };
        format!("{schema}readings")
    }

    /// What the demo says of it.
    pub fn describe(&self) -> Result<String, Fault> {
        let session = self.session()?;
        let row = self.runtime.block_on(session.query_one("SHOW server_version", &[]));
        let row = row.map_err(|error| failed("ask for the server's version", error))?;
        let version: &str = row.get(0);
        let version = version.split(' ').next().unwrap_or(version);
        let kind = if self.server.is_some() { "throwaway " } else { "" };
        Ok(format!("{kind}Postgres {version} at {}", self.options))
    }

    /// A connection of one's own.
    pub fn session(&self) -> Result<Session, Fault> {
        self.runtime.block_on(async {
            let session = self.options.connect().await?;
            // The table of a throwaway server is in no schema of its own.
            session.take_role_path().await?;
            Ok(session)
        })
    }

    /// Reads everything that the pipeline has written.
    pub fn written(&self) -> Result<Written, Fault> {
        let session = self.session()?;
        self.runtime
            .block_on(read(&session, &self.table(), &self.pipeline))
            .map_err(|error| failed("read what was written", error))
    }

    fn execute(&self, session: &Session, statements: &str) -> Result<(), Fault> {
        self.runtime
            .block_on(session.batch_execute(statements))
            .map_err(|error| failed(statements, error))
    }

    /// Takes away what the demo has made, and nothing else.
    fn clean(&self, shared: &Shared) -> Result<(), Fault> {
        let session = self.session()?;
        self.execute(&session, &format!("DROP SCHEMA {SCHEMA} CASCADE"))?;
        for table in ["positions", "lineage", "dead_letters"] {
            let delete = format!("DELETE FROM sluice.{table} WHERE pipeline = $1");
            match self.runtime.block_on(session.execute(&delete, &[&self.pipeline])) {
                // The pipeline did not get as far as to create it.
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(()),
                answer => answer.map_err(|error| failed(&delete, error))?,
            };
        }
        if shared.migrated {
            let others = "SELECT count(*) FROM sluice.positions";
            let row = self.runtime.block_on(session.query_one(others, &[]));
            if row.map_err(|error| failed(others, error))?.get::<_, i64>(0) == 0 {
                self.execute(&session, "DROP SCHEMA sluice CASCADE")?;
            }
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared
            && let Err(error) = self.clean(shared)
        {
            eprintln!("the demo's tables are still there: {error}");
        }
    }
}

async fn read(
    session: &Session,
    table: &str,
    pipeline: &str,
) -> Result<Written, tokio_postgres::Error> {
    let rows = session.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?;
    let dead_letters = session
        .query(
            "SELECT code, count(*) FROM sluice.dead_letters WHERE pipeline = $1 \
             GROUP BY code ORDER BY 2 DESC, 1",
            &[&pipeline],
        )
        .await?;
    let lineage = session
        .query(
            "SELECT partition, from_offset, to_offset, plugin, version, digest, messages, rows, rejected \
             FROM sluice.lineage WHERE pipeline = $1 ORDER BY partition, from_offset",
            &[&pipeline],
        )
        .await?;
    let positions = session
        .query(
            "SELECT partition, next_offset FROM sluice.positions WHERE pipeline = $1 ORDER BY 1",
            &[&pipeline],
        )
        .await?;
    Ok(Written {
        rows: unsigned(&rows, 0),
        dead_letters: dead_letters.iter().map(|row| (row.get(0), unsigned(row, 1))).collect(),
        lineage: lineage.iter().map(stretch).collect(),
        positions: positions.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}

fn stretch(row: &tokio_postgres::Row) -> Stretch {
    Stretch {
        partition: row.get(0),
        from: row.get(1),
        to: row.get(2),
        plugin: row.get(3),
        version: row.get(4),
        digest: row.get(5),
        messages: unsigned(row, 6),
        rows: unsigned(row, 7),
        rejected: unsigned(row, 8),
    }
}

/// Counts are never negative.
fn unsigned(row: &tokio_postgres::Row, column: usize) -> u64 {
    row.get::<_, i64>(column) as u64
}

fn failed(what: &str, error: tokio_postgres::Error) -> Fault {
    Fault::block("SL-S007", format!("failed to {what}")).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(database: &Throwaway, runtime: &Handle) -> Vec<String> {
        let options = Options::parse(&database.url()).unwrap();
        let session = runtime.block_on(options.connect()).unwrap();
        let query = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sluice%' ORDER BY 1";
        let rows = runtime.block_on(session.query(query, &[])).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    fn open(server: &Throwaway, runtime: &Handle) -> anyhow::Result<Database> {
        Database::open(Some(&server.url()), "demo-1", runtime, &mut |_| {})
    }

    #[test]
    fn a_real_database_is_left_as_it_was_found() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = Throwaway::start(&[], &mut |_| {}).unwrap();
        let database = open(&server, runtime.handle()).unwrap();
        assert_eq!(database.table(), "sluice_demo.readings");
        assert_eq!(schemas(&server, runtime.handle()), ["sluice_demo"]);
        // A second demo does not touch what the first one has made.
        let refused = open(&server, runtime.handle()).err().unwrap();
        assert_eq!(refused.to_string(), "SL-S006: the schema sluice_demo is there already");
        assert_eq!(schemas(&server, runtime.handle()), ["sluice_demo"]);
        runtime.block_on(crate::sink::migrate::migrate(&database.options)).unwrap();
        assert_eq!(schemas(&server, runtime.handle()), ["sluice", "sluice_demo"]);
        assert_eq!(database.written().unwrap(), Written::default());
        drop(database);
        assert_eq!(schemas(&server, runtime.handle()), Vec::<String>::new());
    }

    #[test]
    fn the_schema_of_other_pipelines_stays() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = Throwaway::start(&[], &mut |_| {}).unwrap();
        let options = Options::parse(&server.url()).unwrap();
        runtime.block_on(crate::sink::migrate::migrate(&options)).unwrap();
        drop(open(&server, runtime.handle()).unwrap());
        assert_eq!(schemas(&server, runtime.handle()), ["sluice"]);
    }
}
