//! Every kind in every type that it fits, with values at the edges and at random.

use fastrand::Rng;

use super::differential::{Value, check, texts};
use super::lab::Database;
use crate::columns::{Kind, Values};
use crate::sink::types::{Encoding, Type};

fn integers() -> Vec<Value> {
    let mut rng = Rng::with_seed(1);
    let edges = [
        i64::MIN,
        i64::MAX,
        i64::from(i32::MIN),
        i64::from(i32::MAX),
        -32768,
        32767,
        9999,
        10000,
        0,
        1,
        -1,
    ];
    let near =
        edges.iter().flat_map(|edge| [edge.saturating_sub(1), *edge, edge.saturating_add(1)]);
    let random = (0..60).map(|_| rng.i64(..) >> rng.u32(0..64));
    near.chain(random).map(Value::Int).collect()
}

fn floats() -> Vec<Value> {
    let mut rng = Rng::with_seed(2);
    let fixed = [
        0.0,
        -0.0,
        1.5,
        0.1,
        -1e-7,
        1e15,
        1e16,
        123_456.789,
        99.995,
        99.994,
        999.5,
        f64::MAX,
        f64::MIN,
        3.4e38,
        3.5e38,
        f64::MIN_POSITIVE,
        5e-324,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::from(f32::MAX),
        0.005,
        -0.004,
    ];
    // Subnormal singles: Postgres' cast refuses what rounds to zero, COPY BINARY takes it.
    let random = (0..60).map(|_| (rng.f64() - 0.5) * 10f64.powi(rng.i32(-30..30)));
    fixed.into_iter().chain(random).map(Value::Float).collect()
}

#[test]
fn numbers_arrive_as_they_were_and_too_large_ones_are_rejected() {
    let database = Database::new();
    check(&database, Kind::Boolean, "boolean", &[Value::Bool(true), Value::Bool(false)], &[]);
    for type_name in [
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "numeric(5)",
        "numeric(6,2)",
        "numeric(3,5)",
        "numeric(2,-3)",
    ] {
        check(&database, Kind::Int64, type_name, &integers(), &[]);
    }
    for type_name in
        ["float8", "numeric", "numeric(5)", "numeric(6,2)", "numeric(3,5)", "numeric(2,-3)"]
    {
        check(&database, Kind::Float64, type_name, &floats(), &[]);
    }
    let singles = floats().into_iter().filter(|value| match value {
        Value::Float(value) => *value == 0.0 || *value as f32 != 0.0,
        _ => false,
    });
    check(&database, Kind::Float64, "real", &singles.collect::<Vec<_>>(), &[]);
}

#[test]
fn numbers_in_text_arrive_exactly() {
    let database = Database::new();
    let mut values = texts(&[
        "0",
        "-0",
        "00012.3400",
        "1e3",
        "1E-3",
        "12.5e+2",
        ".5",
        "5.",
        "+7",
        "  42 ",
        "NaN",
        "nan",
        "Infinity",
        "-Infinity",
        "inf",
        "-inf",
        "+infinity",
        "1e131071",
        "1e131072",
        "1e-16383",
        "1e-16384",
        "99.995",
        "99.994",
        "9999.995",
        "999.99999",
        "0.00099",
        "0.000995",
        "99499",
        "99500",
        "99999",
        "0.004",
        "0.0000049",
        "0.000005",
        "-NaN",
        "e5",
        "1e",
        ".",
        "",
        "-",
        "1 2",
        "12a",
        "0x1F",
        "1_000",
        "１２",
    ]);
    let mut rng = Rng::with_seed(3);
    for _ in 0..150 {
        let digits =
            |rng: &mut Rng, max| (0..rng.usize(0..max)).map(|_| rng.digit(10)).collect::<String>();
        let exponent = if rng.bool() { format!("e{}", rng.i32(-30..30)) } else { String::new() };
        values.push(Value::Text(format!(
            "{}.{}{exponent}",
            digits(&mut rng, 12),
            digits(&mut rng, 12)
        )));
    }
    for type_name in ["numeric", "numeric(5)", "numeric(6,2)", "numeric(3,5)", "numeric(2,-3)"] {
        check(&database, Kind::Text, type_name, &values, &["0x1F", "1_000", "+infinity"]);
    }
}

#[test]
fn text_arrives_as_it_was() {
    let database = Database::new();
    let values = texts(&[
        "",
        "a",
        "abc",
        "abcd",
        "abc   ",
        "äöü",
        "äöüß",
        "日本語",
        "日本語だ",
        "a\"b\\c\n",
        "\u{10ffff}",
        "   ",
        "     ",
    ]);
    for type_name in ["text", "varchar(3)", "char(3)", "varchar"] {
        check(&database, Kind::Text, type_name, &values, &[]);
    }
    database.run("CREATE TYPE mood AS ENUM ('ok', 'so so', '')");
    check(&database, Kind::Text, "mood", &texts(&["ok", "so so", "", "OK", "ok ", "bad"]), &[]);
    database.run(
        "CREATE DOMAIN short AS varchar(3) CHECK (value <> 'bad'); CREATE DOMAIN shorter AS short",
    );
    check(&database, Kind::Text, "shorter", &texts(&["a", "abcd"]), &[]);
    let bytes = [vec![], vec![0, 1, 255], b"text".to_vec()].map(Value::Bytes);
    check(&database, Kind::Bytes, "bytea", &bytes, &[]);
}

