//! Postgres goes away and comes back: the same batch is written, once.

use std::sync::Arc;
use std::time::Duration;

use super::lab::{
    Database, Fill, Given, Lane, make_plan, output, to_table, until, version, wait_for,
};
use crate::columns::{Column, Kind};
use crate::demo::postgres::Throwaway;
use crate::settings::{Mode, TableSettings};
use crate::sink::migrate::migrate;
use crate::sink::postgres::Written;
use crate::sink::table::Plan;

fn given(offsets: std::ops::Range<i64>) -> Given {
    let values = Column::new(Kind::Int64).ints(&offsets.clone().collect::<Vec<_>>());
    Given::messages(offsets.map(|offset| (0, offset))).table(vec![values])
}

fn one_column(mode: Mode) -> (Vec<crate::description::Output>, Vec<(&'static str, TableSettings)>) {
    (vec![output("t", &[("v", Kind::Int64)])], vec![("", to_table("t", mode))])
}

#[test]
fn a_server_that_crashes_and_comes_back_gets_every_batch_once() {
    let mut server = Throwaway::start(&[], &mut |_| {}).unwrap();
    let database = Database::on(&server, "postgres");
    wait_for(migrate(&database.options)).unwrap();
    database.run("CREATE TABLE t (v bigint)");
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, given(0..3), &version("a"));
    server.stop_immediate().unwrap();
    lane.begin(&plan, given(3..5), &version("a"));
    assert!(lane.writer.wait(Duration::from_millis(300)).is_none() && lane.writer.busy());
    server.start_again().unwrap();
    lane.expect_done();
    // The crash comes while a large batch is on its way.
    for round in 0..3 {
        let start = 5 + round * 200_000;
        lane.begin(&plan, given(start..start + 200_000), &version("a"));
        std::thread::sleep(Duration::from_millis(20 * round as u64));
        server.start_again().unwrap();
        lane.expect_done();
    }
    assert_eq!(
        database.ask("SELECT count(*), count(DISTINCT v), max(v) FROM t"),
        "600005|600005|600004"
    );
    assert_eq!(database.ask("SELECT next_offset FROM sluice.positions"), "600005");
}

#[test]
fn a_session_ended_by_an_administrator_is_replaced() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint PRIMARY KEY)");
    let (outputs, tables) = one_column(Mode::Upsert);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    for round in 0..3 {
        lane.write(&plan, given(round..round + 1), &version("a"));
        database.ask("SELECT pg_terminate_backend(backend_pid) FROM sluice.positions");
    }
    assert_eq!(database.ask("SELECT count(*) FROM t"), "3");
}

#[test]
fn a_locked_table_is_waited_for() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    let person = wait_for(database.session());
    wait_for(
        person.batch_execute("SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE t"),
    )
    .unwrap();
    lane.begin(&plan, given(0..2), &version("a"));
    // Beyond lock_timeout, so that at least one attempt failed.
    assert!(lane.writer.wait(Duration::from_secs(6)).is_none());
    wait_for(person.batch_execute("ROLLBACK")).unwrap();
    lane.expect_done();
    assert_eq!(database.ask("SELECT count(*) FROM t"), "2");
}

#[test]
fn rows_locked_by_a_paused_host_are_taken_over() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint PRIMARY KEY)");
    let (outputs, tables) = one_column(Mode::Upsert);
    let plan = make_plan(&database, &outputs, &tables);
    let paused = wait_for(database.options.named("pipeline", "old").connect()).unwrap();
    wait_for(paused.take_role_path()).unwrap();
    wait_for(paused.batch_execute(
        "SET idle_in_transaction_session_timeout = 0; BEGIN; INSERT INTO t VALUES (0)",
    ))
    .unwrap();
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, given(0..2), &version("a"));
    assert_eq!(database.ask("SELECT count(*) FROM t"), "2");
}

/// A table whose trigger sleeps while `condition` is true, and a lane that has little patience.
fn slow_table(condition: &str) -> (Database, Arc<Plan>, Lane) {
    let database = Database::new();
    database.run(&format!(
        "CREATE TABLE t (v bigint); CREATE SEQUENCE tries; \
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF {condition} THEN PERFORM pg_sleep(3600); END IF; RETURN NEW; END'; \
         CREATE TRIGGER wait BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION wait()"
    ));
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut options = database.options.clone();
    options.write_max = Duration::from_millis(500);
    let lane = Lane::start_by(&options, &database, &[0], "lane");
    (database, plan, lane)
}

/// The server was told to give up, too.
fn nobody_sleeps(database: &Database) {
    until(|| {
        database.ask("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()") == "0"
    });
}

#[test]
fn a_write_that_takes_too_long_once_is_tried_again() {
    let (database, plan, mut lane) = slow_table("nextval(''tries'') = 1");
    lane.write(&plan, given(0..1), &version("a"));
    assert_eq!(database.ask("SELECT v FROM t"), "0");
    nobody_sleeps(&database);
}

#[test]
fn a_batch_that_takes_too_long_is_to_be_made_smaller() {
    let (database, plan, mut lane) = slow_table("NEW.v = 1");
    lane.begin(&plan, given(0..3), &version("a"));
    let written = lane.finish();
    let Written::TooLarge { fault, .. } = written else { panic!("{written:?}") };
    assert_eq!(fault.code, "SL-P014");
    assert_eq!(database.ask("SELECT count(*) FROM t"), "0");
    nobody_sleeps(&database);
}

#[test]
fn a_row_that_takes_too_long_alone_is_dead_lettered() {
    let (database, plan, mut lane) = slow_table("NEW.v = 0");
    let range = lane.write(&plan, given(0..1), &version("a"));
    assert_eq!((range[0].rows, range[0].rejected), (0, 1));
    assert_eq!(database.ask("SELECT \"offset\", code FROM sluice.dead_letters"), "0|57014");
    nobody_sleeps(&database);
}

#[test]
fn an_abandoned_writer_leaves_nothing_open() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, given(0..1), &version("a"));
    lane.writer.abandon();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'sluice/%'";
    let deadline = std::time::Instant::now() + super::lab::PATIENCE;
    while database.ask(sessions) != "0" {
        assert!(std::time::Instant::now() < deadline, "still connected");
    }
}
