//! Rows in their tables: append, upsert, ignore, several tables, rejected messages, dead letters.

use super::lab::{Database, Fill, Given, Lane, TOPIC, make_plan, output, to_table, version};
use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind};
use crate::rows::{Rejection, RowColumn, Stage, TableRows};
use crate::settings::{Mode, TableSettings};

fn ints(values: &[i64]) -> Column {
    Column::new(Kind::Int64).ints(values)
}

fn texts(values: &[&str]) -> Column {
    Column::new(Kind::Text).texts(values)
}

fn messages(range: std::ops::Range<i64>) -> Given {
    Given::messages(range.map(|offset| (0, offset)))
}

fn rejection(message: u32, stage: Stage, code: &str) -> Rejection {
    Rejection {
        message,
        stage,
        code: code.to_owned(),
        reason: format!("because of {code}"),
        retry: false,
    }
}

/// Writes batches of `(key, value, at, delete)` into a table with a key, and says what is there then.
fn keyed(mode: Mode, newer_than: Option<&str>, batches: &[&[(&str, i64, i64, bool)]]) -> String {
    let database = Database::new();
    database.run("CREATE TABLE t (removed text PRIMARY KEY, ordinal bigint, at bigint)");
    let settings =
        TableSettings { newer_than: newer_than.map(str::to_owned), ..to_table("t", mode) };
    let fields = [("removed", Kind::Text), ("ordinal", Kind::Int64), ("at?", Kind::Int64)];
    let plan = make_plan(&database, &[output("t", &fields)], &[("", settings)]);
    let mut lane = Lane::start(&database, &[0]);
    for rows in batches {
        let start = lane.ranges[0].from;
        let keys: Vec<&str> = rows.iter().map(|row| row.0).collect();
        let mut at = Column::new(Kind::Int64);
        for (index, row) in rows.iter().enumerate() {
            // Negative: no value.
            if row.2 < 0 {
                at.push_null();
            } else {
                at = at.ints(&[row.2]);
                at.mark_present(index);
            }
        }
        let values: Vec<i64> = rows.iter().map(|row| row.1).collect();
        let mut given =
            messages(start..start + rows.len() as i64).table(vec![texts(&keys), ints(&values), at]);
        given.tables[0].deletes = rows.iter().map(|row| u8::from(row.3)).collect();
        lane.write(&plan, given, &version("a"));
    }
    database.ask("SELECT * FROM t ORDER BY removed").replace('\n', " ")
}

#[test]
fn upsert_keeps_the_last_row_of_a_key() {
    assert_eq!(
        keyed(Mode::Upsert, None, &[&[("a", 1, 0, false), ("b", 2, 0, false), ("a", 3, 0, false)]]),
        "a|3|0 b|2|0"
    );
    assert_eq!(keyed(Mode::Upsert, None, &[&[("a", 1, 9, false)], &[("a", 2, 1, false)]]), "a|2|1");
}

#[test]
fn upsert_deletes_by_key_and_may_insert_again() {
    let batches: &[&[(&str, i64, i64, bool)]] = &[
        &[("a", 1, 0, false), ("b", 1, 0, false), ("c", 1, 0, false)],
        &[
            ("a", 0, 0, true),
            ("b", 0, 0, true),
            ("b", 2, 0, false),
            ("c", 3, 0, false),
            ("c", 0, 0, true),
        ],
    ];
    assert_eq!(keyed(Mode::Upsert, None, batches), "b|2|0");
}

#[test]
fn newer_than_never_goes_back() {
    let newer = |batches: &[&[(&str, i64, i64, bool)]]| keyed(Mode::Upsert, Some("at"), batches);
    assert_eq!(newer(&[&[("a", 1, 5, false)], &[("a", 2, 4, false)]]), "a|1|5");
    assert_eq!(newer(&[&[("a", 1, 5, false)], &[("a", 2, 5, false)]]), "a|2|5");
    assert_eq!(newer(&[&[("a", 1, 5, false), ("a", 2, 4, false)]]), "a|1|5");
    assert_eq!(newer(&[&[("a", 1, 5, false)], &[("a", 2, -1, false)]]), "a|1|5");
    assert_eq!(newer(&[&[("a", 1, -1, false)], &[("a", 2, 0, false)]]), "a|2|0");
    // Deletes obey it too.
    assert_eq!(newer(&[&[("a", 1, 5, false)], &[("a", 0, 4, true)]]), "a|1|5");
    assert_eq!(newer(&[&[("a", 1, 5, false)], &[("a", 0, 6, true)]]), "");
    // Within a batch the delete counts; after it nothing is left to compare with: the manual and the log say so.
    assert_eq!(newer(&[&[("a", 1, 5, false), ("a", 0, 6, true), ("a", 2, 4, false)]]), "");
    assert_eq!(newer(&[&[("a", 0, 6, true)], &[("a", 2, 4, false)]]), "a|2|4");
}

