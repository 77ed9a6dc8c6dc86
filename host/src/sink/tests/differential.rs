//! Cells as we judge and encode them against what Postgres makes of the same values as text.

use fastrand::Rng;

use super::lab::{Database, Given, Lane, make_plan, output, to_table, version, wait_for};
use crate::columns::{Column, Kind, Values};
use crate::settings::Mode;
use crate::sink::types::{Encoding, Type};

/// A value and the literal from which Postgres is to make the same.
enum Value {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

impl Value {
    fn literal(&self, kind: Kind) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) if kind == Kind::Timestamp => {
                let (days, micros) =
                    (value.div_euclid(86_400_000_000), value.rem_euclid(86_400_000_000));
                format!("epoch {days} {micros}")
            }
            Self::Int(value) => value.to_string(),
            Self::Float(value) => float(*value),
            Self::Text(value) => value.clone(),
            Self::Bytes(value) => {
                value.iter().fold("\\x".to_owned(), |hex, byte| format!("{hex}{byte:02x}"))
            }
            Self::Ints(values) => list(values.iter().map(ToString::to_string)),
            Self::Floats(values) => list(values.iter().map(|value| float(*value))),
        }
    }

    fn push(&self, column: &mut Column) {
        match (self, &mut column.values) {
            (Self::Bool(value), Values::Boolean(cells)) => cells.push(u8::from(*value)),
            (Self::Int(value), Values::Int64(cells) | Values::Timestamp(cells)) => {
                cells.push(*value)
            }
            (Self::Float(value), Values::Float64(cells)) => cells.push(*value),
            (Self::Text(value), Values::Text(cells) | Values::Json(cells)) => {
                cells.push(value.as_bytes())
            }
            (Self::Bytes(value), Values::Bytes(cells)) => cells.push(value),
            (Self::Ints(values), Values::Int64List(lists)) => {
                lists.items.extend(values);
                lists.close();
            }
            (Self::Floats(values), Values::Float64List(lists)) => {
                lists.items.extend(values);
                lists.close();
            }
            _ => unreachable!("values are of the column's kind"),
        }
    }
}

fn float(value: f64) -> String {
    if value.is_infinite() {
        format!("{value:?}").replace("inf", "Infinity")
    } else {
        format!("{value:e}")
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", items.collect::<Vec<_>>().join(","))
}

fn texts(values: &[&str]) -> Vec<Value> {
    values.iter().map(|value| Value::Text((*value).to_owned())).collect()
}

/// Writes `values` into a column of `type_name` both ways. What we let through, Postgres must take and keep
/// alike; what we reject, Postgres must refuse too, unless it is in `stricter`: forms of text of which we
/// take fewer.
fn check(database: &Database, kind: Kind, type_name: &str, values: &[Value], stricter: &[&str]) {
    database.run(&format!(
        "DROP TABLE IF EXISTS ours, theirs; CREATE TABLE ours (id bigint, v {type_name}); CREATE TABLE theirs (LIKE ours)"
    ));
    let plan = make_plan(
        database,
        &[output("o", &[("id", Kind::Int64), ("v?", kind)])],
        &[("", to_table("ours", Mode::Append))],
    );
    let taken = by_postgres(database, kind, type_name, values);
    let (mut ids, mut column) = (Column::new(Kind::Int64), Column::new(kind));
    for (id, value) in values.iter().enumerate() {
        Value::Int(id as i64).push(&mut ids);
        value.push(&mut column);
        column.mark_present(id);
    }
    // A gap, so that NULL is written as well.
    Value::Int(-1).push(&mut ids);
    column.push_null();
    let mut lane = Lane::start(database, &[0]);
    let start = lane.ranges[0].from;
    let messages = (0..=values.len() as i64).map(|index| (0, start + index));
    lane.write(&plan, Given::messages(messages).table(vec![ids, column]), &version("a"));

    let written: Vec<bool> = {
        let written = database.ask("SELECT id FROM ours WHERE id >= 0");
        let ids: std::collections::HashSet<usize> =
            written.lines().map(|id| id.parse().unwrap()).collect();
        (0..values.len()).map(|id| ids.contains(&id)).collect()
    };
    for (id, value) in values.iter().enumerate() {
        let literal = value.literal(kind);
        let wrong = match (written[id], &taken[id]) {
            (true, Err(error)) => Some(format!("we wrote what Postgres refuses: {error}")),
            (false, Ok(())) if !stricter.contains(&literal.as_str()) => {
                Some("we reject what Postgres takes".to_owned())
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            panic!("{} to {type_name}, {literal:?}: {wrong}", kind.name());
        }
    }
    let differences = database.ask(
        "SELECT id, ours.v::text, theirs.v::text FROM ours JOIN theirs USING (id) \
         WHERE ours.v::text IS DISTINCT FROM theirs.v::text LIMIT 5",
    );
    assert_eq!(differences, "", "{} to {type_name}: id|ours|theirs", kind.name());
    assert_eq!(database.ask("SELECT id, v FROM ours WHERE id < 0"), "-1|NULL");
}

fn by_postgres(
    database: &Database,
    kind: Kind,
    type_name: &str,
    values: &[Value],
) -> Vec<Result<(), String>> {
    let expression = match kind {
        // Exact to the microsecond, beyond what date input takes.
        Kind::Timestamp => "timestamptz 'epoch' AT TIME ZONE 'UTC' + split_part($2, ' ', 2)::integer * interval '1 day' \
             + split_part($2, ' ', 3)::bigint * interval '1 microsecond'".to_owned(),
        Kind::Float64 if type_name.starts_with("numeric") => "$2::numeric".to_owned(),
        Kind::Float64 => "$2::float8".to_owned(),
        Kind::Float64List => "$2::float8[]".to_owned(),
        Kind::Int64List => "$2::bigint[]".to_owned(),
        Kind::Text if matches!(type_name, "text" | "varchar(3)" | "char(3)" | "shorter") => "$2".to_owned(),
        // The type's name alone would mean bit(1).
        _ if type_name == "bit(3)" => "$2::\"bit\"".to_owned(),
        _ => format!("$2::{}", type_name.split('(').next().unwrap()),
    };
    let insert =
        format!("INSERT INTO theirs SELECT $1::bigint, {}", expression.replace("$2", "$2::text"));
    wait_for(async {
        let session = database.options.connect().await.unwrap();
        let insert = session.prepare(&insert).await.unwrap();
        let mut results = Vec::new();
        for (id, value) in values.iter().enumerate() {
            let result = session.execute(&insert, &[&(id as i64), &value.literal(kind)]).await;
            results.push(
                result
                    .map(drop)
                    .map_err(|error| crate::sink::postgres::connection::describe(&error)),
            );
        }
        results
    })
}

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
