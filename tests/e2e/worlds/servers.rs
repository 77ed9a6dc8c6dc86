//! A primary and its standby on one small disk, reached with TLS as a role of its own whose password is in a file.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sluice::demo::postgres::Throwaway;
use sluice::sink::postgres::Options;
use sluice_tests::certificates::{Authority, Valid};
use sluice_tests::counts::long;
use sluice_tests::pair::Pair;
use sluice_tests::postgres::{Database, SmallDisk, block_on, own_server_in, own_server_with};
use sluice_tests::proxy::Proxy;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// Little log, or the disk would have to be larger; as much as a standby may need that has just been made.
const SETTINGS: [(&str, &str); 4] = [
    ("max_wal_size", "48MB"),
    ("min_wal_size", "32MB"),
    ("wal_keep_size", "64MB"),
    ("shared_buffers", "32MB"),
];

/// Both servers with all rows, and the table once more while its rows are written again for a column's new type.
fn disk_mib() -> usize {
    if long() { 2560 } else { 640 }
}

/// The servers and how they are reached.
pub struct Servers {
    /// Both servers, and the address that hosts know.
    pub pair: Pair,
    /// What both lie on; none where no disk can be mounted. It goes after them.
    pub disk: Option<SmallDisk>,
    name: String,
    authority: Authority,
    trusted: PathBuf,
    password_file: PathBuf,
    /// Passwords so far; the last is the one that Postgres knows.
    passwords: usize,
}

impl Servers {
    /// The servers, with a topic of `partitions` and a database named `name`.
    pub fn begin(name: &str, partitions: i32) -> Result<(Self, Scene)> {
        let disk = SmallDisk::mount(name, disk_mib())?;
        let primary = match &disk {
            Some(disk) => own_server_in(disk.folder(), &SETTINGS)?,
            None => own_server_with(&SETTINGS)?,
        };
        let scene = Scene::on_server(name, partitions, &primary)?;
        let authority = Authority::new("ours")?;
        let trusted = authority.write(&scene.folder, "ours")?;
        scene.database.execute("ALTER SYSTEM SET ssl = on")?;
        present(&primary, &authority, &trusted.display().to_string(), Valid::Now)?;
        scene.database.execute(&format!(
            "CREATE ROLE {name} LOGIN; ALTER DATABASE {name} OWNER TO {name}; \
             ALTER TABLE readings OWNER TO {name}"
        ))?;
        let proxy = Proxy::start_unread(primary.port())?;
        let pair = Pair::new(primary, proxy)?;
        let password_file = scene.folder.join("password");
        let name = name.to_owned();
        let mut servers =
            Self { pair, disk, name, authority, trusted, password_file, passwords: 0 };
        servers.change_password(&scene.database)?;
        servers.write_password()?;
        Ok((servers, scene))
    }

    /// Where hosts connect.
    pub fn url(&self) -> String {
        let Self { name, trusted, password_file, .. } = self;
        format!(
            "postgres://{name}:${{file:{}}}@127.0.0.1:{}/{name}?sslmode=verify-full&sslrootcert={}",
            password_file.display(),
            self.pair.proxy.port(),
            trusted.display()
        )
    }

    /// A session of the superuser with the primary, around what is in the way of hosts.
    pub fn open(&self) -> Result<Database> {
        Database::open(self.pair.primary.url_of(&self.name))
    }

    /// Gives the role its next password, which hosts do not know yet.
    pub fn change_password(&mut self, database: &Database) -> Result<()> {
        self.passwords += 1;
        self.set_password(database)
    }

    /// Gives the role the password that it should have: a server may have lost it.
    pub fn set_password(&self, database: &Database) -> Result<()> {
        let (role, password) = (&self.name, self.password());
        database.execute(&format!("ALTER ROLE {role} PASSWORD '{password}'"))
    }

    /// Tells the hosts.
    pub fn write_password(&self) -> Result<()> {
        let new = self.password_file.with_extension("new");
        fs::write(&new, self.password())?;
        fs::rename(new, &self.password_file).context("write the password")
    }

    fn password(&self) -> String {
        format!("secret-{}", self.passwords)
    }

    /// Gives the primary a new certificate, and waits until it presents that.
    pub fn present(&self, valid: Valid) -> Result<()> {
        let trusted = self.trusted.display().to_string();
        present(&self.pair.primary, &self.authority, &trusted, valid)
    }

    /// Ends all sessions of hosts; they come again.
    pub fn end_sessions(&self, database: &Database) -> Result<()> {
        database.execute(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
            self.name
        ))
    }

    /// Starts the primary again if it has ended. A new standby follows it: the former one may have ended, too.
    pub fn recover(&mut self) -> Result<()> {
        if self.open().is_err() {
            self.pair.primary.start_again()?;
        }
        self.pair.follow()
    }
}

fn present(server: &Throwaway, authority: &Authority, trusted: &str, valid: Valid) -> Result<()> {
    authority.issue("127.0.0.1", valid)?.present_on(&Database::open(server.url())?)?;
    let url = format!("{}?sslmode=verify-full&sslrootcert={trusted}", server.url());
    let options = Options::parse(&url)?;
    until_true("the server presents its certificate", SOON, || {
        let refused = block_on(options.connect()).err().map(|fault| fault.to_string());
        Ok(match valid {
            Valid::Now => refused.is_none(),
            Valid::Before => refused.is_some_and(|why| why.contains("certificate has expired")),
            Valid::Later => refused.is_some_and(|why| why.contains("certificate is not yet valid")),
        })
    })
}
