//! Positions that a person sets: fenced, recorded, all or none; and what is blocked, for everybody to see.

use super::lab::{
    Database, Fill, Given, Lane, TOPIC, make_plan, output, to_table, version, wait_for,
};
use crate::columns::{Column, Kind};
use crate::fault::Fault;
use crate::settings::Mode;
use crate::sink::claims::Claims;
use crate::sink::claims::blocks::{WHOLE_PIPELINE, read};
use crate::sink::claims::resolve::Decision;
use crate::sink::postgres::Written;
use uuid::Uuid;

fn claims(database: &Database, owner: &str) -> Claims {
    Claims::new(&database.options, "pipeline", "topic", owner)
}

fn decision(partition: i32, epoch: i64, before: i64, after: i64) -> Decision {
    Decision {
        partition,
        epoch,
        position_before: before,
        position_after: after,
        skipped: (after > before).then_some((before, after)),
        code: None,
    }
}

fn resolve(database: &Database, topic_id: Uuid, decisions: &[Decision]) -> Result<(), Fault> {
    wait_for(claims(database, "resolve").resolve(topic_id, decisions, "why", "me@here"))
}

fn positions(database: &Database) -> String {
    database
        .ask("SELECT partition, next_offset, epoch, owner, released FROM sluice.positions ORDER BY 1")
        .replace('\n', " ")
}

#[test]
fn a_decision_moves_the_position_under_a_new_epoch_and_is_recorded() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let outputs = [output("t", &[("v", Kind::Int64)])];
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    let given = |offset| {
        Given::messages([(0, offset)]).table(vec![Column::new(Kind::Int64).ints(&[offset])])
    };
    let mut lane = Lane::start(&database, &[0, 1]);
    lane.write(&plan, given(0), &version("a"));
    lane.write(&plan, given(1), &version("b"));
    // To 50 and back to where the lane stands: only the epoch tells that it was away.
    resolve(&database, TOPIC, &[decision(0, 1, 2, 50), decision(1, 1, 0, 9)]).unwrap();
    resolve(&database, TOPIC, &[decision(0, 2, 50, 2)]).unwrap();
    assert_eq!(positions(&database), "0|2|3|resolve|t 1|9|2|resolve|t");
    lane.begin(&plan, given(2), &version("b"));
    let Written::Fenced { partitions, .. } = lane.finish() else { panic!("it got past") };
    assert_eq!((partitions, database.ask("SELECT count(*) FROM t")), (vec![0], "2".to_owned()));
    insta::assert_snapshot!(
        database.ask("SELECT partition, position_before, position_after, from_offset, to_offset, code, reason, lineage, \
            resolved_by FROM sluice.gaps ORDER BY id"),
        @"
    0|2|50|2|50|NULL|why|NULL|me@here
    1|0|9|0|9|NULL|why|NULL|me@here
    0|50|2|NULL|NULL|NULL|why|NULL|me@here
    "
    );
}

#[test]
fn what_is_read_again_gets_its_lineage_again() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let outputs = [output("t", &[("v", Kind::Int64)])];
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    let given = |offset| {
        Given::messages([(0, offset)]).table(vec![Column::new(Kind::Int64).ints(&[offset])])
    };
    let mut lane = Lane::start(&database, &[0]);
    for (offset, name) in [(0, "a"), (1, "a"), (2, "b"), (3, "a")] {
        lane.write(&plan, given(offset), &version(name));
    }
    resolve(&database, TOPIC, &[decision(0, 1, 4, 2)]).unwrap();
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, given(2), &version("c"));
    let lineage =
        "SELECT from_offset, to_offset, left(digest, 1), messages FROM sluice.lineage ORDER BY 1";
    assert_eq!(database.ask(lineage).replace('\n', " "), "0|2|a|2 2|3|c|1");
    let kept = "SELECT l ->> 'from_offset', left(l ->> 'digest', 1) FROM sluice.gaps, jsonb_array_elements(lineage) AS l";
    assert_eq!(database.ask(kept).replace('\n', " "), "2|b 3|a");
}

