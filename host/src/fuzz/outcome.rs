//! What a guest returns is refused, or keeps every promise that the code after the check relies on.

use super::columns::column;
use super::input::Input;
use crate::columns::{Column, Kind, Values};
use crate::description::{
    Attributes, Description, FieldSource, InputField, Output, OutputField, Payload,
};
use crate::plugin::Limits;
use crate::plugin::check::{self, Returned, ReturnedRejection, ReturnedRows};
use crate::rows::{Decoded, Outcome, RowColumn, TableRows};

/// Describes one or two outputs, and returns something for them that is right but for what the bytes change.
pub(super) fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let decoded = decoded(input.below(6));
    let description = description(&mut input);
    let limits = Limits { output_bytes_max: 4_000, rows_max: 12, ..Limits::default() };
    let returned = returned(&mut input, &description, decoded.messages.len());
    let Ok(outcome) = check::check(returned, &description, &decoded, &limits) else { return };
    let rows: usize = outcome.tables.iter().map(|table| table.messages.len()).sum();
    assert!(rows <= limits.rows_max, "{rows} rows");
    assert_eq!(outcome.tables.len(), description.outputs.len());
    for (table, output) in outcome.tables.iter().zip(&description.outputs) {
        promises(table, output, decoded.messages.len());
    }
    rejections(&outcome, &decoded, &limits);
}

/// Every second message of a batch was decoded.
fn decoded(messages: usize) -> Decoded {
    let mut passed = Column::new(Kind::Text);
    if let Values::Text(spans) = &mut passed.values {
        (0..messages).for_each(|message| spans.push("passed on".repeat(message).as_bytes()));
    }
    let messages = (0..messages as u32).map(|message| message * 2).collect();
    Decoded { messages, columns: vec![passed], ..Decoded::default() }
}

fn description(input: &mut Input<'_>) -> Description {
    let outputs = 1 + input.below(2);
    let outputs = (0..outputs).map(|output| Output {
        name: format!("output {output}"),
        fields: (0..=input.below(4)).map(|_| field(input)).collect(),
    });
    let outputs = outputs.collect();
    let id = InputField { pointer: "/id".into(), kind: Kind::Text, required: true, read: false };
    Description {
        name: "fuzzed".into(),
        version: "1.0.0".into(),
        reads: Attributes::default(),
        payload: Payload::Json(vec![id]),
        outputs,
        settings_schema: String::new(),
    }
}

fn field(input: &mut Input<'_>) -> OutputField {
    let (name, nullable) = (String::new(), input.below(2) == 1);
    match input.below(Kind::ALL.len() + 1) {
        0 => OutputField { name, kind: Kind::Text, nullable, source: FieldSource::Field(0) },
        kind => {
            OutputField { name, kind: Kind::ALL[kind - 1], nullable, source: FieldSource::Computed }
        }
    }
}

fn returned(input: &mut Input<'_>, description: &Description, messages: usize) -> Returned {
    let rejections = (0..input.below(3))
        .map(|_| ReturnedRejection {
            message: index(input, messages),
            code: if input.is_rare() { input.text() } else { "too-large".to_owned() },
            reason: input.text(),
            retry: input.below(2) == 1,
        })
        .collect();
    let outputs = description.outputs.iter().map(|output| {
        let count = input.below(8);
        let mut rows: Vec<u32> = (0..count).map(|_| index(input, messages)).collect();
        if !input.is_rare() {
            rows.sort_unstable();
        }
        let computed = output.fields.iter().filter(|field| field.source == FieldSource::Computed);
        let mut columns: Vec<Column> = computed
            .map(|field| {
                let mut column = column(input, field.kind, rows.len());
                if input.below(4) == 3 {
                    damage(input, &mut column);
                }
                column
            })
            .collect();
        if input.is_rare() {
            columns.pop();
        }
        let deletes = if input.below(2) == 1 { rows.len() } else { 0 };
        let deletes = (0..deletes).map(|_| flag(input)).collect();
        ReturnedRows { messages: rows, columns, deletes }
    });
    let mut outputs: Vec<ReturnedRows> = outputs.collect();
    if input.is_rare() {
        outputs.pop();
    }
    Returned { outputs, rejections }
}

/// Nearly always one of the batch.
fn index(input: &mut Input<'_>, messages: usize) -> u32 {
    if input.is_rare() { input.integer() as u32 } else { input.below(messages.max(1)) as u32 }
}

fn flag(input: &mut Input<'_>) -> u8 {
    if input.is_rare() { input.byte() } else { input.byte() & 1 }
}

