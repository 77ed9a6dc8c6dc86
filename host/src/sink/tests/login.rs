//! Passwords that change while a pipeline runs.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::lab::{
    Database, Fill, Given, Lane, make_plan, output, to_table, until, version, wait_for,
};
use crate::columns::{Column, Kind};
use crate::demo::postgres::Throwaway;
use crate::settings::{Mode, SinkSettings};
use crate::sink::postgres::Options;
use crate::sink::table::Plan;

const ROLE: &str = "rotated";

/// A server that asks everybody but its owner for a password.
fn server() -> (Throwaway, Database) {
    let server = Throwaway::start(&[("fsync", "off")], &mut |_| {}).unwrap();
    let database = Database::on(&server, "postgres");
    wait_for(crate::sink::migrate::migrate(&database.options)).unwrap();
    let folder = database.ask("SHOW data_directory");
    database.run(&format!(
        "CREATE TABLE t (v bigint); CREATE ROLE {ROLE} LOGIN PASSWORD 'first'; GRANT ALL ON t TO {ROLE};
         GRANT USAGE ON SCHEMA sluice TO {ROLE}; GRANT ALL ON ALL TABLES IN SCHEMA sluice TO {ROLE};
         COPY (VALUES ('host all postgres 127.0.0.1/32 trust'), ('host all all 127.0.0.1/32 scram-sha-256'))
         TO '{folder}/pg_hba.conf'; SELECT pg_reload_conf()"
    ));
    let open = format!("postgres://{ROLE}@127.0.0.1:{}/postgres?passfile=/dev/null", server.port());
    let open = Options::parse(&open).unwrap();
    until(|| wait_for(open.connect()).is_err_and(|fault| fault.code == "SL-P002"));
    (server, database)
}

fn plan(database: &Database) -> Arc<Plan> {
    make_plan(database, &[output("t", &[("v", Kind::Int64)])], &[("", to_table("t", Mode::Append))])
}

fn given(offset: i64) -> Given {
    let given = Given::messages([(0, offset)]);
    given.table(vec![Column::new(Kind::Int64).ints(&[offset])])
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Gives the role another password and ends its sessions.
fn rotate(database: &Database, password: &str) {
    database.run(&format!(
        "ALTER ROLE {ROLE} PASSWORD '{password}';
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
    ));
    until(|| {
        let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'");
        database.ask(&sessions) == "0"
    });
}

fn rows(database: &Database) -> String {
    database.ask("SELECT string_agg(v::text, ' ' ORDER BY v), (SELECT next_offset FROM sluice.positions) FROM t")
}

/// Writes with a password that is in a file, before and after it was changed twice; then with one that nobody gave us.
fn check_rotation(database: &Database, options: &Options, file: &Path, text: fn(&str) -> String) {
    let plan = plan(database);
    let mut lane = Lane::start_by(options, database, &[0], "lane");
    lane.write(&plan, given(0), &version("a"));
    for (offset, password) in [(1, "second"), (2, "third: \\ with a colon")] {
        rotate(database, &password.replace('\'', "''"));
        write(file, &text(password));
        lane.write(&plan, given(offset), &version("a"));
    }
    assert_eq!(rows(database), "0 1 2|3");
    rotate(database, "nobody knows it");
    lane.begin(&plan, given(3), &version("a"));
    assert!(lane.expect_stopped().starts_with("SL-P002"));
    assert_eq!(rows(database), "0 1 2|3");
    // As soon as somebody tells it, it is good for a new attempt.
    write(file, &text("nobody knows it"));
    lane.begin(&plan, given(3), &version("a"));
    lane.expect_done();
    assert_eq!(rows(database), "0 1 2 3|4");
}

#[test]
fn a_password_in_a_file_of_the_settings_is_rotated_without_a_restart() {
    let (server, database) = server();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    write(&file, "first\n");
    let port = server.port();
    // In quotes, as libpq takes them.
    let raw = format!(
        "host=127.0.0.1 port={port} user={ROLE} dbname=postgres password='${{file:{}}}'",
        file.display()
    );
    let url = crate::settings::filled(&raw).unwrap();
    assert!(url.ends_with("password='first'"), "{url}");
    let settings = SinkSettings {
        url,
        url_raw: Some(raw),
        connections_max: 32,
        tables: std::collections::BTreeMap::new(),
    };
    let options = Options::of(&settings).unwrap();
    let escaped = |password: &str| format!("{}\n", password.replace('\\', "\\\\"));
    check_rotation(&database, &options, &file, escaped);
}

#[test]
fn a_password_in_a_password_file_is_rotated_without_a_restart() {
    let (server, database) = server();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    let line = |password: &str| {
        let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
        format!("# comment\nother:*:*:*:wrong\n127.0.0.1:*:postgres:{ROLE}:{escaped}\n")
    };
    write(&file, &line("first"));
    let url = format!(
        "postgres://{ROLE}@127.0.0.1:{}/postgres?passfile={}",
        server.port(),
        file.display()
    );
    check_rotation(&database, &Options::parse(&url).unwrap(), &file, line);
}