/// Versions change now and then only, so a range of lineage is long: it ends where reading begins again. What was parked and
/// dead-lettered from there on comes again, and would be there twice.
#[test]
fn what_is_read_again_is_neither_counted_nor_kept_twice() {
    let database = Database::new();
    database.run(
        "INSERT INTO sluice.positions (pipeline, topic, partition, topic_id, next_offset, epoch, owner, released) \
            SELECT 'pipeline', 'topic', p, '00000000-0000-0000-0000-000000000001', 100, 1, 'a', false \
            FROM generate_series(0, 1) AS p; \
         INSERT INTO sluice.lineage (pipeline, topic, topic_id, partition, from_offset, to_offset, digest, plugin, version, \
            messages, rows_from, rows, filtered, rejected, parked) \
            SELECT 'pipeline', 'topic', '00000000-0000-0000-0000-000000000001', p, 0, 100, 'd', 'x', '1', 100, 80, 160, 10, 6, 4 \
            FROM generate_series(0, 1) AS p; \
         INSERT INTO sluice.parked (pipeline, topic, topic_id, partition, \"offset\", header_names, header_values, stage, code, \
            reason, digest, attempts, delay_ms) \
            SELECT 'pipeline', 'topic', '00000000-0000-0000-0000-000000000001', p, n, '{}', '{}', 's', 'c', 'r', 'd', 1, 0 \
            FROM generate_series(0, 1) AS p, generate_series(48, 51) AS n; \
         INSERT INTO sluice.dead_letters (pipeline, topic, topic_id, partition, \"offset\", header_names, header_values, stage, \
            code, reason, digest) \
            SELECT 'pipeline', 'topic', '00000000-0000-0000-0000-000000000001', p, n, '{}', '{}', 's', 'c', 'r', 'd' \
            FROM generate_series(0, 1) AS p, generate_series(47, 52) AS n",
    );
    let topic = Uuid::from_u128(1);
    resolve(&database, topic, &[decision(0, 1, 100, 50)]).unwrap();
    insta::assert_snapshot!(
        database.ask("SELECT partition, from_offset, to_offset, messages, rows_from, rows, filtered, rejected, parked \
            FROM sluice.lineage ORDER BY 1"),
        @"
    0|0|50|50|40|80|5|3|2
    1|0|100|100|80|160|10|6|4
    "
    );
    let offsets = |table: &str| {
        database.ask(&format!(
            "SELECT string_agg(partition || ':' || \"offset\", ' ' ORDER BY partition, \"offset\") FROM sluice.{table}"
        ))
    };
    assert_eq!(offsets("parked"), "0:48 0:49 1:48 1:49 1:50 1:51");
    assert_eq!(offsets("dead_letters"), "0:47 0:48 0:49 1:47 1:48 1:49 1:50 1:51 1:52");
    assert_eq!(offsets("discarded_dead_letters"), "0:50 0:51 0:52");
    let reason = database.ask("SELECT DISTINCT discard_reason FROM sluice.discarded_dead_letters");
    assert_eq!(reason, "read again: why");
    let before = "SELECT lineage -> 0 ->> 'to_offset', lineage -> 0 ->> 'rows' FROM sluice.gaps";
    assert_eq!(database.ask(before), "100|160");
}

#[test]
fn a_decision_about_what_has_moved_in_the_meantime_changes_nothing() {
    let database = Database::new();
    wait_for(claims(&database, "a").claim(TOPIC, &[(0, 5), (1, 5)])).unwrap();
    let before = positions(&database);
    for stale in [decision(1, 1, 4, 9), decision(1, 2, 5, 9), decision(7, 1, 5, 9)] {
        let fault = resolve(&database, TOPIC, &[decision(0, 1, 5, 9), stale]).unwrap_err();
        assert_eq!(fault.code, "SL-K018");
    }
    assert_eq!(
        (positions(&database), database.ask("SELECT count(*) FROM sluice.gaps")),
        (before, "0".to_owned())
    );
    // Another incarnation of the topic.
    resolve(&database, Uuid::nil(), &[decision(0, 1, 5, 9)]).unwrap();
    assert_eq!(
        database.ask("SELECT topic_id = topic_id_after AND topic_id_before <> topic_id FROM sluice.gaps JOIN sluice.positions USING (partition)"),
        "t"
    );
}

#[test]
fn what_is_blocked_can_be_seen_by_all_and_is_struck_out_by_who_goes_on() {
    let database = Database::new();
    let (one, two) = (claims(&database, "one"), claims(&database, "two"));
    let blocked = || {
        let read = async {
            let session = database.options.connect().await.unwrap();
            read(&session, "pipeline", "topic").await.unwrap()
        };
        let blocked = wait_for(read);
        blocked
            .iter()
            .map(|it| format!("{} {} {}", it.partition, it.owner, it.code))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let fault = |code| Fault::block(code, "it\0broke");
    wait_for(async {
        let session = database.options.connect().await.unwrap();
        one.block(&session, &[WHOLE_PIPELINE], &fault("SL-P007")).await.unwrap();
        two.block(&session, &[WHOLE_PIPELINE], &fault("SL-P007")).await.unwrap();
        one.block(&session, &[1, 2, 3], &fault("SL-K010")).await.unwrap();
        one.block(&session, &[2], &fault("SL-K011")).await.unwrap();
    });
    assert_eq!(
        blocked(),
        "-1 one SL-P007, -1 two SL-P007, 1 one SL-K010, 2 one SL-K011, 3 one SL-K010"
    );
    wait_for(async {
        let session = database.options.connect().await.unwrap();
        two.block(&session, &[2], &fault("SL-K010")).await.unwrap();
        two.claim(TOPIC, &[(1, 0)]).await.unwrap();
        one.unblock(&session, &[WHOLE_PIPELINE, 2], false).await.unwrap();
    });
    assert_eq!(blocked(), "-1 two SL-P007, 2 two SL-K010, 3 one SL-K010");
    wait_for(async {
        let session = database.options.connect().await.unwrap();
        one.unblock(&session, &[2], true).await.unwrap();
        one.release_cleanly(&session).await.unwrap();
    });
    assert_eq!(blocked(), "-1 two SL-P007");
}
