//! Numbers on their way from a message to a numeric column, against what Postgres makes of the same text.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::lab::{Database, Given, Lane, make_plan, output, to_table, version, wait_for};
use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind, Values};
use crate::decode::Decoder;
use crate::description::{FieldSource, InputField, Output};
use crate::rows::{RowColumn, TableRows};
use crate::settings::Mode;
use crate::sink::plan::Plan;

/// Fields `id` and `v` of the payload, which are passed through.
fn inputs(kind: Kind, is_read: bool) -> [InputField; 2] {
    let field = |pointer: &str, kind, read| InputField {
        pointer: pointer.to_owned(),
        kind,
        required: false,
        read,
    };
    [field("/id", Kind::Int64, false), field("/v", kind, is_read)]
}

/// An output that passes both.
fn passing(name: &str, kind: Kind) -> Output {
    let mut output = output(name, &[("id", Kind::Int64), ("v?", kind)]);
    for (input, field) in output.fields.iter_mut().enumerate() {
        field.source = FieldSource::Field(input);
    }
    output
}

/// Messages `{"id":0,"v":number}` from `start` on, one row of each in every table of the plan.
fn given(plan: &Plan, inputs: &[InputField], start: i64, numbers: &[String]) -> Given {
    let mut given = Given::messages([]);
    given.batch = Batch::new("topic");
    for (id, number) in numbers.iter().enumerate() {
        let payload = format!("{{\"id\":{id},\"v\":{number}}}");
        given.batch.push(Message {
            partition: 0,
            offset: start + id as i64,
            timestamp_us: -1,
            key: None,
            payload: Some(payload.as_bytes()),
        });
        given.batch.close_message();
    }
    let mut decoder = Decoder::new(inputs, plan.exact_inputs()).unwrap();
    decoder.decode(&given.batch, &mut given.decoded, &mut given.undecoded);
    given.tables = (plan.table_names())
        .map(|_| TableRows {
            messages: (0..given.decoded.messages.len() as u32).collect(),
            columns: vec![RowColumn::Field(0), RowColumn::Field(1)],
            deletes: Vec::new(),
        })
        .collect();
    given
}

/// What Postgres makes of each number as a literal of the type.
fn by_postgres(database: &Database, type_name: &str, numbers: &[String]) -> Vec<Option<String>> {
    let cast = format!("SELECT ($1::text::{type_name})::text");
    wait_for(async {
        let session = database.session().await;
        let cast = session.prepare(&cast).await.unwrap();
        let mut results = Vec::new();
        for number in numbers {
            let row = session.query_one(&cast, &[number]).await;
            results.push(row.ok().map(|row| row.get(0)));
        }
        results
    })
}

/// The reason of each dead letter by the number in its message.
fn dead_letters(database: &Database, numbers: &[String]) -> BTreeMap<String, String> {
    let query =
        "SELECT \"offset\", stage || ' ' || code || ': ' || reason FROM sluice.dead_letters";
    let dead_letters = database.ask(query);
    let of = |line: &str| {
        let (offset, reason) = line.split_once('|').unwrap();
        (numbers[offset.parse::<usize>().unwrap()].clone(), reason.to_owned())
    };
    dead_letters.lines().map(of).collect()
}

