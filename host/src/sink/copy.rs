//! COPY BINARY out of columns, row by row, into one buffer. Knows neither tables nor statements; cells
//! were checked before.

use crate::columns::{Column, Lists, Spans, Values};

use super::types::{Encoding, datetime, numeric, parse_uuid};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// Bytes ahead of the first row.
pub const HEADER_BYTES: usize = SIGNATURE.len();
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
const NULL: [u8; 4] = (-1i32).to_be_bytes();

const INT2: u32 = 21;
const INT4: u32 = 23;
const INT8: u32 = 20;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;
const BYTEA: u32 = 17;

/// Begins a COPY.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
}

/// Ends it.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(&TRAILER);
}

/// A column with its encoder chosen, so that the loop over rows only looks and writes.
#[derive(Debug)]
pub struct Field<'a> {
    cells: Cells<'a>,
    nulls: &'a [u8],
    /// For fields that are passed through: the row of the column for each row of the table.
    through: Option<&'a [u32]>,
}

impl<'a> Field<'a> {
    /// # Panics
    /// When the encoding was made for another kind than the column's.
    pub fn new(encoding: &Encoding, column: &'a Column, through: Option<&'a [u32]>) -> Self {
        Self { cells: Cells::new(encoding, &column.values), nulls: &column.nulls, through }
    }

    #[inline]
    fn put(&self, row: usize, out: &mut Vec<u8>) {
        let index = self.through.map_or(row, |rows| rows[row] as usize);
        if !self.nulls.is_empty() && self.nulls[index] != 0 {
            out.extend_from_slice(&NULL);
        } else {
            self.cells.put(index, out);
        }
    }
}

/// What goes behind the fields of each row.
#[derive(Debug, Clone, Copy)]
pub enum Behind<'a> {
    /// Nothing: rows go straight into their table.
    Nothing,
    /// For a staging table: the row's number, and whether it is to be deleted (empty: none is).
    Ordinal(&'a [u8]),
}

