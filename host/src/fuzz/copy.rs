//! Cells that fit are written so that a second reader finds the same values, in rows that can be separated again.

use jiff::ToSpan as _;

use super::columns::column;
use super::decimal::{self, Number};
use super::input::Input;
use super::wire;
use crate::columns::{Column, Kind, Values};
use crate::sink::copied::CopiedRows;
use crate::sink::copy::{self, Behind, Field};
use crate::sink::types::{Encoding, Type};

/// Kinds with the types they are written into: each encoding is there.
fn encodings() -> Vec<(Kind, Encoding)> {
    let labels = vec!["red".to_owned(), "green".to_owned()];
    let limits = Type::new("numeric", (7 << 16 | 2) + 4, Vec::new());
    let numeric = Type::Numeric(None);
    let of = |kind, target: &Type| (kind, Encoding::new(kind, target, false).expect("they fit"));
    vec![
        of(Kind::Boolean, &Type::Boolean),
        of(Kind::Int64, &Type::Int2),
        of(Kind::Int64, &Type::Int4),
        of(Kind::Int64, &Type::Int8),
        of(Kind::Int64, &numeric),
        of(Kind::Int64, &limits),
        of(Kind::Float64, &Type::Float4),
        of(Kind::Float64, &Type::Float8),
        of(Kind::Float64, &numeric),
        of(Kind::Float64, &limits),
        of(Kind::Text, &numeric),
        of(Kind::Text, &limits),
        (Kind::Text, Encoding::DigitsAsNumeric(None)),
        of(Kind::Text, &Type::Text(None)),
        of(Kind::Text, &Type::Text(Some(5))),
        of(Kind::Text, &Type::Uuid),
        of(Kind::Text, &Type::Date),
        of(Kind::Text, &Type::Time),
        of(Kind::Text, &Type::Enum(labels)),
        of(Kind::Text, &Type::Json),
        of(Kind::Text, &Type::Jsonb),
        of(Kind::Text, &Type::Other),
        of(Kind::Json, &Type::Text(None)),
        of(Kind::Json, &Type::Jsonb),
        of(Kind::Timestamp, &Type::Timestamp),
        of(Kind::Timestamp, &Type::Date),
        of(Kind::Bytes, &Type::Bytea),
        of(Kind::Int64List, &Type::Int2List),
        of(Kind::Int64List, &Type::Int4List),
        of(Kind::Int64List, &Type::Int8List),
        of(Kind::Float64List, &Type::Float4List),
        of(Kind::Float64List, &Type::Float8List),
    ]
}

pub(super) fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let (rows, count, staged) = (input.below(6), 1 + input.below(5), input.below(2) == 1);
    let known = encodings();
    let columns: Vec<(Encoding, Column)> = (0..count)
        .map(|_| {
            let (kind, encoding) = &known[input.below(known.len())];
            (encoding.clone(), column(&mut input, *kind, rows))
        })
        .collect();
    let deletes: Vec<u8> = (0..rows).map(|_| input.byte() & 1).collect();
    // Rows may take their cells from another row of a column: from the one of their message.
    let mut through: Vec<u32> = (0..rows).map(|_| input.below(rows) as u32).collect();
    through.sort_unstable();
    let through = (input.below(2) == 1).then_some(&through[..]);
    let index = |row: usize| through.map_or(row, |through| through[row] as usize);
    for (encoding, column) in &columns {
        let all_fit = (0..rows).all(|row| fits(encoding, column, row));
        assert!(all_fit || encoding.may_reject(column), "{encoding:?} misses a cell of {column:?}");
    }
    let is_wanted =
        |row: usize| columns.iter().all(|(encoding, it)| fits(encoding, it, index(row)));
    let wanted: Vec<usize> = (0..rows).filter(|row| is_wanted(*row)).collect();
    let fields: Vec<Field<'_>> =
        columns.iter().map(|(encoding, column)| Field::new(encoding, column, through)).collect();
    let after = if staged { Behind::Ordinal(&deletes) } else { Behind::Nothing };
    let mut bytes = Vec::new();
    copy::begin(&mut bytes);
    copy::rows(&fields, after, rows, |row| wanted.contains(&row), &mut bytes);
    copy::end(&mut bytes);
    let read = wire::rows(&bytes);
    assert_eq!(read.len(), wanted.len());
    for (cells, row) in read.iter().zip(&wanted) {
        assert_eq!(cells.len(), columns.len() + if staged { 2 } else { 0 });
        for ((encoding, column), cell) in columns.iter().zip(cells) {
            match cell {
                None => assert!(column.is_null(index(*row)), "{encoding:?}: NULL"),
                Some(cell) => {
                    assert!(!column.is_null(index(*row)), "{encoding:?}: a value");
                    compare(encoding, &column.values, index(*row), cell);
                }
            }
        }
        if staged {
            let last = &cells[columns.len()..];
            assert_eq!(last[0], Some(&(*row as i32).to_be_bytes()[..]));
            assert_eq!(last[1], Some(&deletes[*row..=*row]));
        }
    }
    are_found(&bytes, &read);
}

fn fits(encoding: &Encoding, column: &Column, row: usize) -> bool {
    column.is_null(row) || encoding.check(&column.values, row).is_ok()
}

