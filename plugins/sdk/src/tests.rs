//! The whole way of a batch through a transform, natively: what an author declares is what the host gets.

use crate::bindings::exports::sluice::plugin::transform::{
    Batch, Headers as HeaderColumns, Outcome,
};
use crate::bindings::sluice::plugin::columns::{
    Blobs, Column, Float64Lists, Int64Lists, Spans, Values,
};
use crate::bindings::sluice::plugin::schema::{Payload, Source};
use crate::schema::{Attributes, Kind};
use crate::{
    Change, Decimal, Headers, Json, Message, Position, Rejection, Row, Settings, Text, Timestamp,
    Transform, reject, retry, runtime,
};

fn spans(values: &[&str]) -> Spans {
    let mut spans = Spans { data: Vec::new(), ends: Vec::new() };
    for value in values {
        spans.data.extend_from_slice(value.as_bytes());
        spans.ends.push(spans.data.len() as u32);
    }
    spans
}

fn blobs(values: &[Option<&str>]) -> Blobs {
    let texts: Vec<&str> = values.iter().map(|value| value.unwrap_or_default()).collect();
    let nulls = values.iter().map(|value| u8::from(value.is_none())).collect();
    Blobs { values: spans(&texts), nulls }
}

fn column(values: Values, nulls: &[u8]) -> Column {
    Column { values, nulls: nulls.to_vec() }
}

/// A batch of `count` messages without any part of them.
fn empty(count: u32) -> Batch {
    Batch {
        topic: "orders".to_owned(),
        count,
        fields: Vec::new(),
        payloads: blobs(&[]),
        keys: blobs(&[]),
        timestamps: Vec::new(),
        partitions: Vec::new(),
        offsets: Vec::new(),
        headers: HeaderColumns { ends: Vec::new(), names: spans(&[]), values: blobs(&[]) },
    }
}

fn process<T: Transform>(transform: &T, batch: &Batch) -> Outcome {
    runtime::process(Some(transform), batch).expect("the batch is what was asked for")
}

/// A column as text, row by row.
fn cells(column: &Column) -> Vec<String> {
    let strings = |spans: &Spans| {
        let starts = std::iter::once(&0).chain(&spans.ends);
        let slices =
            starts.zip(&spans.ends).map(|(start, end)| &spans.data[*start as usize..*end as usize]);
        slices.map(|slice| String::from_utf8_lossy(slice).into_owned()).collect::<Vec<_>>()
    };
    let mut cells: Vec<String> = match &column.values {
        Values::Boolean(values) => values.iter().map(|value| (*value == 1).to_string()).collect(),
        Values::Int64(values) | Values::Timestamp(values) => {
            values.iter().map(i64::to_string).collect()
        }
        Values::Float64(values) => values.iter().map(f64::to_string).collect(),
        Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => strings(spans),
        Values::Int64List(lists) => vec![format!("{:?} {:?}", lists.items, lists.ends)],
        Values::Float64List(lists) => vec![format!("{:?} {:?}", lists.items, lists.ends)],
    };
    for (cell, null) in cells.iter_mut().zip(&column.nulls) {
        if *null == 1 {
            "-".clone_into(cell);
        }
    }
    cells
}

#[derive(Settings)]
struct Copy;

/// Every kind, with and without gaps.
#[derive(Message)]
struct Everything<'a> {
    flag: bool,
    #[message(pointer = "/meta/count")]
    count: i64,
    level: Option<f64>,
    name: &'a str,
    note: Option<&'a str>,
    raw: &'a [u8],
    at: Timestamp,
    json: Json<&'a str>,
    integers: &'a [i64],
    doubles: Option<&'a [f64]>,
}

#[derive(Row)]
#[row(output = "copy", pass(name: &str, version: Option<&str> = "/meta/version", at: Timestamp))]
struct Copied<'a> {
    flag: bool,
    count: i64,
    level: Option<f64>,
    #[row(column = "label")]
    name: Text<&'a str>,
    note: Option<&'a str>,
    raw: &'a [u8],
    seen: Timestamp,
    json: Json<&'a str>,
    integers: &'a [i64],
    doubles: Option<Vec<f64>>,
    cost: Decimal,
}

impl Transform for Copy {
    type Message<'a> = Everything<'a>;
    type Rows<'a> = Option<Copied<'a>>;

    fn transform<'a>(&'a self, message: Everything<'a>) -> Result<Option<Copied<'a>>, Rejection> {
        if message.count == 2 {
            return Ok(None);
        }
        Ok(Some(Copied {
            flag: message.flag,
            count: message.count,
            level: message.level,
            name: Text(message.name),
            note: message.note,
            raw: message.raw,
            seen: message.at,
            json: message.json,
            integers: message.integers,
            doubles: message.doubles.map(<[f64]>::to_vec),
            cost: Decimal::new(message.count.into(), 1).unwrap(),
        }))
    }
}

