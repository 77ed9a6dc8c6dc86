//! How to connect: what the settings say, what the environment says for the rest, and what may be shown of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::address::TlsOptions;
use super::connection::CONNECT_MAX;
use super::environment::{Complete, Environment};
use super::login::{Login, Source};
use super::sessions::Sessions;
use super::tls::Tls;
use crate::fault::{Fault, sqlstate};
use crate::settings::SinkSettings;

/// A dead peer is noticed after this long, whether we wait for it to answer or to take our bytes.
const PEER_SILENT_MAX: Duration = Duration::from_secs(30);
/// How to connect. Printing it shows no password.
#[derive(Clone)]
pub struct Options {
    pub(super) config: Config,
    pub(super) tls: Arc<Tls>,
    pub(super) login: Arc<Login>,
    /// What to log before the first connection.
    pub(super) warnings: Arc<[String]>,
    pub(super) key: Arc<Key>,
    /// Shared with other pipelines of this process.
    pub(super) sessions: Option<Arc<Sessions>>,
    /// Longest time to wait for our turn; as long as it takes where there is none.
    pub(super) permit_wait: Option<Duration>,
    /// Longest time one transaction may take before its connection is thrown away.
    pub write_max: Duration,
    /// A session without work for so long is closed.
    pub idle_max: Duration,
}

/// What makes sessions of two pipelines alike: everything but their names and passwords.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Key {
    config: Config,
    tls: TlsOptions,
}

impl Options {
    /// Reads `postgres://user:password@host:port/database?sslmode=...` or libpq's `key=value` form.
    ///
    /// The options of TLS mean what they mean to libpq: `sslmode`, `sslrootcert` (a file, or `system`), `sslcert`, `sslkey`
    /// and `sslpassword`. So do its environment variables and its password file, for what `url` does not say.
    pub fn parse(url: &str) -> Result<Self, Fault> {
        let source = Source { url: url.to_owned(), raw: None };
        Self::complete(source, Environment::of_the_process())
    }

    /// Reads the address in `[sink]`. Files that it names are read now, and again when Postgres refuses a login or TLS fails.
    pub fn of(settings: &SinkSettings) -> Result<Self, Fault> {
        let SinkSettings { url, url_raw, .. } = settings;
        let source = Source { url: url.clone(), raw: url_raw.clone() };
        Self::complete(source, Environment::of_the_process())
    }

    pub(super) fn complete(source: Source, environment: Environment) -> Result<Self, Fault> {
        let url = source
            .now()
            .map_err(|reason| Fault::exit(sqlstate::URL, format!("sink.url: {reason}")))?;
        let Complete { mut config, tls: tls_options, warnings } = environment.complete(&url)?;
        config
            .keepalives_idle(PEER_SILENT_MAX / 3)
            .keepalives_interval(PEER_SILENT_MAX / 6)
            .keepalives_retries(4)
            .tcp_user_timeout(PEER_SILENT_MAX);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_MAX);
        }
        let login = Arc::new(Login::new(source, environment, &config));
        let tls = Arc::new(Tls::new(tls_options.clone())?);
        let mut of_key = config.clone();
        // It changes while the role and its sessions stay the same.
        of_key.password("");
        let key = Arc::new(Key { config: of_key, tls: tls_options });
        let (write_max, idle_max) = (Duration::from_mins(5), Duration::from_mins(1));
        Ok(Self {
            config,
            tls,
            key,
            login,
            warnings: warnings.into(),
            sessions: None,
            permit_wait: None,
            write_max,
            idle_max,
        })
    }

    /// True when sessions of both are alike but for their names: one server, database and user.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// The same under the name by which `pg_stat_activity` and a successor know us.
    #[must_use]
    pub fn named(&self, pipeline: &str, owner: &str) -> Self {
        self.called(&format!("sluice/{pipeline}/{owner}"))
    }

    pub(super) fn called(&self, name: &str) -> Self {
        let mut named = self.clone();
        named.config.application_name(name);
        named
    }
}

/// Host, port and database: all that may be shown.
impl fmt::Display for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let ports = self.config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let separator = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(formatter, "{separator}{name}:{port}")?,
                Host::Unix(path) => write!(formatter, "{separator}{}:{port}", path.display())?,
            }
        }
        write!(
            formatter,
            "/{}",
            self.config.get_dbname().or(self.config.get_user()).unwrap_or_default()
        )
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Options({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Options::parse(url).unwrap_err().to_string()
    }

    #[test]
    fn only_host_port_and_database_are_shown() {
        let options =
            Options::parse("postgres://me:hunter2@db.example:6543/plant?sslmode=require").unwrap();
        assert_eq!(options.to_string(), "db.example:6543/plant");
        assert_eq!(format!("{options:?}"), "Options(db.example:6543/plant)");
        let options =
            Options::parse("host=a,b port=1,2 user=me password='hunter 2' dbname=plant").unwrap();
        assert_eq!(options.to_string(), "a:1,b:2/plant");
    }

    #[test]
    fn refused_connection_strings_keep_their_secrets() {
        insta::assert_snapshot!(
            [
                refused("postgres://me:hunter2@db.example:port/plant"),
                refused("password=hunter2"),
                refused("postgres://me:hunter2@db/plant?sslmode=maybe"),
                refused("postgres://me:hunter2@db/plant?sslmoed=require"),
                refused("postgres://me:hunter2@db/plant?sslrootcert=/does/not/exist&sslmode=verify-full")
                    .lines()
                    .map(|line| &line[..63])
                    .collect(),
            ]
            .join("\n"),
            @r#"
        SL-P011: sink.url: not a valid connection string
        SL-P011: sink.url: no host, and PGHOST is not set
        SL-P011: sink.url: sslmode "maybe" is none of disable, allow, prefer, require, verify-ca, verify-full
        SL-P011: sink.url: unknown option `sslmoed`
        SL-P017: sink.url: read sslrootcert /does/not/exist: error:8000
        "#
        );
    }
}