/// Writes the numbers in this mode: each arrives as Postgres' own, or as a dead letter that repeats it.
fn check(kind: Kind, is_read: bool, type_name: &str, mode: Mode, numbers: &[String]) {
    let database = Database::new();
    database.run(&format!("CREATE TABLE ours (id bigint PRIMARY KEY, v {type_name})"));
    let plan = make_plan(&database, &[passing("o", kind)], &[("", to_table("ours", mode))]);
    let mut lane = Lane::start(&database, &[0]);
    let given = given(&plan, &inputs(kind, is_read), lane.ranges[0].from, numbers);
    lane.write(&plan, given, &version("a"));
    let written = database.ask("SELECT id, v FROM ours");
    let written: BTreeMap<usize, &str> = (written.lines())
        .map(|line| line.split_once('|').unwrap())
        .map(|(id, v)| (id.parse().unwrap(), v))
        .collect();
    let dead_letters = dead_letters(&database, numbers);
    let expected = by_postgres(&database, type_name, numbers);
    for (id, (number, expected)) in numbers.iter().zip(expected).enumerate() {
        let shown: String = number.chars().take(40).collect();
        let context = format!("{} to {type_name}, {mode:?}: {shown}", kind.name());
        assert_eq!(written.get(&id).map(|v| (*v).to_owned()), expected, "{context}");
        match dead_letters.get(number) {
            None => assert!(expected.is_some(), "{context}"),
            Some(reason) => {
                assert!(expected.is_none(), "{context}: {reason}");
                let says = format!("sink out-of-range: column \"v\": {shown}");
                assert!(reason.starts_with(&says), "{context}: {reason}");
            }
        }
    }
}

fn integers() -> Vec<String> {
    let mut numbers: Vec<String> = [
        "0",
        "-0",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "99999999999999999999",
        "100000000000000000000",
        "-1234567890123456789012345678901234567890",
    ]
    .map(str::to_owned)
    .into();
    let mut rng = Rng::with_seed(7);
    for _ in 0..60 {
        let digits: String = (0..rng.usize(1..40)).map(|_| rng.digit(10)).collect();
        let sign = if rng.bool() { "-" } else { "" };
        let digits = digits.trim_start_matches('0');
        numbers.push(format!("{sign}{}", if digits.is_empty() { "0" } else { digits }));
    }
    numbers.push("9".repeat(131_072));
    numbers.push("1".repeat(131_073));
    numbers
}

fn numbers() -> Vec<String> {
    let fixed = [
        "1234567890123.456789",
        "169299987.35345112123",
        "0.1",
        "-0.0",
        "-0.00",
        "1e-7",
        "1E-7",
        "1e7",
        "1.50E+1",
        "0e100000",
        "0.0e-5",
        "1e400",
        "1E-400",
        "1e131071",
        "1e131072",
        "1e-16383",
        "1e-16384",
        "1e100000",
        "-1e1000000000",
        "1e99999999999999999999",
        "1e-99999999999999999999",
        "99.995",
        "99.994",
        "0.0000005",
        "0.00000049999999999999999999999999999999999",
        "99999999999999.9999995",
        "99999999999999.9999994",
        "-99999999999999.9999994999999999999999",
    ];
    let mut numbers = integers();
    numbers.extend(fixed.map(str::to_owned));
    let mut rng = Rng::with_seed(8);
    for _ in 0..120 {
        let digits = |rng: &mut Rng, max| -> String {
            (0..rng.usize(1..max)).map(|_| rng.digit(10)).collect()
        };
        let (sign, first) = (if rng.bool() { "-" } else { "" }, rng.u32(1..10));
        let exponent = match rng.u8(0..3) {
            0 => format!("e{}", rng.i32(-40..40)),
            1 => format!("E+{}", rng.u32(0..15)),
            _ => String::new(),
        };
        let (integer, fraction) = (digits(&mut rng, 16), digits(&mut rng, 24));
        numbers.push(format!("{sign}{first}{integer}.{fraction}{exponent}"));
    }
    numbers.push(format!("0.{}", "1".repeat(16_383)));
    numbers.push(format!("0.{}", "1".repeat(16_384)));
    numbers
}

#[test]
fn numbers_that_are_passed_on_arrive_digit_for_digit_in_every_mode() {
    for mode in [Mode::Append, Mode::Upsert, Mode::Ignore] {
        check(Kind::Float64, false, "numeric(20,6)", mode, &numbers());
        check(Kind::Int64, false, "numeric(20,0)", mode, &integers());
    }
    for type_name in ["numeric", "numeric(5)", "numeric(6,2)", "numeric(3,5)", "numeric(2,-3)"] {
        check(Kind::Float64, false, type_name, Mode::Append, &numbers());
        check(Kind::Int64, false, type_name, Mode::Append, &integers());
    }
}

