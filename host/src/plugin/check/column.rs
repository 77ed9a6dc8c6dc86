//! The rules of one returned column.

use serde::de::IgnoredAny;

use crate::columns::{Column, Lists, Spans, Values};
use crate::description::OutputField;

/// Checks kind, length, gaps and values of a column of `rows` rows.
pub(super) fn check(column: &Column, field: &OutputField, rows: usize) -> Result<(), String> {
    if column.kind() != field.kind {
        let (found, expected) = (column.kind().name(), field.kind.name());
        return Err(format!("is {found}, described as {expected}"));
    }
    check_nulls(&column.nulls, field.nullable, rows)?;
    match &column.values {
        Values::Boolean(values) => {
            check_length(values.len(), rows)?;
            check_bits(values)
        }
        Values::Int64(values) | Values::Timestamp(values) => check_length(values.len(), rows),
        Values::Float64(values) => check_length(values.len(), rows),
        Values::Bytes(spans) => check_ends(&spans.ends, spans.data.len(), rows),
        Values::Text(spans) => check_text(spans, rows),
        Values::Json(spans) => check_json(column, spans, rows),
        Values::Int64List(lists) => check_ends(&lists.ends, lists.items.len(), rows),
        Values::Float64List(lists) => check_ends(&lists.ends, lists.items.len(), rows),
    }
}

/// Empty, or one 0 or 1 per row.
pub(super) fn check_flags(flags: &[u8], rows: usize) -> Result<(), String> {
    if flags.is_empty() {
        return Ok(());
    }
    check_length(flags.len(), rows)?;
    check_bits(flags)
}

/// The first row whose number is smaller than the one before it.
pub(super) fn first_descent(numbers: &[u32]) -> Option<usize> {
    let later = numbers.get(1..).unwrap_or_default();
    let descents = numbers.iter().zip(later).fold(0, |any, (a, b)| any | u8::from(a > b));
    if descents != 0 {
        numbers.windows(2).position(|pair| pair[0] > pair[1]).map(|at| at + 1)
    } else {
        None
    }
}

pub(super) fn is_strictly_ascending(numbers: &[u32]) -> bool {
    let later = numbers.get(1..).unwrap_or_default();
    numbers.iter().zip(later).fold(0, |any, (a, b)| any | u8::from(a >= b)) == 0
}

/// Bytes of a column, its gaps included.
pub(super) fn bytes(column: &Column) -> usize {
    let spans = |spans: &Spans| spans.data.len() + size_of_val(spans.ends.as_slice());
    let values = match &column.values {
        Values::Boolean(values) => values.len(),
        Values::Int64(values) | Values::Timestamp(values) => size_of_val(values.as_slice()),
        Values::Float64(values) => size_of_val(values.as_slice()),
        Values::Text(text) | Values::Bytes(text) | Values::Json(text) => spans(text),
        Values::Int64List(lists) => bytes_of_lists(lists),
        Values::Float64List(lists) => bytes_of_lists(lists),
    };
    values + column.nulls.len()
}

/// Bytes of the value in row `row`.
pub(super) fn bytes_at(column: &Column, row: usize) -> usize {
    match &column.values {
        Values::Boolean(_) => 1,
        Values::Int64(_) | Values::Timestamp(_) | Values::Float64(_) => 8,
        Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => spans.get(row).len(),
        Values::Int64List(lists) => size_of_val(lists.get(row)),
        Values::Float64List(lists) => size_of_val(lists.get(row)),
    }
}

fn bytes_of_lists<T>(lists: &Lists<T>) -> usize {
    size_of_val(lists.items.as_slice()) + size_of_val(lists.ends.as_slice())
}

fn check_length(values: usize, rows: usize) -> Result<(), String> {
    if values == rows { Ok(()) } else { Err(format!("{values} values for {rows} rows")) }
}

fn check_bits(bytes: &[u8]) -> Result<(), String> {
    if bytes.iter().fold(0, |all, byte| all | byte) <= 1 {
        return Ok(());
    }
    let row = bytes.iter().position(|&byte| byte > 1).unwrap_or_default();
    Err(format!("row {row}: {} is neither 0 nor 1", bytes[row]))
}

fn check_nulls(nulls: &[u8], nullable: bool, rows: usize) -> Result<(), String> {
    check_flags(nulls, rows).map_err(|breach| format!("nulls: {breach}"))?;
    if nullable || nulls.iter().fold(0, |all, byte| all | byte) == 0 {
        return Ok(());
    }
    let row = nulls.iter().position(|&byte| byte != 0).unwrap_or_default();
    Err(format!("row {row}: no value, though the field is not nullable"))
}

/// One end per row, never descending, the last one at the end of the data.
fn check_ends(ends: &[u32], data: usize, rows: usize) -> Result<(), String> {
    check_length(ends.len(), rows)?;
    if let Some(row) = first_descent(ends) {
        return Err(format!("row {row}: ends at {}, before row {} does", ends[row], row - 1));
    }
    let last = ends.last().copied().unwrap_or_default();
    if last as usize == data {
        Ok(())
    } else {
        Err(format!("its last value ends at {last}, its data at {data}"))
    }
}

/// The data as a whole must be UTF-8, and no value may end inside a character.
fn check_text(spans: &Spans, rows: usize) -> Result<(), String> {
    check_ends(&spans.ends, spans.data.len(), rows)?;
    if spans.data.is_ascii() {
        return Ok(());
    }
    let row = match std::str::from_utf8(&spans.data) {
        Ok(text) => spans.ends.iter().position(|&end| !text.is_char_boundary(end as usize)),
        Err(error) => {
            let at = error.valid_up_to();
            Some(spans.ends.partition_point(|&end| end as usize <= at))
        }
    };
    row.map_or(Ok(()), |row| Err(format!("row {row}: not UTF-8")))
}

fn check_json(column: &Column, spans: &Spans, rows: usize) -> Result<(), String> {
    check_text(spans, rows)?;
    let is_json = |row: usize| serde_json::from_slice::<IgnoredAny>(spans.get(row)).is_ok();
    match (0..rows).find(|&row| !column.is_null(row) && !is_json(row)) {
        Some(row) => Err(format!("row {row}: not JSON")),
        None => Ok(()),
    }
}