/// Changes one thing of a column that was well-formed.
fn damage(input: &mut Input<'_>, column: &mut Column) {
    let at = input.below(8);
    let change = |list: &mut Vec<u32>, by: u32| match list.get_mut(at) {
        Some(end) => *end = end.wrapping_add(by),
        None => list.push(by),
    };
    match input.below(4) {
        0 => column.nulls = input.bytes().to_vec(),
        1 => column.nulls = (0..column.len()).map(|_| flag(input)).collect(),
        2 => match &mut column.values {
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => {
                change(&mut spans.ends, input.integer() as u32);
            }
            Values::Int64List(lists) => change(&mut lists.ends, input.integer() as u32),
            Values::Float64List(lists) => change(&mut lists.ends, input.integer() as u32),
            Values::Boolean(values) => values.push(input.byte()),
            Values::Int64(values) | Values::Timestamp(values) => values.push(0),
            Values::Float64(values) => drop(values.pop()),
        },
        _ => match &mut column.values {
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => {
                spans.data.splice(at.min(spans.data.len()).., input.bytes().iter().copied());
            }
            Values::Boolean(values) => values.iter_mut().for_each(|value| *value = input.byte()),
            Values::Int64List(lists) => lists.items.push(1),
            Values::Float64List(lists) => drop(lists.items.pop()),
            Values::Int64(values) | Values::Timestamp(values) => drop(values.pop()),
            Values::Float64(values) => values.push(0.0),
        },
    }
}

fn promises(table: &TableRows, output: &Output, messages: usize) {
    let rows = table.messages.len();
    assert!(table.messages.is_sorted(), "{:?} descends", table.messages);
    assert!(table.messages.iter().all(|message| (*message as usize) < messages));
    assert!(table.deletes.is_empty() || table.deletes.len() == rows);
    assert!(table.deletes.iter().all(|flag| *flag <= 1));
    assert_eq!(table.columns.len(), output.fields.len());
    for (column, field) in table.columns.iter().zip(&output.fields) {
        match (column, field.source) {
            (RowColumn::Field(found), FieldSource::Field(described)) => {
                assert_eq!(*found, described);
            }
            (RowColumn::Computed(column), FieldSource::Computed) => values(column, field, rows),
            _ => panic!("{column:?} is not what {field:?} describes"),
        }
    }
}

fn values(column: &Column, field: &OutputField, rows: usize) {
    assert_eq!((column.kind(), column.len()), (field.kind, rows));
    assert!(column.nulls.is_empty() || column.nulls.len() == rows);
    assert!(column.nulls.iter().all(|flag| *flag <= u8::from(field.nullable)), "{column:?}");
    let covered = |ends: &[u32], length: usize| {
        assert!(ends.is_sorted(), "{ends:?} descends");
        assert_eq!(ends.last().map_or(0, |end| *end as usize), length);
    };
    match &column.values {
        Values::Boolean(values) => assert!(values.iter().all(|value| *value <= 1), "{values:?}"),
        Values::Bytes(spans) => covered(&spans.ends, spans.data.len()),
        Values::Text(spans) | Values::Json(spans) => {
            covered(&spans.ends, spans.data.len());
            for row in 0..rows {
                assert!(std::str::from_utf8(spans.get(row)).is_ok(), "{column:?} is no UTF-8");
                let is_json =
                    serde_json::from_slice::<serde::de::IgnoredAny>(spans.get(row)).is_ok();
                assert!(field.kind == Kind::Text || column.is_null(row) || is_json, "{column:?}");
            }
        }
        Values::Int64List(lists) => covered(&lists.ends, lists.items.len()),
        Values::Float64List(lists) => covered(&lists.ends, lists.items.len()),
        Values::Int64(_) | Values::Timestamp(_) | Values::Float64(_) => {}
    }
}

/// At most one for each message, which has no row then; fit to be counted and to be shown.
fn rejections(outcome: &Outcome, decoded: &Decoded, limits: &Limits) {
    for (at, rejection) in outcome.rejections.iter().enumerate() {
        let row = decoded.messages.binary_search(&rejection.message).expect("a decoded message");
        let has_row = |table: &TableRows| table.messages.contains(&(row as u32));
        assert!(!outcome.tables.iter().any(has_row), "message {row} has rows and is rejected");
        let again = outcome.rejections[at + 1..].iter().any(|it| it.message == rejection.message);
        assert!(!again, "message {row} is rejected twice");
        let code = &rejection.code;
        assert!((1..=limits.code_bytes_max).contains(&code.len()), "{code:?}");
        assert!(code.bytes().all(|byte| byte.is_ascii_graphic()), "{code:?}");
        let reason = &rejection.reason;
        assert!(!reason.chars().any(char::is_control), "{reason:?}");
        // The mark where it was cut.
        assert!(reason.len() <= limits.reason_bytes_max + '…'.len_utf8());
    }
}
