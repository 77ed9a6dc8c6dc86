//! A valid outcome is believed; whatever is done to it, nothing panics, and what is still believed
//! keeps every promise, as a slow and simple second check finds.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::columns::{Kind, Lists, Spans, Values};
use crate::description::{Attributes, InputField, Payload};

const MESSAGES: usize = 6;

fn field(name: &str, kind: Kind, nullable: bool, source: FieldSource) -> OutputField {
    OutputField { name: name.into(), kind, nullable, source }
}

/// Two outputs: one of every kind, and one that passes a field through.
fn description() -> Description {
    let all = vec![
        field("boolean", Kind::Boolean, true, FieldSource::Computed),
        field("int64", Kind::Int64, false, FieldSource::Computed),
        field("float64", Kind::Float64, true, FieldSource::Computed),
        field("text", Kind::Text, false, FieldSource::Computed),
        field("passed", Kind::Text, false, FieldSource::Field(0)),
        field("bytes", Kind::Bytes, true, FieldSource::Computed),
        field("timestamp", Kind::Timestamp, false, FieldSource::Computed),
        field("json", Kind::Json, true, FieldSource::Computed),
        field("integers", Kind::Int64List, false, FieldSource::Computed),
        field("doubles", Kind::Float64List, true, FieldSource::Computed),
    ];
    let passing = vec![field("passed", Kind::Text, false, FieldSource::Field(0))];
    let input = InputField { pointer: "/id".into(), kind: Kind::Text, required: true, read: false };
    Description {
        name: "test".into(),
        version: "1.0.0".into(),
        reads: Attributes::default(),
        payload: Payload::Json(vec![input]),
        outputs: vec![
            Output { name: "all".into(), fields: all },
            Output { name: "passing".into(), fields: passing },
        ],
        settings_schema: String::new(),
    }
}

/// Every second message of a batch was decoded; each has 1,000 bytes to pass through.
fn decoded() -> Decoded {
    let mut ids = Spans::default();
    (0..MESSAGES).for_each(|_| ids.push(&[b'x'; 1_000]));
    let column = Column { values: Values::Text(ids), nulls: Vec::new() };
    let messages = (0..MESSAGES as u32).map(|index| index * 2).collect();
    Decoded { messages, columns: vec![column], ..Decoded::default() }
}

fn limits() -> Limits {
    Limits { output_bytes_max: 20_000, rows_max: 40, ..Limits::default() }
}

fn checked(returned: Returned) -> Result<Checked<Outcome>, PluginFault> {
    check(returned, &description(), &decoded(), &limits())
}

fn spans(values: &[&str]) -> Spans {
    let mut spans = Spans::default();
    for value in values {
        spans.push(value.as_bytes());
    }
    spans
}

fn column(values: Values, nulls: &[u8]) -> Column {
    Column { values, nulls: nulls.to_vec() }
}

/// Three rows of messages 1, 1 and 4; message 0 rejected.
fn valid() -> Returned {
    let lists = Lists { items: vec![1, 2, 3], ends: vec![0, 2, 3] };
    let doubles = Lists { items: vec![0.5; 4], ends: vec![1, 1, 4] };
    let columns = vec![
        column(Values::Boolean(vec![0, 1, 1]), &[0, 0, 1]),
        column(Values::Int64(vec![1, -2, i64::MIN]), &[]),
        column(Values::Float64(vec![1.0, f64::NAN, 0.0]), &[0, 0, 0]),
        column(Values::Text(spans(&["ä", "", "€uro"])), &[]),
        column(Values::Bytes(spans(&["a", "\u{7f}", ""])), &[0, 0, 1]),
        column(Values::Timestamp(vec![0, 1, 2]), &[0, 0, 0]),
        column(Values::Json(spans(&["{\"a\":[1]}", "", "\"ü\""])), &[0, 1, 0]),
        column(Values::Int64List(lists), &[]),
        column(Values::Float64List(doubles), &[1, 0, 0]),
    ];
    let all = ReturnedRows { messages: vec![1, 1, 4], columns, deletes: vec![0, 1, 0] };
    let passing = ReturnedRows { messages: vec![5], columns: Vec::new(), deletes: Vec::new() };
    let rejection = ReturnedRejection {
        message: 0,
        code: "power-out-of-range".into(),
        reason: "60000 W".into(),
        retry: true,
    };
    Returned { outputs: vec![all, passing], rejections: vec![rejection] }
}

#[test]
fn a_valid_outcome_is_believed() {
    let outcome = checked(valid()).expect("valid");
    assert_eq!(outcome.tables[0].messages, [1, 1, 4]);
    assert!(matches!(outcome.tables[0].columns[4], RowColumn::Field(0)));
    assert_eq!(outcome.tables[0].columns.len(), 10);
    assert_eq!(outcome.tables[1].columns.len(), 1);
    let rejection = &outcome.rejections[0];
    assert_eq!((rejection.message, rejection.stage, rejection.retry), (0, Stage::Plugin, true));
}