fn everything() -> Batch {
    let mut batch = empty(3);
    batch.fields = vec![
        column(Values::Boolean(vec![1, 0, 0]), &[]),
        column(Values::Int64(vec![1, 2, 3]), &[]),
        column(Values::Float64(vec![1.5, 2.5, 0.0]), &[0, 0, 1]),
        column(Values::Text(spans(&["ä", "b", "c"])), &[]),
        column(Values::Text(spans(&["", "", "note"])), &[1, 1, 0]),
        column(Values::Bytes(spans(&["r", "s", ""])), &[]),
        column(Values::Timestamp(vec![10, 20, 30]), &[]),
        column(Values::Json(spans(&["{}", "2", "[1]"])), &[]),
        column(Values::Int64List(Int64Lists { items: vec![1, 2, 9, 3], ends: vec![2, 3, 4] }), &[]),
        column(
            Values::Float64List(Float64Lists { items: vec![0.5], ends: vec![1, 1, 1] }),
            &[0, 1, 1],
        ),
    ];
    batch
}

#[test]
fn every_kind_goes_in_and_out() {
    let outcome = process(&Copy, &everything());
    let rows = &outcome.outputs[0];
    assert_eq!((rows.messages.as_slice(), rows.deletes.as_slice()), (&[0, 2][..], &[][..]));
    let columns: Vec<_> = rows.columns.iter().map(cells).collect();
    let expected: [&[&str]; 11] = [
        &["true", "false"],
        &["1", "3"],
        &["1.5", "-"],
        &["ä", "c"],
        &["-", "note"],
        &["r", ""],
        &["10", "30"],
        &["{}", "[1]"],
        &["[1, 2, 3] [2, 3]"],
        &["[0.5] [1, 1]"],
        &["0.1", "0.3"],
    ];
    assert_eq!(columns, expected);
    assert_eq!(
        (rows.columns[9].nulls.as_slice(), rows.columns[4].nulls.as_slice()),
        (&[0, 1][..], &[1, 0][..])
    );
    assert!(rows.columns[0].nulls.is_empty() && outcome.rejections.is_empty());
}

#[test]
fn a_description_lists_fields_that_are_read_before_those_that_pass() {
    let description = runtime::describe::<Copy>("copy", "1.2.3");
    let Payload::Json(fields) = &description.payload else { panic!("fields are decoded") };
    let fields: Vec<_> = fields
        .iter()
        .map(|field| (field.pointer.as_str(), field.kind, field.required, field.read))
        .collect();
    assert_eq!(
        fields,
        [
            ("/flag", Kind::Boolean, true, true),
            ("/meta/count", Kind::Int64, true, true),
            ("/level", Kind::Float64, false, true),
            ("/name", Kind::Text, true, true),
            ("/note", Kind::Text, false, true),
            ("/raw", Kind::Bytes, true, true),
            ("/at", Kind::Timestamp, true, true),
            ("/json", Kind::Json, true, true),
            ("/integers", Kind::Int64List, true, true),
            ("/doubles", Kind::Float64List, false, true),
            ("/meta/version", Kind::Text, false, false),
        ]
    );
    let sources: Vec<_> = description.outputs[0]
        .fields
        .iter()
        .map(|field| match field.source {
            Source::Field(index) => (field.name.as_str(), field.nullable, Some(index)),
            Source::Computed => (field.name.as_str(), field.nullable, None),
        })
        .collect();
    let passed = [("name", false, Some(3)), ("version", true, Some(10)), ("at", false, Some(6))];
    assert_eq!(sources[..3], passed);
    assert_eq!(
        sources[3..7],
        [
            ("flag", false, None),
            ("count", false, None),
            ("level", true, None),
            ("label", false, None)
        ]
    );
    assert_eq!((description.name.as_str(), description.version.as_str()), ("copy", "1.2.3"));
    assert!(description.settings.is_empty() && description.reads.is_empty());
}

/// Reads what it also passes, but otherwise.
#[derive(Settings)]
struct Twice;

#[derive(Message)]
struct Optional<'a> {
    name: Option<&'a str>,
}

#[derive(Row)]
#[row(output = "twice", pass(name: &str, quoted: Option<Json<&str>> = "/name"))]
struct Passed {
    known: bool,
}

impl Transform for Twice {
    type Message<'a> = Optional<'a>;
    type Rows<'a> = [Passed; 1];

    fn transform<'a>(&'a self, message: Optional<'a>) -> Result<[Passed; 1], Rejection> {
        Ok([Passed { known: message.name.is_some() }])
    }
}

