//! One real Postgres per test process, one database per test.

use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use sluice::demo::postgres::{Binaries, Throwaway};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage};

pub use disk::SmallDisk;

mod disk;

/// Durable enough for hosts that die; the server itself never loses power.
const SETTINGS: &[(&str, &str)] = &[
    ("max_connections", "300"),
    ("shared_buffers", "128MB"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_wal_size", "1GB"),
    ("log_min_messages", "warning"),
];

/// Runs a future to its end on the runtime that all fixtures share.
///
/// # Panics
///
/// When the machine has no thread left for the runtime.
pub fn block_on<F: Future>(future: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .expect("a runtime can be built")
        })
        .block_on(future)
}

/// A server that a test may stop and start.
pub fn own_server() -> Result<Throwaway> {
    own_server_with(&[])
}

/// The same with `settings` that win over those all servers of the tests have.
pub fn own_server_with(settings: &[(&str, &str)]) -> Result<Throwaway> {
    Throwaway::start(&with_ours(settings), &mut |progress| eprintln!("{progress}"))
}

/// The same with its folder in `parent`.
pub fn own_server_in(parent: &Path, settings: &[(&str, &str)]) -> Result<Throwaway> {
    let binaries = Binaries::find_or_fetch(&mut |progress| eprintln!("{progress}"))?;
    Throwaway::start_in(parent, binaries, &with_ours(settings))
}

/// A server that follows `primary` until it is promoted.
pub fn standby_of(primary: &Throwaway) -> Result<Throwaway> {
    let session = Database::open(primary.url())?;
    session.execute("SELECT pg_backup_start('standby', true)")?;
    let stop = || {
        let label = session.text("SELECT labelfile FROM pg_backup_stop(false)")?;
        label.context("pg_backup_stop gives a label")
    };
    let (port, password) = (primary.port(), primary.password());
    let follow = format!("host=127.0.0.1 port={port} user=postgres password={password}");
    primary.start_standby(stop, &[("primary_conninfo", &follow)])
}

fn with_ours<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    SETTINGS.iter().chain(settings).copied().collect()
}

/// A database of one test.
pub struct Database {
    client: Client,
    url: String,
}

impl Database {
    /// Creates the database `name` on the server that all tests of this process share.
    pub fn create(name: &str) -> Result<Self> {
        static SERVER: OnceLock<Throwaway> = OnceLock::new();
        static START: Mutex<()> = Mutex::new(());
        let server = {
            let _one_at_a_time = START.lock().unwrap_or_else(PoisonError::into_inner);
            match SERVER.get() {
                Some(server) => server,
                None => {
                    let server = own_server()?;
                    SERVER.get_or_init(|| server)
                }
            }
        };
        Self::create_on(server, name)
    }

    /// Creates the database `name` on `server`.
    pub fn create_on(server: &Throwaway, name: &str) -> Result<Self> {
        let maintenance = Self::open(server.url())?;
        maintenance.execute(&format!("CREATE DATABASE \"{name}\""))?;
        Self::open(server.url_of(name))
    }

    /// Connects to the database that `url` names.
    pub fn open(url: String) -> Result<Self> {
        let client = block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
            tokio::spawn(connection);
            Ok::<_, tokio_postgres::Error>(client)
        })
        .with_context(|| format!("connect to {url}"))?;
        Ok(Self { client, url })
    }

    /// A second connection.
    pub fn again(&self) -> Result<Self> {
        Self::open(self.url.clone())
    }

    /// Connects again: the server was away.
    pub fn reconnect(&mut self) -> Result<()> {
        *self = self.again()?;
        Ok(())
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates a role that may log in and nothing else, with the superuser's password; returns the URL by which it comes to
    /// this database. `name` needs no quotes.
    pub fn create_login(&self, name: &str) -> Result<String> {
        let (_, rest) = self.url.split_once("://postgres:").context("a URL of the superuser")?;
        let (password, _) = rest.split_once('@').context("a URL with a password")?;
        self.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"))?;
        Ok(format!("postgres://{name}:{rest}"))
    }

    /// Port of the server.
    pub fn port(&self) -> Result<u16> {
        let config: tokio_postgres::Config = self.url.parse()?;
        config.get_ports().first().copied().context("the URL has no port")
    }

    /// Runs statements that return nothing of interest.
    pub fn execute(&self, sql: &str) -> Result<()> {
        block_on(self.client.batch_execute(sql)).with_context(|| sql.to_owned())
    }

    /// Writes `file` in the server's data folder. The server does so itself: the file is its user's and closed to others.
    pub fn put_file(&self, file: &str, text: &str) -> Result<()> {
        let lines = format!("SELECT unnest(string_to_array('{}', E'\\n'))", text.trim());
        self.execute(&format!(
            "COPY ({lines}) TO PROGRAM 'umask 077; cat > {file}.new && mv {file}.new {file}'"
        ))
    }

    /// Rows of one statement.
    pub fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        block_on(self.client.query(sql, parameters)).with_context(|| sql.to_owned())
    }

    /// The single number that `sql` yields.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let text = self.text(sql)?.unwrap_or_default();
        text.parse().with_context(|| format!("{sql}: `{text}` is not a number"))
    }

    /// The first column of the first row as text; `None` without a row or with NULL.
    pub fn text(&self, sql: &str) -> Result<Option<String>> {
        let messages = block_on(self.client.simple_query(sql)).with_context(|| sql.to_owned())?;
        Ok(messages
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            })
            .flatten())
    }

    /// True when `sql` yields `t`. A table that does not exist yet counts as false.
    pub fn is_true(&self, sql: &str) -> Result<bool> {
        match block_on(self.client.simple_query(sql)) {
            Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE) => Ok(false),
            Err(error) => Err(error).with_context(|| sql.to_owned()),
            Ok(messages) => Ok(messages.iter().any(|message| {
                matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("t"))
            })),
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").field("url", &self.url).finish_non_exhaustive()
    }
}