/// Rows and cells are found again in what was written, and every second one makes a COPY of its own.
fn are_found(bytes: &[u8], read: &[Vec<wire::Cell<'_>>]) {
    let copied = CopiedRows::of(bytes);
    assert_eq!(copied.len(), read.len());
    for (row, cells) in read.iter().enumerate() {
        let found: Vec<wire::Cell<'_>> =
            copied.cells(row).map(|cell| (cell[..4] != [0xff; 4]).then_some(&cell[4..])).collect();
        assert_eq!(&found, cells);
    }
    let mut part = Vec::new();
    copied.part(0..copied.len(), |row| row.is_multiple_of(2), &mut part);
    let expected: Vec<_> = read.iter().step_by(2).cloned().collect();
    assert_eq!(wire::rows(&part), expected);
}

/// What stands in the cell is the value.
fn compare(encoding: &Encoding, values: &Values, row: usize, cell: &[u8]) {
    match values {
        Values::Boolean(values) => assert_eq!(cell, [values[row]]),
        Values::Int64(values) => integer(encoding, values[row], cell),
        Values::Float64(values) => double(encoding, values[row], cell),
        Values::Timestamp(values) => timestamp(encoding, values[row], cell),
        Values::Bytes(spans) => assert_eq!(cell, spans.get(row)),
        Values::Text(spans) | Values::Json(spans) => text(encoding, spans.get(row), cell),
        Values::Int64List(lists) => {
            let (element, one) = match encoding {
                Encoding::Int2List => (21, Encoding::Int2),
                Encoding::Int4List => (23, Encoding::Int4),
                _ => (20, Encoding::Int8),
            };
            let items = wire::items(cell, element);
            assert_eq!(items.len(), lists.get(row).len());
            items.iter().zip(lists.get(row)).for_each(|(item, value)| integer(&one, *value, item));
        }
        Values::Float64List(lists) => {
            let (element, one) = match encoding {
                Encoding::Float4List => (700, Encoding::Float4),
                _ => (701, Encoding::Float8),
            };
            let items = wire::items(cell, element);
            assert_eq!(items.len(), lists.get(row).len());
            items.iter().zip(lists.get(row)).for_each(|(item, value)| double(&one, *value, item));
        }
    }
}

/// A number of two, four or eight bytes.
fn number_of(cell: &[u8]) -> i64 {
    match *cell {
        [a, b] => i16::from_be_bytes([a, b]).into(),
        [a, b, c, d] => i32::from_be_bytes([a, b, c, d]).into(),
        _ => i64::from_be_bytes(cell.try_into().expect("two, four or eight bytes")),
    }
}

fn integer(encoding: &Encoding, value: i64, cell: &[u8]) {
    let bytes = match encoding {
        Encoding::Int2 => 2,
        Encoding::Int4 => 4,
        Encoding::Int8 => 8,
        _ => return number(value.to_string().as_bytes(), cell),
    };
    assert_eq!((cell.len(), number_of(cell)), (bytes, value));
}

fn double(encoding: &Encoding, value: f64, cell: &[u8]) {
    match encoding {
        Encoding::Float4 => {
            let read = f32::from_be_bytes(cell.try_into().expect("four bytes"));
            assert!(read.to_bits() == (value as f32).to_bits(), "{value:e} became {read:e}");
        }
        Encoding::Float8 => {
            let read = f64::from_be_bytes(cell.try_into().expect("eight bytes"));
            assert_eq!(read.to_bits(), value.to_bits());
        }
        _ => number(format!("{value:e}").as_bytes(), cell),
    }
}

/// The first bytes of a numeric are its length and weight: a second arithmetic reads them.
fn number(text: &[u8], cell: &[u8]) {
    let expected: (Number, i64) = decimal::of_text(text).expect("a number");
    assert_eq!(decimal::of_wire(cell), expected, "{}", text.escape_ascii());
}

fn timestamp(encoding: &Encoding, value: i64, cell: &[u8]) {
    let of_2000 = i128::from(value) - 946_684_800_000_000;
    let expected = match encoding {
        Encoding::Timestamp => of_2000,
        _ => of_2000.div_euclid(86_400_000_000),
    };
    assert_eq!(i128::from(number_of(cell)), expected, "{value}");
}

fn text(encoding: &Encoding, text: &[u8], cell: &[u8]) {
    let shown = || String::from_utf8_lossy(text).into_owned();
    match encoding {
        Encoding::TextAsNumeric(_) | Encoding::DigitsAsNumeric(_) => number(text, cell),
        Encoding::Uuid => {
            let digits: String = cell.iter().map(|byte| format!("{byte:02x}")).collect();
            let expected = shown().to_ascii_lowercase().replace(['{', '}', '-'], "");
            assert_eq!((digits, cell.len()), (expected, 16));
        }
        Encoding::Date => {
            let date = jiff::civil::date(2000, 1, 1).checked_add(number_of(cell).days());
            assert_eq!(date.expect("a date").to_string(), shown());
        }
        Encoding::Time => {
            let micros = number_of(cell);
            // `hh:mm:ss.ffffff`, cut or filled up to the same length; one more where a digit was rounded.
            let clock = |micros: i64| {
                let seconds = micros / 1_000_000;
                let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
                format!("{hours:02}:{minutes:02}:{:02}.{:06}", seconds % 60, micros % 1_000_000)
            };
            let mut padded = shown();
            let full = "00:00:00.000000";
            padded.push_str(full.get(padded.len()..).unwrap_or_default());
            let rounded = i64::from(padded.as_bytes().get(15).is_some_and(|digit| *digit >= b'5'));
            assert_eq!(clock(micros - rounded), padded[..15], "{}", shown());
        }
        Encoding::Json { binary: true, .. } => assert_eq!(cell, [&[1], text].concat()),
        _ => assert_eq!(cell, text),
    }
}
