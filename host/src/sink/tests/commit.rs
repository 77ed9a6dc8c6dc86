//! A COMMIT whose answer is lost is resolved by reading the position.

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version, wait_for};
use super::proxy::{Cut, Proxy};
use crate::columns::{Column, Kind};
use crate::settings::Mode;
use crate::sink::postgres::Written;

/// Three batches, with the connection cut at the COMMIT of some: each row must be there once.
fn check(cut: Cut, times: u32, mode: Mode) {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint, n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
    if mode == Mode::Upsert {
        database.run("ALTER TABLE t ADD UNIQUE (v)");
    }
    let table = crate::settings::TableSettings { key: vec!["v".to_owned()], ..to_table("t", mode) };
    let plan = make_plan(&database, &[output("t", &[("v", Kind::Int64)])], &[("", table)]);
    let proxy = Proxy::start(database.port, cut, times);
    let mut lane = Lane::start_by(&database.through(proxy.port), &database, &[0, 1], "lane");
    for round in 0..3 {
        let given = Given::messages([(0, round), (1, round)]);
        let values = Column::new(Kind::Int64).ints(&[round, round + 100]);
        lane.write(&plan, given.table(vec![values]), &version("a"));
    }
    assert_eq!(proxy.cuts_left(), 0);
    assert_eq!(database.ask("SELECT v FROM t ORDER BY v"), "0\n1\n2\n100\n101\n102");
    assert_eq!(database.ask("SELECT next_offset FROM sluice.positions"), "3\n3");
    assert_eq!(
        database.ask("SELECT to_offset, messages, rows FROM sluice.lineage"),
        "3|3|3\n3|3|3"
    );
}

#[test]
fn a_commit_that_never_arrived_is_sent_again() {
    check(Cut::BeforeCommit, 1, Mode::Append);
    check(Cut::BeforeCommit, 3, Mode::Upsert);
}

#[test]
fn a_commit_whose_answer_was_lost_is_not_sent_again() {
    check(Cut::AfterCommit, 1, Mode::Append);
    check(Cut::AfterCommit, 3, Mode::Append);
}

#[test]
fn a_lost_answer_after_which_the_partition_changed_hands_writes_nothing_twice() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let proxy = Proxy::start(database.port, Cut::BeforeCommit, u32::MAX);
    let mut lane = Lane::start_by(&database.through(proxy.port), &database, &[0], "old");
    let given = || Given::messages([(0, 0)]).table(vec![Column::new(Kind::Int64).ints(&[7])]);
    lane.begin(&plan, given(), &version("a"));
    // While the old owner tries in vain, another host takes over and writes the same message.
    let deadline = std::time::Instant::now() + super::lab::PATIENCE;
    while proxy.cuts_left() == u32::MAX {
        assert!(std::time::Instant::now() < deadline, "no attempt");
        wait_for(async { tokio::time::sleep(std::time::Duration::from_millis(5)).await });
    }
    let mut other = Lane::start(&database, &[0]);
    other.write(&plan, given(), &version("a"));
    assert!(matches!(lane.finish(), Written::Fenced { partitions, .. } if partitions == [0]));
    assert_eq!(database.ask("SELECT v FROM t"), "7");
}
