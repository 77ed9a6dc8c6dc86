//! Positions and lineage move together, under the claim, or not at all.

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version};
use crate::columns::{Column, Kind};
use crate::settings::Mode;
use crate::sink::postgres::Written;
use crate::sink::table::Plan;
use std::sync::Arc;

fn table(database: &Database) -> Arc<Plan> {
    database.run("CREATE TABLE t (v bigint)");
    make_plan(database, &[output("t", &[("v", Kind::Int64)])], &[("", to_table("t", Mode::Append))])
}

fn given(positions: &[(i32, i64)]) -> Given {
    let offsets: Vec<i64> = positions.iter().map(|(_, offset)| *offset).collect();
    Given::messages(positions.iter().copied()).table(vec![Column::new(Kind::Int64).ints(&offsets)])
}

fn positions(database: &Database) -> String {
    database
        .ask("SELECT partition, next_offset, epoch FROM sluice.positions ORDER BY partition")
        .replace('\n', " ")
}

fn lineage(database: &Database) -> String {
    database.ask("SELECT partition, from_offset, to_offset, left(digest, 1), messages, rows FROM sluice.lineage ORDER BY 1, 2")
}

fn fenced(lane: &mut Lane) -> Vec<i32> {
    match lane.finish() {
        Written::Fenced { partitions, reuse } => {
            lane.reuse = Some(reuse);
            partitions
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn lineage_is_extended_in_place_and_split_where_the_version_changes() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0, 1]);
    lane.write(&plan, given(&[(0, 0), (0, 1), (1, 5)]), &version("a"));
    lane.write(&plan, given(&[(0, 2)]), &version("a"));
    lane.write(&plan, given(&[(0, 3), (1, 6)]), &version("b"));
    lane.write(&plan, given(&[(0, 9)]), &version("b"));
    lane.write(&plan, given(&[(0, 10)]), &version("a"));
    insta::assert_snapshot!(lineage(&database), @r"
    0|0|3|a|3|3
    0|3|10|b|2|2
    0|10|11|a|1|1
    1|0|6|a|1|1
    1|6|7|b|1|1
    ");
    assert_eq!(positions(&database), "0|11|1 1|7|1");
    assert_eq!(database.ask("SELECT count(*) FROM t"), "8");
    let wrong_sums =
        "SELECT count(*) FROM sluice.lineage WHERE messages <> rows_from + filtered + rejected";
    assert_eq!(database.ask(wrong_sums), "0");
    // A new claim by another host goes on with the same row.
    let mut other = Lane::start(&database, &[0]);
    other.write(&plan, given(&[(0, 11)]), &version("a"));
    assert_eq!(
        database.ask("SELECT max(to_offset) FROM sluice.lineage WHERE from_offset = 10"),
        "12"
    );
}

#[test]
fn a_stale_claim_writes_nothing() {
    let database = Database::new();
    let plan = table(&database);
    let mut stale = Lane::start(&database, &[0, 1]);
    stale.write(&plan, given(&[(0, 0), (1, 0)]), &version("a"));
    let mut owner = Lane::start(&database, &[1]);
    // Even where the position has not moved since.
    stale.begin(&plan, given(&[(0, 1), (1, 1)]), &version("a"));
    assert_eq!(fenced(&mut stale), [1]);
    assert_eq!(database.ask("SELECT count(*) FROM t"), "2");
    assert_eq!(positions(&database), "0|1|1 1|1|2");
    // What is left of it goes on.
    stale.write(&plan, given(&[(0, 1)]), &version("a"));
    owner.write(&plan, given(&[(1, 1)]), &version("a"));
    assert_eq!(database.ask("SELECT count(*) FROM t"), "4");
    assert_eq!(positions(&database), "0|2|1 1|2|2");
}

#[test]
fn a_position_that_stands_elsewhere_fences() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0, 1]);
    database.run("UPDATE sluice.positions SET next_offset = 100 WHERE partition = 0");
    lane.begin(&plan, given(&[(0, 0), (1, 0)]), &version("a"));
    assert_eq!(fenced(&mut lane), [0]);
    assert_eq!(database.ask("SELECT count(*) FROM t"), "0");
}

#[test]
fn a_position_of_another_topic_of_the_same_name_fences() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    database.run("UPDATE sluice.positions SET topic_id = gen_random_uuid()");
    lane.begin(&plan, given(&[(0, 0)]), &version("a"));
    assert_eq!(fenced(&mut lane), [0]);
    assert_eq!(
        (database.ask("SELECT count(*) FROM t"), lineage(&database)),
        ("0".to_owned(), String::new())
    );
}

#[test]
fn a_position_that_is_gone_fences() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    database.run("DELETE FROM sluice.positions");
    lane.begin(&plan, given(&[(0, 0)]), &version("a"));
    assert_eq!(fenced(&mut lane), [0]);
    assert_eq!(database.ask("SELECT count(*) FROM t"), "0");
}

/// The rejections that a refused write comes back with. Nothing of it was written.
fn refused(lane: &mut Lane, database: &Database) -> String {
    let Written::Refused { rejections, .. } = lane.finish() else { panic!("not refused") };
    assert_eq!(
        (database.ask("SELECT count(*) FROM t"), positions(database)),
        ("0".to_owned(), "0|0|1".to_owned())
    );
    let shown = rejections.iter().map(|it| format!("{} {}: {}", it.message, it.code, it.reason));
    shown.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_row_that_postgres_refuses_is_named_and_nothing_is_written() {
    let database = Database::new();
    let plan = table(&database);
    database.run("ALTER TABLE t ADD CONSTRAINT small CHECK (v < 3)");
    let mut lane = Lane::start(&database, &[0]);
    lane.begin(&plan, given(&[(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]), &version("a"));
    insta::assert_snapshot!(refused(&mut lane, &database), @r#"
    3 23514: public.t: row violates check constraint "small" (23514); columns: v
    4 23514: public.t: row violates check constraint "small" (23514); columns: v
    "#);
}

#[test]
fn a_row_that_is_refused_at_commit_is_named_too() {
    let database = Database::new();
    let plan = table(&database);
    database.run("CREATE TABLE known (v bigint PRIMARY KEY); ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES known DEFERRABLE INITIALLY DEFERRED");
    let mut lane = Lane::start(&database, &[0]);
    lane.begin(&plan, given(&[(0, 0)]), &version("a"));
    insta::assert_snapshot!(refused(&mut lane, &database), @r#"0 23503: public.t: insert or update on table "t" violates foreign key constraint "t_v_fkey" (23503); constraint: t_v_fkey; detail: Key (v)=(0) is not present in table "known"."#);
}

#[test]
fn a_table_that_went_missing_stops() {
    let database = Database::new();
    let plan = table(&database);
    let mut lane = Lane::start(&database, &[0]);
    database.run("DROP TABLE t");
    lane.begin(&plan, given(&[(0, 0)]), &version("a"));
    let Written::Stopped { fault, .. } = lane.finish() else { panic!("written") };
    insta::assert_snapshot!(fault, @r#"
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - output "t", table "t": there is no such table
    "#);
}
