//! Messages that are tried again later, as the sink parks them.

use std::sync::Arc;

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version, wait_for};
use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind};
use crate::rows::{Decoded, Rejection, Stage};
use crate::settings::{Mode, RetryOrder, RetrySettings};
use crate::sink::parked::due::{Due, Next};
use crate::sink::table::Plan;
use crate::sink::{KeyHash, Parking, Range, WaitingKeys};

fn parking(order: RetryOrder) -> Parking {
    let rule =
        RetrySettings { order, constraints: vec!["known".to_owned()], ..RetrySettings::default() };
    Parking { rule: Arc::new(rule), tried: Vec::new(), kept: false }
}

/// One message per key; its value is its offset.
fn given(keys: &[&str], parking: Parking) -> Given {
    let mut batch = Batch::new("topic");
    for (offset, key) in (0_i64..).zip(keys) {
        let key = (!key.is_empty()).then_some(key.as_bytes());
        batch.push(Message { partition: 0, offset, timestamp_us: -1, key, payload: Some(b"{}") });
        batch.close_message();
    }
    let mut given = Given::messages([]);
    given.decoded = Decoded { messages: (0..batch.len() as u32).collect(), ..Decoded::default() };
    given.batch = batch;
    given.parking = parking;
    given.table(vec![Column::new(Kind::Int64).ints(&(0..keys.len() as i64).collect::<Vec<_>>())])
}

/// Takes the row of a message away and rejects it.
fn rejecting(mut given: Given, messages: &[u32], retry: bool) -> Given {
    let rows = &mut given.tables[0];
    rows.messages.retain(|row| !messages.contains(row));
    let crate::rows::RowColumn::Computed(column) = &mut rows.columns[0] else { unreachable!() };
    *column = Column::new(Kind::Int64)
        .ints(&rows.messages.iter().map(|row| i64::from(*row)).collect::<Vec<_>>());
    given.rejections = messages
        .iter()
        .map(|message| Rejection {
            message: *message,
            stage: Stage::Plugin,
            code: "later".to_owned(),
            reason: "not now".to_owned(),
            retry,
        })
        .collect();
    given
}

fn table(database: &Database) -> Arc<Plan> {
    database.run("CREATE TABLE t (v bigint)");
    plan(database)
}

fn plan(database: &Database) -> Arc<Plan> {
    make_plan(database, &[output("t", &[("v", Kind::Int64)])], &[("", to_table("t", Mode::Append))])
}

/// What is parked, as a host takes it up that tries it again.
fn due(database: &Database, order: RetryOrder) -> Due {
    let options = database.options.clone().named("pipeline", "owner");
    Due::new(&options, "pipeline", parking(order).rule, false)
}

/// Parks message `n` of each of `numbers`; `key`, `attempts` and `delay_ms` are SQL over `n`.
fn park(database: &Database, numbers: std::ops::Range<i64>, [key, attempts, delay_ms]: [&str; 3]) {
    database.run(&format!(
        "INSERT INTO sluice.parked (pipeline, topic, topic_id, partition, \"offset\", key, header_names, header_values, \
            stage, code, reason, digest, attempts, delay_ms) \
         SELECT 'pipeline', 'topic', '00000000-0000-0000-0000-000000000001', 0, n, ({key})::bytea, '{{}}', '{{}}', '', '', \
            '', 'd', {attempts}, {delay_ms} \
         FROM generate_series({}, {}) AS n",
        numbers.start,
        numbers.end - 1
    ));
}

fn rows(database: &Database) -> String {
    database.ask("SELECT coalesce(string_agg(v::text, ' ' ORDER BY v), '') FROM t")
}

fn parked(database: &Database) -> String {
    database.ask(
        "SELECT coalesce(string_agg(\"offset\" || CASE attempts WHEN 0 THEN ' behind' ELSE ':' || attempts END, ', ' \
         ORDER BY \"offset\"), '') FROM sluice.parked",
    )
}

fn counts(range: &Range) -> [u64; 5] {
    [range.messages, range.rows_from, range.filtered, range.rejected, range.parked]
}

#[test]
fn a_message_to_be_tried_again_is_parked_with_its_batch() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    let batch = rejecting(given(&["a", "b", "a", ""], parking(RetryOrder::None)), &[0, 3], true);
    let ranges = lane.write(&plan, batch, &version("a"));
    assert_eq!(counts(&ranges[0]), [4, 2, 0, 0, 2]);
    assert_eq!((rows(&database), parked(&database)), ("1 2".into(), "0:1, 3:1".into()));
    assert_eq!(database.ask("SELECT messages, rows_from, parked FROM sluice.lineage"), "4|2|2");
    let due = "SELECT bool_and(due_at - parked_at BETWEEN interval '1 s' AND interval '1.1 s') FROM sluice.parked";
    assert_eq!(database.ask(due), "t");
    assert_eq!(database.ask("SELECT count(*) FROM sluice.dead_letters"), "0");
}

/// However many are due, and however large they are.
#[test]
fn parked_messages_are_taken_up_to_a_number_of_bytes() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    let keys = [""; 12];
    let all: Vec<u32> = (0..12).collect();
    lane.write(
        &plan,
        rejecting(given(&keys, parking(RetryOrder::None)), &all, true),
        &version("a"),
    );
    let four_mib =
        "UPDATE sluice.parked SET due_at = now(), payload = decode(repeat('ab', 4 << 20), 'hex')";
    database.run(four_mib);
    let mut due = due(&database, RetryOrder::None);
    let offsets = |due: &mut Due| {
        let messages = wait_for(due.take(&plan)).unwrap();
        messages.iter().map(|message| message.offset).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&mut due), (0..8).collect::<Vec<_>>());
    // One that is larger than all of it comes alone, and what it has beside its payload counts.
    database.run("UPDATE sluice.parked SET payload = NULL, header_names = ARRAY[decode(repeat('ab', 20 << 20), 'hex')], header_values = ARRAY[NULL::bytea] WHERE \"offset\" = 0");
    assert_eq!(offsets(&mut due), [0]);
}

