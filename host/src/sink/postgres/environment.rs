//! What libpq's environment variables say of a connection, for what its string does not say. Opens none.

use std::sync::Arc;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::address::{Address, TlsOptions};
use super::connection::sources;
use super::{passfile, target, tls};
use crate::fault::{Fault, sqlstate};

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// Looks variables up; an empty one is none.
#[derive(Clone)]
pub(crate) struct Environment(Arc<Lookup>);

/// A connection string with what was added to it.
pub(crate) struct Complete {
    pub config: Config,
    pub tls: TlsOptions,
    /// What an operator should know before the first connection.
    pub warnings: Vec<String>,
}

impl Environment {
    pub fn of_the_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// Reads `url` and adds what it does not say.
    ///
    /// # Errors
    /// `SL-P011` when it cannot be understood, or names no server.
    pub fn complete(&self, url: &str) -> Result<Complete, Fault> {
        let mut address = Address::parse(url);
        self.add_tls(&mut address.tls);
        let ports = self.ports()?;
        address.add_ports(&ports);
        // The parser's own errors may quote the string, password included.
        let mut config: Config = address.url.parse().map_err(|error: tokio_postgres::Error| {
            Fault::exit(sqlstate::URL, format!("sink.url: {}", reason_without_secrets(&error)))
        })?;
        if config.get_hosts().is_empty() {
            let Some(hosts) = self.get("PGHOST") else {
                return Err(Fault::exit(sqlstate::URL, "sink.url: no host, and PGHOST is not set"));
            };
            for host in hosts.split(',') {
                config.host(host);
            }
        }
        if config.get_ports().is_empty() {
            for port in ports {
                config.port(port);
            }
        }
        if let (None, Some(user)) = (config.get_user(), self.get("PGUSER")) {
            config.user(user);
        }
        if let (None, Some(database)) = (config.get_dbname(), self.get("PGDATABASE")) {
            config.dbname(database);
        }
        let mut warnings = Vec::new();
        if config.get_password().is_none() {
            match self.password(address.passfile, &config) {
                Ok(Some(password)) => drop(config.password(password)),
                Ok(None) => {}
                Err(warning) => warnings.push(warning),
            }
        }
        let target = address.target.or_else(|| self.get("PGTARGETSESSIONATTRS"));
        config.target_session_attrs(target::target(target.as_deref(), config.get_hosts().len())?);
        config.ssl_mode(tls::ssl_mode(&address.tls)?);
        warnings.extend(plaintext(&config));
        Ok(Complete { config, tls: address.tls, warnings })
    }

    fn add_tls(&self, tls: &mut TlsOptions) {
        for (option, name) in [
            (&mut tls.sslmode, "PGSSLMODE"),
            (&mut tls.sslrootcert, "PGSSLROOTCERT"),
            (&mut tls.sslcert, "PGSSLCERT"),
            (&mut tls.sslkey, "PGSSLKEY"),
        ] {
            *option = option.take().or_else(|| self.get(name));
        }
    }

    fn ports(&self) -> Result<Vec<u16>, Fault> {
        let Some(ports) = self.get("PGPORT") else { return Ok(Vec::new()) };
        ports.split(',').map(|port| port.trim().parse()).collect::<Result<_, _>>().map_err(|_| {
            Fault::exit(sqlstate::URL, format!("sink.url: PGPORT is {ports:?}, which is no port"))
        })
    }

    /// `Err` says why a file is ignored.
    fn password(
        &self,
        passfile: Option<String>,
        config: &Config,
    ) -> Result<Option<String>, String> {
        if let Some(password) = self.get("PGPASSWORD") {
            return Ok(Some(password));
        }
        let at_home = || self.get("HOME").map(|home| format!("{home}/.pgpass"));
        let file = passfile.or_else(|| self.get("PGPASSFILE")).or_else(at_home);
        let user = config.get_user().map(str::to_owned).or_else(|| self.get("USER"));
        let (Some(file), Some(user)) = (file, user) else { return Ok(None) };
        passfile::password(&file, config, &user)
    }
}

/// Which key or part is wrong, never its value.
fn reason_without_secrets(error: &tokio_postgres::Error) -> String {
    let detail = sources(error).next().map(ToString::to_string).unwrap_or_default();
    let detail = if detail.contains("unknown option") { detail } else { String::new() };
    if detail.is_empty() { "not a valid connection string".to_owned() } else { detail }
}

