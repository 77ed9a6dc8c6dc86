//! Rows that a trigger drops: the batch is written, and the difference is counted wherever Postgres' own count shows it.

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version};
use crate::columns::{Column, Kind};
use crate::settings::{Mode, TableSettings};
use crate::sink::postgres::Written;

/// Drops rows whose `v` is a multiple of three.
const DROPS: &str = "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
    RETURN CASE WHEN NEW.v % 3 <> 0 THEN NEW END; END $$";

/// Writes rows `(key, v, deletes)` in one batch each; returns what was dropped of each, and the table.
fn written(
    tables: &str,
    settings: TableSettings,
    batches: &[&[(i64, i64, bool)]],
) -> (Vec<u64>, String) {
    let database = Database::new();
    database.run(&format!("{DROPS}; {tables}"));
    let fields = [("k", Kind::Text), ("v", Kind::Int64)];
    let plan = make_plan(&database, &[output("t", &fields)], &[("", settings)]);
    let mut lane = Lane::start(&database, &[0]);
    let mut dropped = Vec::new();
    for rows in batches {
        let from = lane.ranges[0].from;
        let keys: Vec<String> = rows.iter().map(|row| row.0.to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let values: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let columns =
            vec![Column::new(Kind::Text).texts(&keys), Column::new(Kind::Int64).ints(&values)];
        let messages = (from..from + rows.len() as i64).map(|offset| (0, offset));
        let mut given = Given::messages(messages).table(columns);
        given.tables[0].deletes = rows.iter().map(|row| u8::from(row.2)).collect();
        lane.begin(&plan, given, &version("a"));
        match lane.finish() {
            Written::Done { receipt, reuse } => {
                dropped.push(receipt.dropped().iter().sum());
                lane.move_on(&receipt, reuse);
            }
            other => panic!("{other:?}"),
        }
    }
    let rows = database.ask("SELECT k, v FROM t ORDER BY v, k::text").replace('\n', " ");
    (dropped, rows)
}

fn append() -> TableSettings {
    to_table("t", Mode::Append)
}

fn upsert() -> TableSettings {
    to_table("t", Mode::Upsert)
}

const SIX: &[(i64, i64, bool)] =
    &[(1, 1, false), (2, 2, false), (3, 3, false), (4, 4, false), (5, 5, false), (6, 6, false)];

#[test]
fn appended_rows_that_a_trigger_drops_are_counted() {
    let trigger = "CREATE TRIGGER drops BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drops()";
    let plain = format!("CREATE TABLE t (k text, v bigint); {trigger}");
    let expected = (vec![2, 0, 1], "1|1 2|2 4|4 5|5 7|7".to_owned());
    let batches = [SIX, &[(7, 7, false)], &[(9, 9, false)]];
    assert_eq!(written(&plain, append(), &batches), expected);
    // A type of which Postgres reads the text: staged.
    let staged = plain.replace("k text", "k xid");
    assert_eq!(written(&staged, append(), &batches), expected);
    // Of partitions, too.
    let parts = "CREATE TABLE t (k text, v bigint) PARTITION BY RANGE (v); \
        CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (5); CREATE TABLE high PARTITION OF t DEFAULT; \
        CREATE TRIGGER drops BEFORE INSERT ON low FOR EACH ROW EXECUTE FUNCTION drops()";
    let expected = (vec![1], "1|1 2|2 4|4 5|5 6|6".to_owned());
    assert_eq!(written(parts, append(), &[SIX]), expected);
}

#[test]
fn upserted_rows_that_a_trigger_drops_are_kept_apart_from_those_of_the_same_key() {
    let table = "CREATE TABLE t (k text PRIMARY KEY, v bigint)";
    let repeated: &[(i64, i64, bool)] =
        &[(1, 1, false), (1, 2, false), (2, 3, false), (3, 3, false), (3, 4, false), (4, 6, false)];
    let again: &[(i64, i64, bool)] = &[(1, 9, false), (3, 5, false), (5, 0, true), (5, 1, true)];
    assert_eq!(
        written(table, upsert(), &[repeated, again]),
        (vec![0, 0], "2|3 3|5 4|6 1|9".to_owned())
    );
    for events in ["INSERT", "INSERT OR UPDATE"] {
        let table = format!(
            "{table}; CREATE TRIGGER drops BEFORE {events} ON t FOR EACH ROW EXECUTE FUNCTION drops()"
        );
        // Of the first batch the last rows of keys 2 and 4, of the second that of key 1.
        assert_eq!(
            written(&table, upsert(), &[repeated, again]),
            (vec![2, 1], "1|2 3|5".to_owned()),
            "{events}"
        );
    }
}

/// What the mode itself skips looks the same to Postgres.
#[test]
fn rows_are_not_called_dropped_where_the_mode_may_have_skipped_them() {
    let table = "CREATE TABLE t (k text PRIMARY KEY, v bigint); \
        CREATE TRIGGER drops BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION drops()";
    let newer = TableSettings { newer_than: Some("v".to_owned()), ..upsert() };
    let batches: [&[(i64, i64, bool)]; 2] = [&[(1, 5, false), (2, 3, false)], &[(1, 4, false)]];
    assert_eq!(written(table, newer, &batches), (vec![0, 0], "1|5".to_owned()));
    let ignore = to_table("t", Mode::Ignore);
    assert_eq!(written(table, ignore, &batches), (vec![0, 0], "1|5".to_owned()));
}