#[test]
fn a_field_that_passes_shares_what_is_read_only_when_it_is_of_the_same_kind() {
    let Payload::Json(fields) = runtime::describe::<Twice>("twice", "0").payload else {
        panic!("fields are decoded")
    };
    let fields: Vec<_> = fields
        .iter()
        .map(|field| (field.pointer.as_str(), field.kind, field.required, field.read))
        .collect();
    let expected = [("/name", Kind::Text, true, true), ("/name", Kind::Json, false, false)];
    assert_eq!(fields, expected);
}

#[test]
fn a_batch_that_is_not_what_was_asked_for_is_an_error() {
    let error = |change: fn(&mut Batch)| {
        let mut batch = everything();
        change(&mut batch);
        runtime::process(Some(&Copy), &batch).map(|_| ()).unwrap_err()
    };
    assert_eq!(error(|batch| drop(batch.fields.pop())), "the batch lacks /doubles");
    let elsewhere =
        |name: &str| format!("the batch contains something else than {name} where it belongs");
    assert_eq!(error(|batch| batch.fields.swap(0, 1)), elsewhere("/flag"));
    assert_eq!(
        error(|batch| batch.fields[3].values = Values::Text(spans(&["a"]))),
        elsewhere("/name")
    );
    assert_eq!(error(|batch| batch.fields[4].nulls = vec![1]), elsewhere("/note"));
    let error = runtime::process::<Copy>(None, &everything()).map(|_| ()).unwrap_err();
    assert_eq!(error, "process was called before configure");
}

/// The parts of a message that are not fields of its payload.
#[derive(Message)]
struct Parts<'a> {
    #[message(payload)]
    payload: Option<&'a str>,
    #[message(key)]
    key: &'a [u8],
    #[message(timestamp)]
    timestamp: Option<Timestamp>,
    #[message(position)]
    position: Position,
    #[message(headers)]
    headers: Headers<'a>,
    #[message(topic)]
    topic: &'a str,
}

#[derive(Row)]
#[row(output = "state")]
struct State {
    line: String,
}

#[derive(Row)]
#[row(output = "copies")]
struct Number {
    number: i32,
}

#[derive(Settings)]
struct Fan;

impl Transform for Fan {
    type Message<'a> = Parts<'a>;
    type Rows<'a> = (Change<State>, Vec<Number>);

    fn transform<'a>(&'a self, message: Parts<'a>) -> Result<Self::Rows<'a>, Rejection> {
        let Position { partition, offset } = message.position;
        match message.payload {
            Some("never") => reject!("never", "at {partition}/{offset}"),
            Some("later") => retry!("later", "at {partition}/{offset}"),
            _ => {}
        }
        let key = String::from_utf8_lossy(message.key);
        let trace = message.headers.get("trace");
        let time = message.timestamp.map(Timestamp::as_micros);
        let names = message.headers.iter().count();
        let line = format!("{} {key} {time:?} {trace:?} {names}", message.topic);
        let change = match message.payload {
            Some(_) => Change::Put(State { line }),
            None => Change::Delete(State { line }),
        };
        Ok((change, (0..offset as i32).map(|number| Number { number }).collect()))
    }
}

#[test]
fn parts_of_the_message_feed_several_outputs_and_deletes() {
    let mut batch = empty(6);
    let payloads = [Some("a"), Some("never"), None, Some("later"), Some("b"), Some("c")];
    batch.payloads = blobs(&payloads);
    batch.keys = blobs(&[Some("k0"), Some("k1"), Some("k2"), Some("k3"), None, Some("k5")]);
    batch.timestamps = vec![7, 7, -1, 7, 7, 7];
    batch.partitions = vec![3; 6];
    batch.offsets = vec![0, 1, 2, 3, 4, 1];
    batch.headers = HeaderColumns {
        ends: vec![0, 0, 2, 2, 2, 3],
        names: spans(&["trace", "trace", "other"]),
        values: blobs(&[Some("x"), None, Some("z")]),
    };
    let outcome = process(&Fan, &batch);
    let [state, copies] = outcome.outputs.as_slice() else { panic!("two outputs") };
    assert_eq!(
        (state.messages.as_slice(), state.deletes.as_slice()),
        (&[0, 2, 5][..], &[0, 1, 0][..])
    );
    let lines =
        ["orders k0 Some(7) None 0", "orders k2 None Some(None) 2", "orders k5 Some(7) None 1"];
    assert_eq!(cells(&state.columns[0]), lines);
    assert_eq!((copies.messages.as_slice(), copies.deletes.len()), (&[2, 2, 5][..], 0));
    assert_eq!(cells(&copies.columns[0]), ["0", "1", "0"]);
    let rejections: Vec<_> = outcome
        .rejections
        .iter()
        .map(|rejection| {
            (rejection.message, rejection.code.as_str(), rejection.reason.as_str(), rejection.retry)
        })
        .collect();
    let expected = [
        (1, "never", "at 3/1", false),
        (3, "later", "at 3/3", true),
        (4, "no-key", "the message has no key", false),
    ];
    assert_eq!(rejections, expected);
}