#[test]
fn u0000_in_text_is_rejected_before_the_wire() {
    let cells = Values::Text(crate::columns::Spans { data: b"a\0b".to_vec(), ends: vec![3] });
    for target in [Type::Text(None), Type::Text(Some(10)), Type::Other] {
        let encoding = Encoding::new(Kind::Text, &target, false).unwrap();
        assert_eq!(encoding.check(&cells, 0).unwrap_err().code, "nul-character");
    }
}

#[test]
fn dates_times_and_uuids_in_text_arrive_as_they_were() {
    let database = Database::new();
    let dates = texts(&[
        "2026-11-22",
        "2000-01-01",
        "1970-01-01",
        "0001-01-01",
        "9999-12-31",
        "2024-02-29",
        "2023-02-29",
        "2026-13-01",
        "2026-00-01",
        "2026-01-00",
        "0000-01-01",
        "",
        "today",
        "22.11.2026",
        "2026-1-1",
    ]);
    check(&database, Kind::Text, "date", &dates, &["today", "22.11.2026", "2026-1-1"]);
    let times = texts(&[
        "00:00",
        "23:59:59",
        "24:00:00",
        "24:00:01",
        "25:00",
        "12:34:56.789",
        "12:34:56.7890123",
        "23:59:59.9999996",
        "12:60",
        "12:00:60",
        "12:00:61",
        "",
        "noon",
        "1:2",
        "12:34:56 PM",
    ]);
    check(&database, Kind::Text, "time", &times, &["12:00:60", "1:2", "12:34:56 PM"]);
    check(&database, Kind::Text, "time(2)", &texts(&["12:34:56.785", "23:59:59.999"]), &[]);
    let mut uuids = texts(&[
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
        "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
        "",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0e-ebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    ]);
    let mut rng = Rng::with_seed(4);
    uuids.extend((0..50).map(|_| Value::Text(uuid::Uuid::from_u128(rng.u128(..)).to_string())));
    check(&database, Kind::Text, "uuid", &uuids, &[]);
}

#[test]
fn timestamps_arrive_to_the_microsecond() {
    let database = Database::new();
    let mut rng = Rng::with_seed(5);
    let fixed = [
        0,
        -1,
        1,
        946_684_800_000_000,
        946_684_799_999_999,
        1_795_316_645_123_456,
        -210_866_803_200_000_000,
    ];
    let edges = [-211_813_488_000_000_000 + 946_684_800_000_000, 9_223_371_331_199_999_999];
    let random = (0..60)
        .map(|_| rng.i64(-200_000_000_000_000_000..9_000_000_000_000_000_000) >> rng.u32(0..40));
    let values: Vec<Value> = fixed.into_iter().chain(edges).chain(random).map(Value::Int).collect();
    for type_name in ["timestamptz", "timestamp", "date", "timestamp(3)"] {
        check(&database, Kind::Timestamp, type_name, &values, &[]);
    }
}

#[test]
fn json_arrives_as_it_was() {
    let database = Database::new();
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let (fits, too_deep) = (deep(4_999), deep(9_000));
    let values = texts(&[
        "{}",
        "[1, 2.50, -3e-7]",
        "null",
        " true ",
        r#""x""#,
        r#"{"a":{"b":[{"c":"\u00e9\n"}]}}"#,
        r#""\u0000""#,
        r#""\\u0000""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ude00\ud83d""#,
        r#"{"\udead":1}"#,
        "1e400",
        "1e15000",
        "1e999999",
        "-0",
        "01",
        "1.",
        "{",
        "",
        "nul",
        "[1,]",
        r#"{"a":1,"a":2}"#,
        "\"tab\there\"",
        "\u{feff}1",
        &fits,
        &too_deep,
    ]);
    for kind in [Kind::Text, Kind::Json] {
        check(&database, kind, "json", &values, &[&too_deep]);
        check(&database, kind, "jsonb", &values, &[&too_deep]);
    }
    check(&database, Kind::Json, "text", &texts(&["{}", "[1]"]), &[]);
}

#[test]
fn lists_arrive_as_arrays() {
    let database = Database::new();
    let ints = [
        vec![],
        vec![1],
        vec![1, -2, 3],
        vec![32768],
        vec![i64::from(i32::MAX) + 1],
        vec![i64::MIN],
    ]
    .map(Value::Ints);
    for type_name in ["smallint[]", "integer[]", "bigint[]"] {
        check(&database, Kind::Int64List, type_name, &ints, &[]);
    }
    let floats =
        [vec![], vec![1.5, f64::NAN, f64::NEG_INFINITY], vec![1e39], vec![0.1]].map(Value::Floats);
    for type_name in ["real[]", "float8[]"] {
        check(&database, Kind::Float64List, type_name, &floats, &[]);
    }
}

#[test]
fn any_other_type_is_cast_by_postgres() {
    let database = Database::new();
    check(&database, Kind::Text, "inet", &texts(&["10.0.0.1", "::1/64"]), &[]);
    check(&database, Kind::Text, "interval", &texts(&["1 day 02:03:04", "P1Y"]), &[]);
    check(&database, Kind::Text, "bigint", &texts(&["42", " -7 "]), &[]);
    check(&database, Kind::Text, "timestamptz", &texts(&["2026-11-22T03:04:05.123Z"]), &[]);
    check(&database, Kind::Text, "bit(3)", &texts(&["101"]), &[]);
    check(&database, Kind::Text, "integer[]", &texts(&["{1,2}"]), &[]);
}