/// What to say when somebody between us and the server may read passwords and rows.
fn plaintext(config: &Config) -> Option<String> {
    let mode = match config.get_ssl_mode() {
        SslMode::Disable => "allows no TLS",
        SslMode::Prefer => "does not insist on TLS",
        _ => return None,
    };
    let is_loopback = |address: &std::net::IpAddr| address.is_loopback();
    let is_local =
        |name: &str| name == "localhost" || name.parse().is_ok_and(|it| is_loopback(&it));
    let remote = config.get_hosts().iter().find_map(|host| match host {
        Host::Tcp(name) if !is_local(name) => Some(name),
        _ => None,
    })?;
    if !config.get_hostaddrs().is_empty() && config.get_hostaddrs().iter().all(is_loopback) {
        return None;
    }
    Some(format!(
        "password and rows may cross the network to {remote} in plaintext: sslmode of `sink.url` {mode}; use require, or \
         verify-full with sslrootcert"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(url: &str, variables: &[(&str, &str)]) -> Result<Complete, String> {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let environment = Environment::new(move |name| {
            variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        });
        environment.complete(url).map_err(|fault| fault.to_string())
    }

    /// Servers, user, password, database and `sslmode`.
    fn check(url: &str, variables: &[(&str, &str)], expected: &str) {
        let shown = complete(url, variables).map_or_else(
            |fault| fault,
            |Complete { config, tls, .. }| {
                let hosts: Vec<String> = (config.get_hosts().iter())
                    .map(|host| match host {
                        Host::Tcp(name) => name.clone(),
                        Host::Unix(path) => path.display().to_string(),
                    })
                    .collect();
                let password = config.get_password().map(String::from_utf8_lossy);
                format!(
                    "{} {:?} {} {} {} {}",
                    hosts.join(","),
                    config.get_ports(),
                    config.get_user().unwrap_or("-"),
                    password.as_deref().unwrap_or("-"),
                    config.get_dbname().unwrap_or("-"),
                    tls.sslmode.as_deref().unwrap_or("-"),
                )
            },
        );
        assert_eq!(shown, expected, "{url} {variables:?}");
    }

    const ALL: [(&str, &str); 6] = [
        ("PGHOST", "env"),
        ("PGPORT", "6000"),
        ("PGUSER", "eve"),
        ("PGPASSWORD", "pw"),
        ("PGDATABASE", "data"),
        ("PGSSLMODE", "require"),
    ];

    #[test]
    fn variables_say_what_the_string_does_not() {
        check("postgres://", &ALL, "env [6000] eve pw data require");
        check("postgres:///", &ALL, "env [6000] eve pw data require");
        check("dbname=x", &ALL, "env [6000] eve pw x require");
        check("postgres://me:my@db:1/x?sslmode=disable", &ALL, "db [1] me my x disable");
        check(
            "host=db port=1 user=me password=my dbname=x sslmode=disable",
            &ALL,
            "db [1] me my x disable",
        );
        // Each alone.
        let url = "postgres://db";
        check(url, &[("PGPORT", "6000")], "db [6000] - - - -");
        check(url, &[("PGUSER", "eve")], "db [5432] eve - - -");
        check(url, &[("PGPASSWORD", "pw")], "db [5432] - pw - -");
        check(url, &[("PGDATABASE", "data")], "db [5432] - - data -");
        check(url, &[("PGSSLMODE", "allow")], "db [5432] - - - allow");
        check("postgres://me@/x", &[("PGHOST", "/run/pg")], "/run/pg [] me - x -");
        check(url, &[("PGUSER", ""), ("PGPORT", "")], "db [5432] - - - -");
    }

    #[test]
    fn ports_go_to_servers_that_have_none() {
        check("postgres://a,b/x", &[("PGPORT", "1,2")], "a,b [1, 2] - - x -");
        check("postgres://a,b/x", &[("PGPORT", "1")], "a,b [1, 1] - - x -");
        check("postgres://a:7,b/x", &[("PGPORT", "1")], "a,b [7, 5432] - - x -");
        check("postgres://u:p@[::1]/x?connect_timeout=3", &[("PGPORT", "1")], "::1 [1] u p x -");
        check("postgres://u:p@[::1]:9", &[("PGPORT", "1")], "::1 [9] u p - -");
        check("host=a,b", &[("PGPORT", "1")], "a,b [1] - - - -");
        check("", &[("PGHOST", "a,b"), ("PGPORT", "1,2")], "a,b [1, 2] - - - -");
        check(
            "host=a",
            &[("PGPORT", "x")],
            r#"SL-P011: sink.url: PGPORT is "x", which is no port"#,
        );
        check("dbname=x", &[], "SL-P011: sink.url: no host, and PGHOST is not set");
    }

    #[test]
    fn tls_options_come_from_variables_too() {
        let variables = [
            ("PGSSLROOTCERT", "ca.pem"),
            ("PGSSLCERT", "me.pem"),
            ("PGSSLKEY", "key.pem"),
            ("PGSSLMODE", "verify-ca"),
        ];
        let tls = complete("postgres://db?sslcert=own.pem", &variables).unwrap().tls;
        let expected = TlsOptions {
            sslmode: Some("verify-ca".into()),
            sslrootcert: Some("ca.pem".into()),
            sslcert: Some("own.pem".into()),
            sslkey: Some("key.pem".into()),
            sslpassword: None,
        };
        assert!(tls == expected, "{tls:?}");
    }

    #[test]
    fn a_server_that_takes_writes_is_asked_for_as_libpq_is() {
        let target = |url: &str, variable: &str| {
            let variables = [("PGTARGETSESSIONATTRS", variable)];
            let target = complete(url, &variables).map(|it| it.config.get_target_session_attrs());
            target.map_or_else(|fault| fault, |target| format!("{target:?}"))
        };
        let asking = |word: &str| format!("postgres://a,b/x?target_session_attrs={word}");
        assert_eq!(target("postgres://a/x", ""), "Any");
        assert_eq!(target("postgres://a,b/x", ""), "ReadWrite");
        assert_eq!(target("postgres://a,b/x", "any"), "Any");
        assert_eq!(target("host=a target_session_attrs='read-write'", "any"), "ReadWrite");
        assert_eq!(target(&asking("any"), "primary"), "Any");
        assert_eq!(target(&asking("primary"), ""), "ReadWrite");
        assert_eq!(target(&asking(""), "any"), "Any");
        for word in ["read-only", "standby", "prefer-standby"] {
            let expected = format!(
                "SL-P011: sink.url: target_session_attrs={word} may lead to a server that takes no writes; use read-write"
            );
            assert_eq!(
                [target(&asking(word), ""), target("host=a", word)],
                [&*expected, &*expected]
            );
        }
        let unknown = "SL-P011: sink.url: target_session_attrs \"master\" is none of any, read-write, primary";
        assert_eq!(target(&asking("master"), ""), unknown);
    }

    #[test]
    fn passwords_are_looked_for_where_libpq_does() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, password: &str| {
            use std::os::unix::fs::PermissionsExt;
            let path = folder.path().join(name);
            std::fs::write(&path, format!("*:*:*:*:{password}")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (home, file, own) =
            (folder.path().to_str().unwrap(), write("file", "file"), write("own", "own"));
        write(".pgpass", "home");
        let url = "postgres://me@db/x";
        check(url, &[("HOME", home)], "db [5432] me home x -");
        check(url, &[("HOME", home), ("PGPASSFILE", &file)], "db [5432] me file x -");
        let with_own = format!("{url}?passfile={own}");
        check(&with_own, &[("HOME", home), ("PGPASSFILE", &file)], "db [5432] me own x -");
        let variable = ("PGPASSWORD", "variable");
        check(&with_own, &[("HOME", home), variable], "db [5432] me variable x -");
        check("postgres://me:url@db/x", &[("HOME", home), variable], "db [5432] me url x -");
        check("postgres://db/me", &[("HOME", home), ("USER", "me")], "db [5432] - home me -");
        let missing = [("HOME", home), ("PGPASSFILE", "/does/not/exist")];
        check(url, &missing, "db [5432] me - x -");
    }

    #[test]
    fn plaintext_beyond_this_machine_is_warned_of() {
        let warnings = |url: &str| complete(url, &[]).unwrap().warnings.join("; ");
        for url in [
            "postgres://127.0.0.1/x",
            "postgres://localhost,[::1]/x?sslmode=disable",
            "host=/run",
            "postgres://db/x?sslmode=require",
            "postgres://db/x?sslmode=verify-full",
            "host=db hostaddr=127.0.0.1",
        ] {
            assert_eq!(warnings(url), "", "{url}");
        }
        assert_eq!(
            warnings("postgres://me:hunter2@localhost,db.example/x"),
            "password and rows may cross the network to db.example in plaintext: sslmode of `sink.url` does not insist on \
             TLS; use require, or verify-full with sslrootcert"
        );
        assert!(warnings("postgres://10.0.0.1/x?sslmode=disable").contains("allows no TLS"));
    }
}
