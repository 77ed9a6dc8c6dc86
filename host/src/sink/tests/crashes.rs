//! Owners that crash: counted once, where something could have killed them, until the position moves.

use super::lab::{
    Database, Fill, Given, Lane, TOPIC, make_plan, output, to_table, version, wait_for,
};
use crate::columns::{Column, Kind};
use crate::settings::Mode;
use crate::sink::claims::{Claims, Crash};

fn claims(database: &Database, owner: &str) -> Claims {
    Claims::new(&database.options, "pipeline", "topic", owner)
}

/// What `owner` sees of partitions 0 and 1: whether their owners crashed, and how many did before.
fn seen(database: &Database, owner: &str) -> Vec<(bool, i32)> {
    let stored = wait_for(claims(database, owner).stored()).unwrap();
    stored.iter().map(|it| (it.owner_crashed, it.crashes)).collect()
}

fn release_cleanly(owner: &Claims) {
    wait_for(
        owner.errand("release partitions", async |session| owner.release_cleanly(session).await),
    )
    .unwrap();
}

/// A life that ends without a word after it has claimed both partitions, and a successor that takes note of it.
fn die(database: &Database, name: &str, counts: [bool; 2]) {
    wait_for(async {
        let owner = claims(database, name);
        let heartbeat = owner.heartbeat().await.unwrap();
        owner.claim(TOPIC, &[(0, 0), (1, 0)]).await.unwrap();
        drop(heartbeat);
    });
    let next = claims(database, "next");
    let gone = |partition: i32, counts| Crash { partition, owner: name.to_owned(), counts };
    wait_for(async {
        let session = database.options.connect().await.unwrap();
        // The server learns of the end of a session a moment later.
        while !next.stored_on(&session).await.unwrap().iter().all(|it| it.owner_crashed) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let crashed = [gone(0, counts[0]), gone(1, counts[1])];
        next.record_crashes(&session, &crashed).await.unwrap();
        next.record_crashes(&session, &crashed).await.unwrap();
    });
}

#[test]
fn an_owner_that_lives_or_has_released_cleanly_has_not_crashed() {
    let database = Database::new();
    let owner = claims(&database, "owner");
    let heartbeat = wait_for(owner.heartbeat()).unwrap();
    wait_for(owner.claim(TOPIC, &[(0, 0), (1, 0)])).unwrap();
    assert_eq!(seen(&database, "next"), [(false, 0); 2], "it lives");
    assert_eq!(seen(&database, "owner"), [(false, 0); 2], "it is oneself");
    release_cleanly(&owner);
    drop(heartbeat);
    assert_eq!(seen(&database, "next"), [(false, 0); 2], "it released cleanly");
    wait_for(owner.claim(TOPIC, &[(0, 0)])).unwrap();
    assert_eq!(seen(&database, "next"), [(true, 0), (false, 0)]);
}

#[test]
fn a_clean_release_clears_what_was_counted_before() {
    let database = Database::new();
    die(&database, "a", [true, true]);
    die(&database, "b", [true, true]);
    let owner = claims(&database, "owner");
    let heartbeat = wait_for(owner.heartbeat()).unwrap();
    wait_for(owner.claim(TOPIC, &[(0, 0)])).unwrap();
    release_cleanly(&owner);
    drop(heartbeat);
    assert_eq!(seen(&database, "next"), [(false, 0), (false, 2)]);
}

#[test]
fn each_death_is_counted_once_and_only_where_something_was_to_be_read() {
    let database = Database::new();
    for (life, expected) in [("a", 1), ("b", 2), ("c", 3)] {
        die(&database, life, [true, false]);
        assert_eq!(seen(&database, "next"), [(false, expected), (false, 0)]);
    }
    wait_for(async {
        let next = claims(&database, "next");
        let session = database.options.connect().await.unwrap();
        next.reset_crashes(&session, 0).await.unwrap();
    });
    assert_eq!(seen(&database, "next"), [(false, 0); 2]);
}

#[test]
fn a_position_that_has_moved_is_in_no_crash_loop() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let outputs = [output("t", &[("v", Kind::Int64)])];
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    die(&database, "a", [true, true]);
    die(&database, "b", [true, true]);
    assert_eq!(seen(&database, "next"), [(false, 2); 2]);
    let mut lane = Lane::start(&database, &[0]);
    let given = Given::messages([(0, 0)]).table(vec![Column::new(Kind::Int64).ints(&[7])]);
    lane.write(&plan, given, &version("a"));
    assert_eq!(seen(&database, "lane"), [(false, 0), (false, 2)]);
    die(&database, "c", [true, true]);
    assert_eq!(seen(&database, "next"), [(false, 1), (false, 3)]);
}