#[test]
fn a_message_that_takes_its_payload_raw_says_so() {
    let description = runtime::describe::<Fan>("fan", "0");
    assert!(matches!(description.payload, Payload::Raw));
    let all = Attributes::PAYLOAD | Attributes::KEY | Attributes::TIMESTAMP | Attributes::POSITION;
    assert_eq!(description.reads, all | Attributes::HEADERS);
    let names: Vec<_> = description.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["state", "copies"]);
}

#[test]
fn text_that_is_not_utf8_is_rejected_alone() {
    let mut batch = empty(2);
    batch.payloads = blobs(&[Some("a"), Some("b")]);
    batch.payloads.values.data[0] = 0xFF;
    batch.keys = blobs(&[Some("k"), Some("k")]);
    batch.timestamps = vec![7, 7];
    batch.partitions = vec![0, 0];
    batch.offsets = vec![0, 0];
    batch.headers.ends = vec![0, 0];
    let outcome = process(&Fan, &batch);
    assert_eq!(
        (outcome.rejections[0].message, outcome.rejections[0].code.as_str()),
        (0, "invalid-utf8")
    );
    assert_eq!((outcome.rejections.len(), outcome.outputs[0].messages.as_slice()), (1, &[1][..]));
}

/// Limits of the whole plugin.
#[derive(Settings, Debug, PartialEq)]
struct Limits {
    /// In watts,
    /// either way.
    #[settings(default = 50_000.0, minimum = 0.0, maximum = 1e6)]
    power_w: f64,
    #[settings(default = "EUR")]
    currency: String,
    #[settings(default)]
    strict: bool,
    site: u32,
    tags: Option<Vec<String>>,
    inner: Inner,
}

#[derive(Settings, Debug, PartialEq)]
struct Inner {
    #[settings(minimum = 1)]
    depth: i64,
}

#[test]
fn settings_take_defaults_and_refuse_what_they_do_not_know() {
    let read = |text: &str| Limits::from_json(text);
    let expected = Limits {
        power_w: 50_000.0,
        currency: "EUR".to_owned(),
        strict: false,
        site: 7,
        tags: None,
        inner: Inner { depth: 1 },
    };
    assert_eq!(read(r#"{"site":7,"inner":{"depth":1}}"#), Ok(expected));
    let refused = |text: &str, expected: &str| assert_eq!(read(text).unwrap_err(), expected);
    refused("", "settings.site is missing; settings.inner is missing");
    refused("[]", "settings: a list where a table belongs");
    refused("{", "the settings are not JSON: EOF while parsing an object at line 1 column 1");
    refused(
        r#"{"site":-1,"inner":{"depth":0,"width":2},"power":1}"#,
        "settings.site: invalid value: integer `-1`, expected u32; settings.inner.depth: 0 is below the minimum of 1; \
         settings.inner.width is unknown; known: depth; settings.power is unknown; known: power_w, currency, strict, site, tags, inner",
    );
    refused(
        r#"{"site":1,"inner":{"depth":1},"power_w":1e7,"tags":["a",5]}"#,
        "settings.power_w: 10000000 is above the maximum of 1000000; settings.tags[1]: invalid type: integer `5`, expected a string",
    );
    assert!(Copy::from_json("").is_ok() && Copy::from_json(r#"{"a":1}"#).is_err());
}

#[test]
fn the_schema_of_settings_comes_from_types_and_comments() {
    let schema: serde_json::Value = serde_json::from_str(&Limits::json_schema()).unwrap();
    let expected = serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Limits of the whole plugin.",
        "type": "object",
        "additionalProperties": false,
        "required": ["site", "inner"],
        "properties": {
            "power_w": {
                "type": "number", "description": "In watts, either way.", "default": 50_000.0,
                "minimum": 0.0, "maximum": 1e6,
            },
            "currency": { "type": "string", "default": "EUR" },
            "strict": { "type": "boolean", "default": false },
            "site": { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            "tags": { "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "null" }] },
            "inner": {
                "type": "object", "additionalProperties": false, "required": ["depth"],
                "properties": { "depth": { "type": "integer", "minimum": 1 } },
            },
        },
    });
    assert_eq!(schema, expected);
}