#[test]
fn a_rejection_names_the_message_of_the_batch() {
    let mut returned = valid();
    returned.rejections[0].message = 3;
    assert_eq!(checked(returned).expect("valid").rejections[0].message, 6);
}

#[test]
fn rows_that_repeat_a_large_message_count_as_large() {
    let mut returned = valid();
    returned.outputs[1].messages = vec![5; 30];
    let fault = checked(returned).expect_err("30,000 bytes passed through");
    insta::assert_snapshot!(fault, @"plugin returned 33306 bytes, allowed are 20000 bytes");
}

#[test]
fn digits_that_are_passed_through_count_once() {
    let mut returned = valid();
    returned.outputs[1].messages = vec![5; 15];
    let bytes_with = |decoded: &Decoded| {
        let rows = &returned.outputs[1].messages;
        let bytes = bytes_passed_through(&description().outputs[1], rows, decoded, false);
        bytes - rows.len() * (ROW_BYTES + CELL_BYTES)
    };
    let mut decoded = decoded();
    assert_eq!(bytes_with(&decoded), 15_000);
    decoded.digits.insert(0, 0);
    assert_eq!(bytes_with(&decoded), 15_000);
    let digits = decoded.columns[0].clone();
    decoded.columns.push(digits);
    decoded.digits.insert(0, 1);
    assert_eq!(bytes_with(&decoded), 30_000);
}

/// Rows and cells without a byte in them take room on the way to Postgres, and a field that goes into many columns takes
/// it many times.
#[test]
fn empty_cells_and_fields_passed_twice_count() {
    let decoded = decoded();
    let mut output = description().outputs.remove(1);
    let ascending = [0, 1, 2, 3, 4, 5];
    let bytes =
        |output: &Output, repeats| bytes_passed_through(output, &ascending, &decoded, repeats);
    let cells = |columns: usize| ascending.len() * (ROW_BYTES + CELL_BYTES * columns);
    assert_eq!(bytes(&output, false), cells(1));
    let values: usize = (0..6).map(|row| column::bytes_at(&decoded.columns[0], row)).sum();
    assert_eq!(bytes(&output, true), cells(1) + values);
    output.fields = vec![output.fields[0].clone(); 100];
    assert_eq!(bytes(&output, true), cells(100) + 100 * values);
    let mut description = description();
    assert!(passes_a_field_twice(&description));
    description.outputs.truncate(1);
    assert!(!passes_a_field_twice(&description));
    description.outputs = vec![output];
    assert!(passes_a_field_twice(&description));
}

#[test]
fn a_long_reason_is_cut_and_a_long_code_refused() {
    let mut returned = valid();
    returned.rejections[0].reason = "é".repeat(5_000);
    let outcome = checked(returned).expect("valid");
    let reason = &outcome.rejections[0].reason;
    assert!(reason.len() <= limits().reason_bytes_max + 3 && reason.ends_with('…'));
    for code in ["", "two words", "a\n", &"x".repeat(65), "größe"] {
        let mut returned = valid();
        returned.rejections[0].code = code.into();
        assert!(matches!(checked(returned), Err(PluginFault::Breach(_))), "{code:?}");
    }
}

/// A random change to a returned outcome.
#[derive(Debug, Clone)]
enum Damage {
    Messages(Vec<u32>),
    Deletes(Vec<u8>),
    Nulls(usize, Vec<u8>),
    Data(usize, Vec<u8>),
    Ends(usize, Vec<u32>),
    Numbers(usize, usize),
    Swap(usize, usize),
    Remove(usize),
    Reject(Vec<u32>),
    Outputs(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = 0..9_usize;
    let flags = || vec(prop_oneof![9 => 0..2_u8, 1 => any::<u8>()], 0..5);
    let ends = prop_oneof![0..12_u32, any::<u32>()];
    prop_oneof![
        vec(0..8_u32, 0..45).prop_map(Damage::Messages),
        flags().prop_map(Damage::Deletes),
        (place.clone(), flags()).prop_map(|(at, nulls)| Damage::Nulls(at, nulls)),
        (place.clone(), vec(any::<u8>(), 0..12)).prop_map(|(at, data)| Damage::Data(at, data)),
        (place.clone(), vec(ends, 0..5)).prop_map(|(at, ends)| Damage::Ends(at, ends)),
        (place.clone(), 0..5_usize).prop_map(|(at, count)| Damage::Numbers(at, count)),
        (place.clone(), place.clone()).prop_map(|(a, b)| Damage::Swap(a, b)),
        place.prop_map(Damage::Remove),
        vec(0..8_u32, 0..4).prop_map(Damage::Reject),
        (0..4_usize).prop_map(Damage::Outputs),
    ]
}

fn apply(damage: Damage, returned: &mut Returned) {
    if returned.outputs.is_empty() {
        return;
    }
    let rows = &mut returned.outputs[0];
    let count = rows.columns.len().max(1);
    match damage {
        Damage::Messages(messages) => rows.messages = messages,
        Damage::Deletes(deletes) => rows.deletes = deletes,
        Damage::Swap(a, b) if !rows.columns.is_empty() => rows.columns.swap(a % count, b % count),
        Damage::Remove(at) if !rows.columns.is_empty() => drop(rows.columns.remove(at % count)),
        Damage::Reject(messages) => {
            let rejection = |message| ReturnedRejection { message, ..valid().rejections.remove(0) };
            returned.rejections = messages.into_iter().map(rejection).collect();
        }
        Damage::Outputs(outputs) => returned.outputs.resize_with(outputs, || ReturnedRows {
            messages: Vec::new(),
            columns: Vec::new(),
            deletes: Vec::new(),
        }),
        Damage::Nulls(at, _)
        | Damage::Data(at, _)
        | Damage::Ends(at, _)
        | Damage::Numbers(at, _) => {
            if let Some(column) = rows.columns.get_mut(at % count) {
                damage_column(damage, column);
            }
        }
        Damage::Swap(..) | Damage::Remove(_) => {}
    }
}

fn damage_column(damage: Damage, column: &mut Column) {
    match (damage, &mut column.values) {
        (Damage::Nulls(_, nulls), _) => column.nulls = nulls,
        (
            Damage::Data(_, data),
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans),
        ) => {
            spans.data = data;
        }
        (Damage::Data(_, data), Values::Boolean(values)) => *values = data,
        (
            Damage::Ends(_, ends),
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans),
        ) => {
            spans.ends = ends;
        }
        (Damage::Ends(_, ends), Values::Int64List(lists)) => lists.ends = ends,
        (Damage::Ends(_, ends), Values::Float64List(lists)) => lists.ends = ends,
        (Damage::Numbers(_, count), Values::Int64(values) | Values::Timestamp(values)) => {
            values.resize(count, 7);
        }
        (Damage::Numbers(_, count), Values::Float64(values)) => values.resize(count, 7.0),
        _ => {}
    }
}