/// A look is short however many wait: the one whose key is free stands last, and is found by the look after the next.
#[test]
fn what_waits_is_looked_through_in_parts_and_what_is_free_is_found() {
    let database = Database::new();
    let plan = table(&database);
    let key = "CASE n WHEN 30000 THEN 'free' ELSE 'a' END";
    let (attempts, delay_ms) =
        ("CASE n WHEN 0 THEN 1 ELSE 0 END", "CASE n WHEN 0 THEN 3600000 ELSE 0 END");
    park(&database, 0..30_001, [key, attempts, delay_ms]);
    let mut due = due(&database, RetryOrder::Key);
    let look = |due: &mut Due| wait_for(due.next()).unwrap();
    let Next { wait, behind, more } = look(&mut due);
    assert!(wait.is_some_and(|wait| wait.as_secs() > 3000));
    assert_eq!((behind, more), (false, true), "the first part");
    assert_eq!((look(&mut due).behind, look(&mut due).behind), (true, true), "until it is taken");
    let taken = wait_for(due.take(&plan)).unwrap();
    assert_eq!(taken.iter().map(|it| it.offset).collect::<Vec<_>>(), [30_000]);
    due.release();
    database.run("UPDATE sluice.parked SET key = 'a' WHERE \"offset\" = 30000");
    let parts = [look(&mut due), look(&mut due), look(&mut due)].map(|it| (it.behind, it.more));
    assert_eq!(
        parts,
        [(false, false), (false, true), (false, false)],
        "and from the first part again"
    );
}

/// With its head comes as much of what waits behind it as a batch takes, from the first on.
#[test]
fn what_waits_is_taken_with_its_head_in_its_order() {
    let database = Database::new();
    let plan = table(&database);
    let (attempts, delay_ms) =
        ("CASE WHEN n < 2 THEN 1 ELSE 0 END", "CASE n WHEN 1 THEN 3600000 ELSE 0 END");
    park(&database, 0..25_000, ["(n % 2)::text", attempts, delay_ms]);
    let mut due = due(&database, RetryOrder::Key);
    let taken = wait_for(due.take(&plan)).unwrap();
    let offsets: Vec<i64> = taken.iter().map(|it| it.offset).collect();
    assert_eq!(
        offsets,
        (0..10_000).map(|n| n * 2).collect::<Vec<_>>(),
        "nothing of key 1, which is not due"
    );
}

#[test]
fn later_messages_of_a_parked_key_wait_behind_it() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    let keys = ["a", "b", "a", "", "b", "a", ""];
    let batch = rejecting(given(&keys, parking(RetryOrder::Key)), &[2, 3], true);
    let ranges = lane.write(&plan, batch, &version("a"));
    assert_eq!(counts(&ranges[0]), [7, 4, 0, 0, 3]);
    assert_eq!(rows(&database), "0 1 4 6");
    assert_eq!(parked(&database), "2:1, 3:1, 5 behind");
}

#[test]
fn keys_that_were_parked_before_delay_theirs() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    let mut waiting = WaitingKeys::default();
    waiting.insert(0, KeyHash::of(b"a"), 0);
    waiting.insert(1, KeyHash::of(b"b"), 0);
    let mut batch = given(&["a", "b", "a"], parking(RetryOrder::Key));
    batch.waiting = waiting;
    // Rejected for good: its order among the others is nobody's concern.
    let batch = rejecting(batch, &[2], false);
    let ranges = lane.write(&plan, batch, &version("a"));
    assert_eq!(counts(&ranges[0]), [3, 1, 0, 1, 1]);
    assert_eq!((rows(&database), parked(&database)), ("1".into(), "0 behind".into()));
}

#[test]
fn rows_refused_by_a_constraint_of_the_rule_are_parked_with_those_behind() {
    let database = Database::new();
    database.run(
        "CREATE TABLE p (v bigint PRIMARY KEY); INSERT INTO p VALUES (0), (2), (3), (4), (5); \
         CREATE TABLE t (v bigint CONSTRAINT known REFERENCES p)",
    );
    let plan = plan(&database);
    let mut lane = Lane::start(&database, &[0]);
    let batch = given(&["a", "b", "b", "c", "b", "c"], parking(RetryOrder::Key));
    let ranges = lane.write(&plan, batch, &version("a"));
    assert_eq!(counts(&ranges[0]), [6, 3, 0, 0, 3]);
    assert_eq!(
        (rows(&database), parked(&database)),
        ("0 3 5".into(), "1:1, 2 behind, 4 behind".into())
    );
}

#[test]
fn the_last_attempt_ends_as_a_dead_letter() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    let mut parking = parking(RetryOrder::None);
    parking.tried = vec![3, 4];
    let batch = rejecting(given(&["a", "b"], parking), &[0, 1], true);
    let ranges = lane.write(&plan, batch, &version("a"));
    assert_eq!(counts(&ranges[0]), [2, 0, 0, 1, 1]);
    assert_eq!(parked(&database), "0:4");
    assert_eq!(database.ask("SELECT \"offset\" FROM sluice.dead_letters"), "1");
}
