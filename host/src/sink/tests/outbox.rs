//! The outbox: which dead letters come next, and who may send them.

use super::lab::{Database, wait_for};
use crate::sink::dead_letters::outbox::{Outbox, Standing};

fn outbox(database: &Database, owner: &str) -> Outbox {
    Outbox::new(database.options.named("p", owner), "p", "orders.dlt", owner)
}

fn insert(id: i64, payload_bytes: usize, relay: bool) -> String {
    format!(
        "INSERT INTO sluice.dead_letters (id, pipeline, topic, topic_id, partition, \"offset\", payload, header_names, \
            header_values, stage, code, reason, digest, relay) OVERRIDING SYSTEM VALUE \
         VALUES ({id}, 'p', 'orders', gen_random_uuid(), 3, {id}, convert_to(repeat('x', {payload_bytes}), 'UTF8'), \
            '{{}}', '{{}}', 'plugin', 'c', 'r', 'd', {relay});"
    )
}

fn ids(outbox: &mut Outbox, dead_letters_max: i64, bytes_max: i64) -> Vec<Result<i64, i64>> {
    let next = wait_for(outbox.next(dead_letters_max, bytes_max)).unwrap();
    next.into_iter()
        .map(|next| next.map(|dead_letter| dead_letter.id).map_err(|(id, _)| id))
        .collect()
}

#[test]
fn dead_letters_come_in_their_order_and_no_more_than_fit() {
    let database = Database::new();
    let lengths = [(5, 10), (2, 10), (9, 500), (7, 10), (12, 10)];
    database.run(&lengths.map(|(id, bytes)| insert(id, bytes, true)).concat());
    database.run(&insert(1, 10, false));
    let mut outbox = outbox(&database, "a");
    let all = [2, 5, 7, 9, 12].map(Ok);
    assert_eq!(ids(&mut outbox, 100, 1 << 20), all);
    assert_eq!(ids(&mut outbox, 3, 1 << 20), all[..3]);
    // The one that passes the limit still goes along, whatever its length.
    assert_eq!(ids(&mut outbox, 100, 31), all[..4]);
    assert_eq!(ids(&mut outbox, 100, 1), all[..1]);
    wait_for(outbox.mark_relayed(&[2, 7, 4711])).unwrap();
    wait_for(outbox.mark_refused(&[(9, "SL-D303: too large".to_owned())])).unwrap();
    assert_eq!(ids(&mut outbox, 100, 1 << 20), [Ok(5), Ok(12)]);
    let marks = "SELECT id, relay, relayed_at IS NOT NULL, relay_fault FROM sluice.dead_letters ORDER BY id";
    insta::assert_snapshot!(database.ask(marks), @"
    1|f|f|NULL
    2|f|t|NULL
    5|t|f|NULL
    7|f|t|NULL
    9|f|f|SL-D303: too large
    12|t|f|NULL
    ");
}

#[test]
fn a_dead_letter_that_is_committed_late_is_not_skipped() {
    let database = Database::new();
    let late = wait_for(database.options.connect()).unwrap();
    wait_for(late.batch_execute(&format!("BEGIN; {}", insert(1, 1, true)))).unwrap();
    database.run(&insert(2, 1, true));
    let mut outbox = outbox(&database, "a");
    assert_eq!(ids(&mut outbox, 100, 100), [Ok(2)]);
    wait_for(outbox.mark_relayed(&[2])).unwrap();
    assert_eq!(ids(&mut outbox, 100, 100), []);
    assert!(!wait_for(outbox.has_dead_letters()).unwrap());
    wait_for(late.batch_execute("COMMIT")).unwrap();
    assert!(wait_for(outbox.has_dead_letters()).unwrap());
    assert_eq!(ids(&mut outbox, 100, 100), [Ok(1)]);
}

#[test]
fn a_dead_letter_that_cannot_be_read_delays_no_other() {
    let database = Database::new();
    database.run(&[1, 2, 3].map(|id| insert(id, 1, true)).concat());
    database.run("UPDATE sluice.dead_letters SET header_names = '{a}' WHERE id = 2");
    assert_eq!(ids(&mut outbox(&database, "a"), 100, 100), [Ok(1), Err(2), Ok(3)]);
}

#[test]
fn one_host_has_the_lease_until_it_leaves_it_dies_or_sleeps() {
    let database = Database::new();
    let (mut first, mut second) = (outbox(&database, "a"), outbox(&database, "b"));
    let takes = |outbox: &mut Outbox| wait_for(outbox.take_lease(None)).unwrap();
    assert!(takes(&mut first) && takes(&mut first));
    assert!(!takes(&mut second));
    wait_for(first.leave_lease(None)).unwrap();
    assert!(takes(&mut second));
    assert!(!takes(&mut first));

    drop(second);
    super::lab::until(|| takes(&mut first));
    let mut second = outbox(&database, "b");
    assert!(!takes(&mut second));
    database.run("UPDATE sluice.relays SET until = clock_timestamp() - interval '1 ms'");
    assert!(takes(&mut second));
    assert!(!takes(&mut first));
}

#[test]
fn what_keeps_a_relay_from_its_work_is_seen_by_all() {
    let database = Database::new();
    database.run(&[insert(1, 1, true), insert(2, 1, true), insert(3, 1, false)].concat());
    database
        .run("UPDATE sluice.dead_letters SET rejected_at = now() - interval '1 min' WHERE id = 1");
    database.run("UPDATE sluice.dead_letters SET relay_fault = 'SL-D303: no' WHERE id = 3");
    let standing = || {
        wait_for(async {
            Standing::read(&database.options.connect().await.unwrap(), "p").await.unwrap()
        })
    };
    let mut outbox = outbox(&database, "a");
    wait_for(outbox.take_lease(Some("SL-D301: no topic"))).unwrap();
    database.run("UPDATE sluice.relays SET fault_since = now() - interval '1 h'");
    wait_for(outbox.take_lease(Some("SL-K002: no broker"))).unwrap();
    let Standing { waiting, oldest_seconds, refused, fault, fault_seconds } = standing();
    assert_eq!((waiting, refused, fault.as_deref()), (2, 1, Some("SL-K002: no broker")));
    assert!((60..100).contains(&oldest_seconds), "{oldest_seconds}");
    assert!(fault_seconds.is_some_and(|seconds| (3600..3700).contains(&seconds)), "since it began");
    wait_for(outbox.take_lease(None)).unwrap();
    assert_eq!((standing().fault, standing().fault_seconds), (None, None));
    let lag = wait_for(outbox.lag()).unwrap();
    assert_eq!(lag.waiting, 2);
}
