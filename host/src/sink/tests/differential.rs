//! Cells as we check and encode them against what Postgres makes of the same values as text.

use super::lab::{Database, Given, Lane, make_plan, output, to_table, version, wait_for};
use crate::columns::{Column, Kind, Values};
use crate::settings::Mode;

/// A value and the literal from which Postgres is to make the same.
pub enum Value {
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
                cells.push(*value);
            }
            (Self::Float(value), Values::Float64(cells)) => cells.push(*value),
            (Self::Text(value), Values::Text(cells) | Values::Json(cells)) => {
                cells.push(value.as_bytes());
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

pub fn texts(values: &[&str]) -> Vec<Value> {
    values.iter().map(|value| Value::Text((*value).to_owned())).collect()
}

/// Writes `values` into a column of `type_name` both ways. What we let through, Postgres must take and keep
/// alike; what we reject, Postgres must refuse too, unless it is in `stricter`: forms of text of which we
/// take fewer.
pub fn check(
    database: &Database,
    kind: Kind,
    type_name: &str,
    values: &[Value],
    stricter: &[&str],
) {
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
        let session = database.session().await;
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