#[test]
fn numbers_that_the_plugin_reads_too_arrive_digit_for_digit() {
    let fit = |text: &String| text.parse::<f64>().is_ok_and(f64::is_finite);
    let floats: Vec<String> = numbers().into_iter().filter(fit).collect();
    check(Kind::Float64, true, "numeric(20,6)", Mode::Append, &floats);
    let fit = |text: &String| text.parse::<i64>().is_ok();
    let integers: Vec<String> = integers().into_iter().filter(fit).collect();
    check(Kind::Int64, true, "numeric(20,0)", Mode::Upsert, &integers);
}

#[test]
fn a_number_may_go_to_a_double_and_to_a_numeric_column() {
    let database = Database::new();
    database.run("CREATE TABLE doubles (id bigint, v float8); CREATE TABLE numerics (id bigint, v numeric(30,6))");
    let plan = make_plan(
        &database,
        &[passing("a", Kind::Float64), passing("b", Kind::Float64)],
        &[("a", to_table("doubles", Mode::Append)), ("b", to_table("numerics", Mode::Append))],
    );
    let mut lane = Lane::start(&database, &[0]);
    let numbers = ["1234567890123.456789", "9007199254740993", "-0.0", "null"].map(str::to_owned);
    let given = given(&plan, &inputs(Kind::Float64, false), lane.ranges[0].from, &numbers);
    lane.write(&plan, given, &version("a"));
    assert_eq!(
        database
            .ask("SELECT doubles.v, numerics.v FROM doubles JOIN numerics USING (id) ORDER BY id"),
        "1234567890123.4568|1234567890123.456789\n9.007199254740992e+15|9007199254740993.000000\n-0|0.000000\nNULL|NULL"
    );
}

#[test]
fn a_plan_says_where_digits_are_needed() {
    let database = Database::new();
    database.run("CREATE DOMAIN price AS numeric(20,6); CREATE TABLE t (id bigint, v price)");
    let plan = |output| make_plan(&database, &[output], &[("", to_table("t", Mode::Append))]);
    let passed = plan(passing("o", Kind::Float64));
    let exact = passed.exact_inputs();
    assert_eq!((exact.has(0), exact.has(1), exact.doubles_become_numerics), (false, true, false));
    let computed = plan(output("o", &[("id", Kind::Int64), ("v?", Kind::Float64)]));
    assert!(computed.exact_inputs().doubles_become_numerics);
    let text = plan(output("o", &[("id", Kind::Int64), ("v?", Kind::Text)]));
    assert!(!text.exact_inputs().doubles_become_numerics);
}

#[test]
fn a_double_that_is_computed_with_for_a_numeric_column_is_exact_or_a_dead_letter() {
    let database = Database::new();
    database.run("CREATE TABLE t (v numeric(30,6))");
    let plan = make_plan(
        &database,
        &[output("o", &[("v", Kind::Float64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut lane = Lane::start(&database, &[0]);
    let numbers = ["0.1", "1234567890123.456789", "9007199254740992"].map(str::to_owned);
    let mut given = given(&plan, &inputs(Kind::Float64, true), lane.ranges[0].from, &numbers);
    // The plugin returns what it read.
    let Values::Float64(values) = &given.decoded.columns[1].values else { panic!("a double") };
    let mut column = Column::new(Kind::Float64);
    column.values = Values::Float64(values.clone());
    given.tables[0].columns = vec![RowColumn::Computed(column)];
    lane.write(&plan, given, &version("a"));
    assert_eq!(database.ask("SELECT v FROM t ORDER BY v"), "0.100000\n9007199254740992.000000");
    insta::assert_snapshot!(
        dead_letters(&database, &numbers).into_values().collect::<String>(),
        @"decode inexact-number: /v: expected a number that a double keeps exactly, found 1234567890123.456789 at byte 12; the plugin computes doubles for a numeric column, and this number would change unnoticed: a field that is passed through, or read as JSON, keeps its digits"
    );
}
