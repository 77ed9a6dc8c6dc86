//! Columns of values out of a fuzzer's bytes: well-formed, though the values need not fit anywhere.

use super::input::Input;
use crate::columns::{Column, Kind, Values};

/// Texts that some type takes, for a start; the fuzzer changes them.
const TEXTS: [&str; 12] = [
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "{A0EE-BC99-9C0B-4EF8-BB6D-6BB9-BD38-0A11}",
    "2026-11-22",
    "0001-02-28",
    "23:59:59.9999995",
    "01:02",
    "-123456789.00010e-3",
    "99999999.5",
    "Infinity",
    "{\"a\":[1,2.5e3,\"\\u00e9\"]}",
    "red",
    "spaces beyond     ",
];

/// A column of `rows` rows, some of them without a value.
pub(super) fn column(input: &mut Input<'_>, kind: Kind, rows: usize) -> Column {
    let mut column = Column::new(kind);
    for row in 0..rows {
        if input.is_rare() {
            column.push_null();
            continue;
        }
        push(input, &mut column.values);
        column.mark_present(row);
    }
    column
}

fn push(input: &mut Input<'_>, values: &mut Values) {
    match values {
        Values::Boolean(values) => values.push(input.byte() & 1),
        Values::Int64(values) | Values::Timestamp(values) => values.push(input.integer()),
        Values::Float64(values) => values.push(input.double()),
        Values::Bytes(spans) => spans.push(input.bytes()),
        Values::Text(spans) | Values::Json(spans) => spans.push(text(input).as_bytes()),
        Values::Int64List(lists) => {
            let count = input.below(4);
            lists.items.extend((0..count).map(|_| input.integer()));
            lists.close();
        }
        Values::Float64List(lists) => {
            let count = input.below(4);
            lists.items.extend((0..count).map(|_| input.double()));
            lists.close();
        }
    }
}

fn text(input: &mut Input<'_>) -> String {
    match input.below(2 * TEXTS.len()) {
        known if known < TEXTS.len() => TEXTS[known].to_owned(),
        _ => input.text(),
    }
}