/// The contract once more, row by row.
fn assert_promises(outcome: &Outcome) {
    let description = description();
    assert_eq!(outcome.tables.len(), description.outputs.len());
    for (table, output) in outcome.tables.iter().zip(&description.outputs) {
        let rows = table.messages.len();
        assert!(table.messages.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(table.messages.iter().all(|&message| (message as usize) < MESSAGES));
        assert!(table.deletes.is_empty() || table.deletes.len() == rows);
        assert!(table.deletes.iter().all(|&byte| byte <= 1));
        assert_eq!(table.columns.len(), output.fields.len());
        for (column, field) in table.columns.iter().zip(&output.fields) {
            assert_column(column, field, rows);
        }
        for rejection in &outcome.rejections {
            assert!(!table.messages.iter().any(|&message| message * 2 == rejection.message));
        }
    }
    let mut rejected: Vec<_> = outcome.rejections.iter().map(|it| it.message).collect();
    rejected.sort_unstable();
    rejected.dedup();
    assert_eq!(rejected.len(), outcome.rejections.len());
}

fn assert_column(column: &RowColumn, field: &OutputField, rows: usize) {
    let column = match (column, field.source) {
        (RowColumn::Field(index), FieldSource::Field(expected)) => {
            assert_eq!(*index, expected);
            return;
        }
        (RowColumn::Computed(column), FieldSource::Computed) => column,
        other => panic!("{other:?}"),
    };
    assert_eq!((column.kind(), column.len()), (field.kind, rows));
    assert!(column.nulls.is_empty() || column.nulls.len() == rows);
    assert!(column.nulls.iter().all(|&byte| byte <= 1));
    assert_ends(column);
    for row in 0..rows {
        assert!(field.nullable || !column.is_null(row));
        match &column.values {
            Values::Boolean(values) => assert!(values[row] <= 1),
            Values::Text(spans) => drop(std::str::from_utf8(spans.get(row)).expect("UTF-8")),
            Values::Json(spans) if !column.is_null(row) => {
                drop(serde_json::from_slice::<serde_json::Value>(spans.get(row)).expect("JSON"));
            }
            Values::Bytes(spans) | Values::Json(spans) => drop(spans.get(row)),
            Values::Int64List(lists) => drop(lists.get(row)),
            Values::Float64List(lists) => drop(lists.get(row)),
            Values::Int64(_) | Values::Timestamp(_) | Values::Float64(_) => {}
        }
    }
}

/// Nothing lies behind the last value.
fn assert_ends(column: &Column) {
    let (ends, length) = match &column.values {
        Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => {
            (&spans.ends, spans.data.len())
        }
        Values::Int64List(lists) => (&lists.ends, lists.items.len()),
        Values::Float64List(lists) => (&lists.ends, lists.items.len()),
        _ => return,
    };
    assert_eq!(ends.last().map_or(0, |&end| end as usize), length);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_damaged_outcome_is_refused_or_still_keeps_every_promise(damages in vec(damage(), 1..4)) {
        let mut returned = valid();
        for damage in damages {
            apply(damage, &mut returned);
        }
        if let Ok(outcome) = checked(returned) {
            assert_promises(&outcome);
        }
    }
}