/// Appends those of `rows` rows that `wanted` lets through.
pub fn rows(
    fields: &[Field<'_>],
    behind: Behind<'_>,
    rows: usize,
    wanted: impl Fn(usize) -> bool,
    out: &mut Vec<u8>,
) {
    let extra = if matches!(behind, Behind::Nothing) { 0 } else { 2 };
    let count = ((fields.len() + extra) as u16).to_be_bytes();
    for row in 0..rows {
        if !wanted(row) {
            continue;
        }
        out.extend_from_slice(&count);
        for field in fields {
            field.put(row, out);
        }
        if let Behind::Ordinal(deletes) = behind {
            four((row as i32).to_be_bytes(), out);
            one(deletes.get(row).copied().unwrap_or_default(), out);
        }
    }
}

/// The columns of a table by the shape of their bytes on the wire.
#[derive(Debug)]
enum Cells<'a> {
    Boolean(&'a [u8]),
    Int2(&'a [i64]),
    Int4(&'a [i64]),
    Int8(&'a [i64]),
    Float4(&'a [f64]),
    Float8(&'a [f64]),
    IntegerAsNumeric(&'a [i64]),
    FloatAsNumeric(&'a [f64]),
    TextAsNumeric(&'a Spans),
    Bytes(&'a Spans),
    Jsonb(&'a Spans),
    Uuid(&'a Spans),
    Date(&'a Spans),
    Time(&'a Spans),
    Timestamp(&'a [i64]),
    TimestampAsDate(&'a [i64]),
    Int2List(&'a Lists<i64>),
    Int4List(&'a Lists<i64>),
    Int8List(&'a Lists<i64>),
    Float4List(&'a Lists<f64>),
    Float8List(&'a Lists<f64>),
}

impl<'a> Cells<'a> {
    fn new(encoding: &Encoding, values: &'a Values) -> Self {
        match (encoding, values) {
            (Encoding::Boolean, Values::Boolean(values)) => Self::Boolean(values),
            (Encoding::Int2, Values::Int64(values)) => Self::Int2(values),
            (Encoding::Int4, Values::Int64(values)) => Self::Int4(values),
            (Encoding::Int8, Values::Int64(values)) => Self::Int8(values),
            (Encoding::IntegerAsNumeric(_), Values::Int64(values)) => {
                Self::IntegerAsNumeric(values)
            }
            (Encoding::Float4, Values::Float64(values)) => Self::Float4(values),
            (Encoding::Float8, Values::Float64(values)) => Self::Float8(values),
            (Encoding::FloatAsNumeric(_), Values::Float64(values)) => Self::FloatAsNumeric(values),
            (Encoding::TextAsNumeric(_) | Encoding::DigitsAsNumeric(_), Values::Text(spans)) => {
                Self::TextAsNumeric(spans)
            }
            (Encoding::Uuid, Values::Text(spans)) => Self::Uuid(spans),
            (Encoding::Date, Values::Text(spans)) => Self::Date(spans),
            (Encoding::Time, Values::Text(spans)) => Self::Time(spans),
            (Encoding::Json { binary: true, .. }, Values::Text(spans) | Values::Json(spans)) => {
                Self::Jsonb(spans)
            }
            (Encoding::Timestamp, Values::Timestamp(values)) => Self::Timestamp(values),
            (Encoding::TimestampAsDate, Values::Timestamp(values)) => Self::TimestampAsDate(values),
            (Encoding::Int2List, Values::Int64List(lists)) => Self::Int2List(lists),
            (Encoding::Int4List, Values::Int64List(lists)) => Self::Int4List(lists),
            (Encoding::Int8List, Values::Int64List(lists)) => Self::Int8List(lists),
            (Encoding::Float4List, Values::Float64List(lists)) => Self::Float4List(lists),
            (Encoding::Float8List, Values::Float64List(lists)) => Self::Float8List(lists),
            // Enum labels and json travel as their text.
            (
                Encoding::Text(_)
                | Encoding::Cast
                | Encoding::Enum(_)
                | Encoding::Json { binary: false, .. },
                Values::Text(spans) | Values::Json(spans),
            )
            | (Encoding::Bytes, Values::Bytes(spans)) => Self::Bytes(spans),
            (encoding, _) => unreachable!("{encoding:?} is not for this column"),
        }
    }

    #[inline]
    fn put(&self, index: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(values) => one(values[index], out),
            Self::Int2(values) => two((values[index] as i16).to_be_bytes(), out),
            Self::Int4(values) => four((values[index] as i32).to_be_bytes(), out),
            Self::Int8(values) => eight(values[index].to_be_bytes(), out),
            Self::Float4(values) => four((values[index] as f32).to_be_bytes(), out),
            Self::Float8(values) => eight(values[index].to_be_bytes(), out),
            Self::Timestamp(values) => eight(datetime::timestamp(values[index]).to_be_bytes(), out),
            Self::TimestampAsDate(values) => {
                four(datetime::date_of(values[index]).to_be_bytes(), out);
            }
            Self::Bytes(spans) => bytes(spans.get(index), out),
            Self::Uuid(spans) => bytes(&parse_uuid(spans.get(index)).unwrap_or_default(), out),
            Self::Date(spans) => {
                four(datetime::parse_date(spans.get(index)).unwrap_or_default().to_be_bytes(), out);
            }
            Self::Time(spans) => {
                eight(
                    datetime::parse_time(spans.get(index)).unwrap_or_default().to_be_bytes(),
                    out,
                );
            }
            Self::Jsonb(spans) => measured(out, |out| {
                out.push(1);
                out.extend_from_slice(spans.get(index));
            }),
            Self::IntegerAsNumeric(values) => {
                measured(out, |out| numeric::encode_integer(values[index], out));
            }
            Self::FloatAsNumeric(values) => {
                measured(out, |out| numeric::encode_float(values[index], out));
            }
            Self::TextAsNumeric(spans) => measured(out, |out| {
                numeric::Decimal::parse(spans.get(index))
                    .unwrap_or(numeric::Decimal::Nan)
                    .encode(out);
            }),
            Self::Int2List(lists) => {
                list(
                    INT2,
                    lists.get(index),
                    |item, out| two((*item as i16).to_be_bytes(), out),
                    out,
                );
            }
            Self::Int4List(lists) => {
                list(
                    INT4,
                    lists.get(index),
                    |item, out| four((*item as i32).to_be_bytes(), out),
                    out,
                );
            }
            Self::Int8List(lists) => {
                list(INT8, lists.get(index), |item, out| eight(item.to_be_bytes(), out), out);
            }
            Self::Float4List(lists) => {
                list(
                    FLOAT4,
                    lists.get(index),
                    |item, out| four((*item as f32).to_be_bytes(), out),
                    out,
                );
            }
            Self::Float8List(lists) => {
                list(FLOAT8, lists.get(index), |item, out| eight(item.to_be_bytes(), out), out);
            }
        }
    }
}

/// A one-byte value: a boolean.
#[inline]
pub fn one(value: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 1, value]);
}

#[inline]
fn two(value: [u8; 2], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 2, value[0], value[1]]);
}

/// Appends a four-byte value.
#[inline]
pub fn four(value: [u8; 4], out: &mut Vec<u8>) {
    let mut cell = [0, 0, 0, 4, 0, 0, 0, 0];
    cell[4..].copy_from_slice(&value);
    out.extend_from_slice(&cell);
}

/// Appends an eight-byte value.
#[inline]
pub fn eight(value: [u8; 8], out: &mut Vec<u8>) {
    let mut cell = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    cell[4..].copy_from_slice(&value);
    out.extend_from_slice(&cell);
}

/// Appends a value of any length.
#[inline]
pub fn bytes(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(value.len() as u32).to_be_bytes());
    out.extend_from_slice(value);
}

/// Appends a value or NULL.
pub fn maybe_bytes(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) => bytes(value, out),
        None => null(out),
    }
}

/// Appends NULL.
pub fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&NULL);
}

/// Appends a value whose length is known once it is written.
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&NULL);
    write(out);
    let len = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn list<T>(element: u32, items: &[T], mut put: impl FnMut(&T, &mut Vec<u8>), out: &mut Vec<u8>) {
    measured(out, |out| {
        array_header(element, items.len(), false, out);
        for item in items {
            put(item, out);
        }
    });
}

/// Appends a `bytea[]`, whose elements may be NULL.
pub fn byte_strings<'a>(items: impl ExactSizeIterator<Item = Option<&'a [u8]>>, out: &mut Vec<u8>) {
    measured(out, |out| {
        array_header(BYTEA, items.len(), true, out);
        for item in items {
            maybe_bytes(item, out);
        }
    });
}

/// An empty array has no dimension.
fn array_header(element: u32, len: usize, has_nulls: bool, out: &mut Vec<u8>) {
    let dimensions = u32::from(len > 0);
    for word in [dimensions, u32::from(has_nulls), element] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    if len > 0 {
        out.extend_from_slice(&(len as u32).to_be_bytes());
        // Lower bound.
        out.extend_from_slice(&1u32.to_be_bytes());
    }
}