#[test]
fn ignore_keeps_the_first_row_of_a_key() {
    assert_eq!(
        keyed(
            Mode::Ignore,
            None,
            &[&[("a", 1, 0, false), ("a", 2, 0, false)], &[("a", 3, 0, false), ("b", 4, 0, false)]]
        ),
        "a|1|0 b|4|0"
    );
}

#[test]
fn postgres_says_what_one_key_is() {
    let database = Database::new();
    database.run("CREATE TABLE t (k numeric PRIMARY KEY, v bigint)");
    let plan = make_plan(
        &database,
        &[output("t", &[("k", Kind::Text), ("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Upsert))],
    );
    let given = messages(0..3).table(vec![texts(&["1.0", "1.00", "1"]), ints(&[1, 2, 3])]);
    Lane::start(&database, &[0]).write(&plan, given, &version("a"));
    assert_eq!(database.ask("SELECT * FROM t"), "1|3");
}

#[test]
fn a_delete_without_a_key_rejects_its_message() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut given = messages(0..2).table(vec![ints(&[1, 2])]);
    given.tables[0].deletes = vec![0, 1];
    Lane::start(&database, &[0]).write(&plan, given, &version("a"));
    assert_eq!(database.ask("SELECT v FROM t"), "1");
    assert_eq!(
        database.ask("SELECT \"offset\", code FROM sluice.dead_letters"),
        "1|delete-without-key"
    );
}

#[test]
fn a_bad_cell_takes_all_rows_of_its_message_with_it() {
    let database = Database::new();
    database.run("CREATE TABLE first (v smallint); CREATE TABLE second (v varchar(2))");
    let outputs = [output("first", &[("v", Kind::Int64)]), output("second", &[("v", Kind::Text)])];
    let tables =
        [("first", to_table("first", Mode::Append)), ("second", to_table("second", Mode::Append))];
    let plan = make_plan(&database, &outputs, &tables);
    // Message 0: two rows and one; 1: none; 2: a good row, then a bad one elsewhere; 3: both bad; 4: good.
    let mut given = messages(0..5);
    let rows = |messages: &[u32], column| TableRows {
        messages: messages.to_vec(),
        columns: vec![RowColumn::Computed(column)],
        deletes: Vec::new(),
    };
    given.tables.push(rows(&[0, 0, 2, 3], ints(&[1, 2, 3, 70_000])));
    given.tables.push(rows(&[0, 2, 3, 4], texts(&["a", "long", "longer", "b"])));
    let mut lane = Lane::start(&database, &[0]);
    let done = lane.write(&plan, given, &version("a"));
    assert_eq!(database.ask("SELECT v FROM first ORDER BY v"), "1\n2");
    assert_eq!(database.ask("SELECT v FROM second ORDER BY v"), "a\nb");
    insta::assert_snapshot!(database.ask("SELECT \"offset\", stage, code, reason FROM sluice.dead_letters ORDER BY id"), @r#"
    2|sink|too-long|column "v": has 4 characters of 2
    3|sink|out-of-range|column "v": 70000 does not fit in smallint
    "#);
    let range = &done[0];
    assert_eq!(
        (range.messages, range.rows_from, range.rows, range.filtered, range.rejected),
        (5, 2, 4, 1, 2)
    );
    let counted = lane.reuse.as_ref().unwrap().rejected();
    let counted: Vec<_> =
        counted.iter().map(|rejected| (rejected.code.as_str(), rejected.messages)).collect();
    assert_eq!(counted, [("too-long", 1), ("out-of-range", 1)]);
}

#[test]
fn fields_that_are_passed_through_are_taken_from_each_rows_message() {
    let database = Database::new();
    database.run("CREATE TABLE t (device text, v int)");
    let mut outputs = [output("t", &[("device?", Kind::Text), ("v", Kind::Int64)])];
    outputs[0].fields[0].source = crate::description::FieldSource::Field(1);
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    let mut given = messages(0..4);
    // Message 1 could not be decoded.
    given.decoded.messages = vec![0, 2, 3];
    let mut devices = texts(&["zero", "two"]);
    devices.push_null();
    given.decoded.columns = vec![ints(&[7, 7, 7]), devices];
    given.undecoded = vec![rejection(1, Stage::Decode, "bad-json")];
    given.tables.push(TableRows {
        messages: vec![0, 1, 1, 2],
        columns: vec![RowColumn::Field(1), RowColumn::Computed(ints(&[10, 20, 21, 30]))],
        deletes: Vec::new(),
    });
    let done = Lane::start(&database, &[0]).write(&plan, given, &version("a"));
    assert_eq!(database.ask("SELECT * FROM t ORDER BY v"), "zero|10\ntwo|20\ntwo|21\nNULL|30");
    assert_eq!((done[0].rows_from, done[0].rows, done[0].rejected), (3, 4, 1));
    assert_eq!(database.ask("SELECT \"offset\", stage FROM sluice.dead_letters"), "1|decode");
}

#[test]
fn a_dead_letter_contains_everything_that_replay_needs() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut given = messages(0..0);
    let mut batch = Batch::new("topic");
    let full = Message {
        partition: 0,
        offset: 0,
        timestamp_us: 1_795_316_645_123_456,
        key: Some(b"k\0"),
        payload: Some(b"\xff{"),
    };
    batch.push(full);
    batch.push_header(b"trace", Some(b"\x01\x02"));
    batch.push_header(b"\xfe", None);
    batch.push_header(b"trace", Some(b""));
    batch.close_message();
    batch.push(Message { offset: 1, timestamp_us: -1, key: None, payload: None, ..full });
    batch.close_message();
    batch.push(Message { offset: 2, key: Some(b""), payload: Some(b""), ..full });
    batch.close_message();
    given.batch = batch;
    given.undecoded =
        vec![rejection(0, Stage::Decode, "bad-json"), rejection(1, Stage::Decode, "no-payload")];
    given.rejections = vec![rejection(2, Stage::Plugin, "zero\0code")];
    let given = given.table(vec![]);
    let mut given = given;
    given.tables[0].messages.clear();
    given.tables[0].columns = vec![RowColumn::Computed(ints(&[]))];
    given.decoded.messages = vec![2];
    Lane::start(&database, &[0]).write(&plan, given, &version("a"));
    let columns = "pipeline, topic, topic_id = '{topic}', partition, \"offset\", \"timestamp\", key, payload, header_names, header_values, \
        stage, code, reason, left(digest, 3), attempts, rejected_at > now() - interval '1 minute'";
    let query = format!(
        "SELECT {} FROM sluice.dead_letters ORDER BY id",
        columns.replace("{topic}", &TOPIC.to_string())
    );
    insta::assert_snapshot!(database.ask(&query), @r#"
    pipeline|topic|t|0|0|2026-11-22 03:04:05.123456+00|\x6b00|\xff7b|{"\\x7472616365","\\xfe","\\x7472616365"}|{"\\x0102",NULL,"\\x"}|decode|bad-json|because of bad-json|aaa|1|t
    pipeline|topic|t|0|1|NULL|NULL|NULL|{}|{}|decode|no-payload|because of no-payload|aaa|1|t
    pipeline|topic|t|0|2|2026-11-22 03:04:05.123456+00|\x|\x|{}|{}|plugin|zero�code|because of zero�code|aaa|1|t
    "#);
}

#[test]
fn a_batch_without_rows_moves_the_position() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut given = messages(0..3).table(vec![ints(&[])]);
    given.tables[0].messages.clear();
    let done = Lane::start(&database, &[0]).write(&plan, given, &version("a"));
    assert_eq!((done[0].filtered, done[0].to), (3, 3));
    assert_eq!(database.ask("SELECT next_offset FROM sluice.positions"), "3");
}

#[test]
fn a_new_plan_takes_over_in_the_same_session() {
    let database = Database::new();
    database.run("CREATE TABLE t (k bigint PRIMARY KEY, v bigint)");
    let one = [output("t", &[("k", Kind::Int64)])];
    let two = [output("t", &[("k", Kind::Int64), ("v", Kind::Int64)])];
    let plans = [&one, &two]
        .map(|outputs| make_plan(&database, outputs, &[("", to_table("t", Mode::Upsert))]));
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plans[0], messages(0..2).table(vec![ints(&[1, 2])]), &version("a"));
    let before = database.ask("SELECT backend_pid FROM sluice.positions");
    lane.write(
        &plans[1],
        messages(2..4).table(vec![ints(&[2, 3]), ints(&[20, 30])]),
        &version("b"),
    );
    lane.write(&plans[1], messages(4..5).table(vec![ints(&[1]), ints(&[10])]), &version("b"));
    assert_eq!(database.ask("SELECT * FROM t ORDER BY k"), "1|10\n2|20\n3|30");
    assert_eq!(database.ask("SELECT backend_pid FROM sluice.positions"), before);
}
