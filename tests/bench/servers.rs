//! A broker and a Postgres to measure with; on request they outlive the call and are found by the next.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sluice::demo::postgres::Throwaway;
use sluice_tests::child::{Signal, signal};
use sluice_tests::folders;
use sluice_tests::kafka::{Broker, Tuning};
use sluice_tests::wait::{SOON, until_true};

use crate::load::Filled;

/// Kafka's own defaults.
const JAVA: &[&str] = &["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"];

/// What servers are started for.
#[derive(Debug)]
pub struct Purpose {
    /// Name of the file that says where they are.
    note: &'static str,
    /// Lines for `server.properties` of the broker.
    broker: &'static str,
    /// Settings of Postgres, which is as durable as it is by default.
    postgres: &'static [(&'static str, &'static str)],
}

/// Short runs, in which nothing is to be tidied up: no checkpoint falls into one, behind which the WAL would
/// contain full-page images. The two `track` settings are for the latency and cost next to nothing: a dozen bytes of
/// memory a commit, and two looks at the clock for each write of WAL.
pub const RUNS: Purpose = Purpose {
    note: "servers.json",
    broker: "log.segment.bytes=1073741824\nlog.initial.task.delay.ms=30000\n",
    postgres: &[
        ("shared_buffers", "1GB"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
        ("track_commit_timestamp", "on"),
        ("track_wal_io_timing", "on"),
        ("synchronous_commit", "on"),
        ("log_min_messages", "warning"),
    ],
};

/// A long one, in which everything is: old messages go, logs are recycled, tables vacuumed.
pub const SOAK: Purpose = Purpose {
    note: "soak.json",
    broker: "log.segment.bytes=67108864\nlog.retention.bytes=134217728\n\
             log.retention.check.interval.ms=2000\n",
    postgres: &[
        ("shared_buffers", "1GB"),
        ("max_wal_size", "2GB"),
        ("checkpoint_timeout", "5min"),
        ("synchronous_commit", "on"),
        ("log_min_messages", "warning"),
    ],
};

/// Where the servers are; kept in a file between calls.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Servers {
    /// Files of broker, hosts and harness.
    pub folder: PathBuf,
    /// Where the broker listens.
    pub brokers: String,
    /// Process of the broker.
    pub broker: u32,
    /// Where Postgres listens, on 127.0.0.1.
    pub postgres_port: u16,
    /// Of its superuser.
    pub postgres_password: String,
    /// Process of the postmaster.
    pub postgres: u32,
    postgres_folder: PathBuf,
    note: PathBuf,
    /// Topics that were filled, by the name of their load.
    pub topics: BTreeMap<String, Filled>,
}

impl Servers {
    /// Those that a call before has left, or new ones.
    pub fn find_or_start(purpose: &Purpose, keep: bool) -> Result<Self> {
        let bench = folders::target()?.join("tmp").join("bench");
        let note = bench.join(purpose.note);
        let found =
            fs::read(&note).ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        if let Some(servers) = found {
            if servers.alive() {
                return Ok(servers);
            }
            servers.end()?;
        }
        let folder = bench.join(std::process::id().to_string());
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        // Both are left to themselves here and ended by `end`; only the broker of a call that dies is ended by
        // the kernel, and its Postgres by the next call.
        eprintln!("starting Kafka and Postgres");
        let postgres = Throwaway::start(purpose.postgres, &mut |progress| eprintln!("{progress}"))?;
        let tuning = Tuning { java: JAVA, properties: purpose.broker, outlives: keep };
        let broker = Broker::start(&tuning, &folder)?;
        let servers = Self {
            folder,
            brokers: broker.address().to_owned(),
            broker: broker.pid(),
            postgres_port: postgres.port(),
            postgres_password: postgres.password().to_owned(),
            postgres: postgres.pid().context("Postgres has no process")?,
            postgres_folder: postgres.socket_folder().to_path_buf(),
            note,
            topics: BTreeMap::new(),
        };
        servers.save()?;
        postgres.keep();
        Ok(servers)
    }

    /// URL of a database, for the superuser.
    pub fn url_of(&self, database: &str) -> String {
        let Self { postgres_password, postgres_port, .. } = self;
        format!("postgres://postgres:{postgres_password}@127.0.0.1:{postgres_port}/{database}")
    }

    /// Notes where everything is.
    pub fn save(&self) -> Result<()> {
        fs::write(&self.note, serde_json::to_vec_pretty(self)?)
            .context("note where the servers are")
    }

    /// Ends both and removes all of their files.
    pub fn end(&self) -> Result<()> {
        for (pid, program, ending) in
            [(self.broker, "java", Signal::Kill), (self.postgres, "postgres", Signal::Quit)]
        {
            if runs(pid, program) {
                signal(pid, ending)?;
                until_true("the server has ended", SOON, || Ok(!runs(pid, program)))?;
            }
        }
        for folder in self.folders() {
            // Gone already when a call was interrupted while it cleaned up.
            let _ = fs::remove_dir_all(folder);
        }
        fs::remove_file(&self.note).context("remove the note on the servers")
    }

    /// Folders with all that both keep on disk.
    pub fn folders(&self) -> [&Path; 2] {
        [&self.folder, &self.postgres_folder]
    }

    fn alive(&self) -> bool {
        runs(self.broker, "java") && runs(self.postgres, "postgres")
    }
}

/// True when process `pid` runs `program`: its number may be somebody else's now. One that has ended and is
/// not waited for has no command line.
fn runs(pid: u32, program: &str) -> bool {
    let line =
        fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).unwrap_or_default();
    let path = line.split(|byte| *byte == 0).next().unwrap_or_default();
    path.ends_with(program.as_bytes())
}
