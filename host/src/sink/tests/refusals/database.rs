//! A server with a few databases that are used again and again, a role for each use, and what the server said to it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

use super::way::Way;
use crate::demo::postgres::Throwaway;
use crate::settings::Mode;
use crate::sink::postgres::connection::describe;
use crate::sink::postgres::{Options, Session};
use crate::sink::tests::lab::{Database, ask_on, until, wait_for};

/// Says in its log which SQLSTATE it gave to which role.
static SERVER: LazyLock<Throwaway> = LazyLock::new(|| {
    let settings = [
        ("fsync", "off"),
        ("max_connections", "120"),
        ("log_line_prefix", "%u|%e|"),
        ("log_error_verbosity", "terse"),
        ("log_min_error_statement", "panic"),
    ];
    Throwaway::start(&settings, &mut |_| {}).unwrap()
});

/// A database and a session of the superuser on it.
type Reusable = (Database, Session);

/// Databases that nobody uses, with the `sluice` schema and nothing else.
static FREE: Mutex<Vec<Reusable>> = Mutex::new(Vec::new());

/// The database in which a way is tried, and the role that writes there.
pub struct TestDatabase {
    pub lab: Database,
    /// Of the superuser.
    session: Session,
    /// As the role, which may do no more than it must.
    pub writer: Options,
    role: String,
    reusable: bool,
    log_at: u64,
    /// SQLSTATEs that the server gave to the role.
    pub said: BTreeSet<String>,
}

impl TestDatabase {
    /// Makes the tables of `way`; `None` when the server lacks what it needs.
    pub fn make(way: &Way) -> Option<Self> {
        static ROLES: AtomicU32 = AtomicU32::new(0);
        let role = format!("writer_{}", ROLES.fetch_add(1, Ordering::Relaxed));
        let reusable = way.encoding == "UTF8";
        let free = if reusable { FREE.lock().unwrap().pop() } else { None };
        let (lab, session) = free.unwrap_or_else(|| create(way.encoding));
        if wait_for(session.batch_execute(way.needs)).is_err() {
            return None;
        }
        let writer = lab.create_role(&role);
        let (log_at, said) = (log_len(), BTreeSet::new());
        let database = Self { lab, session, writer, role, reusable, log_at, said };
        database.run(&way.tables);
        database.run(&privileges(way.mode));
        Some(database)
    }

    /// Runs statements as superuser, in which `{role}` and `{database}` stand for their names.
    pub fn run(&self, statements: &str) {
        let statements = self.named(statements);
        let done = wait_for(self.session.batch_execute(&statements));
        done.unwrap_or_else(|error| panic!("{statements}: {}", describe(&error)));
    }

    /// The answer of the superuser.
    pub fn ask(&self, query: &str) -> String {
        ask_on(&self.session, &self.named(query))
    }

    /// The statements with the names in them.
    pub fn named(&self, statements: &str) -> String {
        statements.replace("{role}", &self.role).replace("{database}", &self.lab.name)
    }

    /// Gives the database back for the next way. One in which a way failed is not used again.
    pub fn give_back(self) {
        if !self.reusable {
            return;
        }
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'";
        until(|| self.ask(end) == "0");
        self.run(
            "DROP PUBLICATION IF EXISTS everything; DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE; \
             DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC; \
             DELETE FROM sluice.positions; DELETE FROM sluice.lineage; DELETE FROM sluice.dead_letters; \
             DROP OWNED BY {role}; DROP ROLE {role}",
        );
        FREE.lock().unwrap().push((self.lab, self.session));
    }

    /// Reads which SQLSTATEs the server has given to the role so far.
    pub fn read_log(&mut self) -> &BTreeSet<String> {
        let mut text = Vec::new();
        let mut file = File::open(log()).unwrap();
        file.seek(SeekFrom::Start(self.log_at)).unwrap();
        file.read_to_end(&mut text).unwrap();
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.log_at += end as u64;
        let text = String::from_utf8_lossy(&text[..end]);
        let prefix = format!("{}|", self.role);
        let states = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.get(..5));
        self.said.extend(states.map(str::to_owned));
        &self.said
    }
}

fn create(encoding: &str) -> Reusable {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let name = format!("ways_{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let main = Database::on(&SERVER, "postgres");
    main.run(&format!("CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"));
    let database = Database::on(&SERVER, &name);
    wait_for(crate::sink::migrate::migrate(&database.options)).unwrap();
    let session = wait_for(database.session());
    (database, session)
}

/// What the mode needs, and nothing else.
fn privileges(mode: Mode) -> String {
    let on_tables = match mode {
        Mode::Append => "INSERT",
        Mode::Ignore => "INSERT, SELECT",
        Mode::Upsert => "INSERT, SELECT, UPDATE",
    };
    format!(
        "GRANT {on_tables} ON ALL TABLES IN SCHEMA public TO {{role}}; \
         GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {{role}}; GRANT USAGE ON SCHEMA sluice TO {{role}}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sluice TO {{role}}"
    )
}

fn log() -> PathBuf {
    SERVER.socket_folder().join("log")
}

fn log_len() -> u64 {
    std::fs::metadata(log()).unwrap().len()
}
