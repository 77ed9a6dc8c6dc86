//! Values found in a payload to the ends of columns, and what to say when they do not fit.

use std::str::Utf8Error;

use super::digits::{self, Form};
use super::escape::{unescape_into, unescaped};
use super::scan::{Malformed, Scanner, Shape, Token};
use super::timestamp::{self, Wrong};
use crate::columns::{Column, Kind, Lists, Spans, Values};

/// Integers up to here are doubles, all of them.
pub const EXACT_MAX: i64 = 1 << 53;

/// Powers of ten that are doubles, as far as they are needed.
pub static POWERS: [f64; 18] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17,
];

/// Characters of a value that are quoted to the operator.
const QUOTE_MAX: usize = 40;

/// What can be done about a number with digits that a double drops.
const INEXACT: &str = "; the plugin computes doubles for a numeric column, and this number would change \
    unnoticed: a field that is passed through, or read as JSON, keeps its digits";

/// Why a message is rejected.
#[derive(Debug)]
pub struct Problem {
    pub code: &'static str,
    pub reason: String,
}

/// Why a value does not fit its column.
#[derive(Debug, Clone, Copy)]
pub enum Mismatch {
    /// It is of another type.
    Type,
    /// It is a number that the kind cannot represent.
    Range,
    /// It is a number with digits that a double drops.
    Inexact,
    /// It is a string, but this part of it is not that of a time.
    Timestamp(Wrong),
    /// This item of a list is of another type, or out of range.
    Item(Token, bool),
}

/// Appends the value at `token`, which is neither absent nor null, to `column`, in this form. After an
/// error the column may end in the middle of a value. `room` is for text that is needed unescaped.
#[inline]
pub fn push(
    payload: &[u8],
    token: Token,
    form: Form,
    column: &mut Column,
    room: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    if form != Form::Kind {
        return digits::push(payload, token, form, column);
    }
    match &mut column.values {
        Values::Boolean(values) => values.push(boolean(token)?),
        Values::Int64(values) => values.push(int64(payload, token)?),
        Values::Float64(values) => values.push(float64(payload, token)?),
        Values::Text(spans) | Values::Bytes(spans) => text(payload, token, spans)?,
        Values::Timestamp(values) => values.push(timestamp(payload, token, room)?),
        Values::Json(spans) => spans.push(token.of(payload)),
        Values::Int64List(lists) => list(payload, token, lists, int64)?,
        Values::Float64List(lists) => list(payload, token, lists, float64)?,
    }
    Ok(())
}

fn boolean(token: Token) -> Result<u8, Mismatch> {
    match token.shape {
        Shape::False => Ok(0),
        Shape::True => Ok(1),
        _ => Err(Mismatch::Type),
    }
}

#[inline]
fn int64(payload: &[u8], token: Token) -> Result<i64, Mismatch> {
    if token.shape != Shape::Integer {
        return Err(Mismatch::Type);
    }
    let text = token.of(payload);
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Downwards, because there is one more negative number than positive ones.
    let value = digits.iter().try_fold(0_i64, |value, digit| {
        value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))
    });
    let value = if negative { value } else { value.and_then(i64::checked_neg) };
    value.ok_or(Mismatch::Range)
}

#[inline]
pub fn float64(payload: &[u8], token: Token) -> Result<f64, Mismatch> {
    if !matches!(token.shape, Shape::Integer | Shape::Number) {
        return Err(Mismatch::Type);
    }
    let text = token.of(payload);
    let value = exact_float(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok());
    value.filter(|value: &f64| value.is_finite()).ok_or(Mismatch::Range)
}

/// Numbers whose digits and power of ten are doubles themselves: one division or multiplication
/// then rounds as it should (Clinger's fast path). `None` for all others.
#[inline]
fn exact_float(text: &[u8]) -> Option<f64> {
    const DIGITS_MAX: usize = 17;
    if text.len() > DIGITS_MAX {
        return None;
    }
    let (negative, text) = match text {
        [b'-', text @ ..] => (true, text),
        text => (false, text),
    };
    let mut digits = 0_u64;
    let mut fraction = None;
    for byte in text {
        match byte {
            b'.' => fraction = Some(0),
            b'0'..=b'9' => {
                digits = digits * 10 + u64::from(byte - b'0');
                fraction = fraction.map(|count: usize| count + 1);
            }
            _ => return None,
        }
    }
    if digits > EXACT_MAX as u64 {
        return None;
    }
    let value = digits as f64 / POWERS[fraction.unwrap_or(0)];
    Some(if negative { -value } else { value })
}

#[inline]
fn text(payload: &[u8], token: Token, spans: &mut Spans) -> Result<(), Mismatch> {
    match token.shape {
        Shape::Text => spans.push(token.unquoted(payload)),
        Shape::EscapedText => {
            unescape_into(token.unquoted(payload), &mut spans.data);
            spans.close();
        }
        _ => return Err(Mismatch::Type),
    }
    Ok(())
}

#[inline]
fn timestamp(payload: &[u8], token: Token, room: &mut Vec<u8>) -> Result<i64, Mismatch> {
    if !matches!(token.shape, Shape::Text | Shape::EscapedText) {
        return Err(Mismatch::Type);
    }
    timestamp::read(unescaped(payload, token, room)).map_err(Mismatch::Timestamp)
}

fn list<T>(
    payload: &[u8],
    token: Token,
    lists: &mut Lists<T>,
    item: impl Fn(&[u8], Token) -> Result<T, Mismatch>,
) -> Result<(), Mismatch> {
    if token.shape != Shape::Array {
        return Err(Mismatch::Type);
    }
    let mut items = Scanner::items_of(payload, token);
    while let Some(token) = items.next_item() {
        let value = item(payload, token)
            .map_err(|mismatch| Mismatch::Item(token, matches!(mismatch, Mismatch::Range)))?;
        lists.items.push(value);
    }
    lists.close();
    Ok(())
}

impl Mismatch {
    /// The problem of a message whose value at `pointer` does not fit.
    #[cold]
    pub fn at(self, pointer: &str, kind: Kind, payload: &[u8], token: Token) -> Problem {
        let (code, token, expected) = match self {
            Self::Type => ("wrong-type", token, expected(kind)),
            Self::Range => ("out-of-range", token, range(kind)),
            Self::Inexact => ("inexact-number", token, "a number that a double keeps exactly"),
            Self::Timestamp(_) => {
                ("bad-timestamp", token, "a time as in RFC 3339, such as 2026-11-22T03:04:05.123Z")
            }
            Self::Item(token, true) => ("out-of-range", token, range(kind)),
            Self::Item(token, false) => ("wrong-type", token, item(kind)),
        };
        let found = quote(token.of(payload));
        let at = token.start;
        let mut reason = format!("{pointer}: expected {expected}, found {found} at byte {at}");
        match self {
            Self::Inexact => reason.push_str(INEXACT),
            Self::Timestamp(wrong) => reason.extend(["; ", wrong.reason()]),
            _ => {}
        }
        Problem { code, reason }
    }
}

impl Problem {
    #[cold]
    pub fn no_payload() -> Self {
        Self { code: "no-payload", reason: "the message has no payload".to_owned() }
    }

    #[cold]
    pub fn invalid_utf8(error: &Utf8Error, payload: &[u8]) -> Self {
        if let Some(prefixed) = Self::with_schema_id(payload) {
            return prefixed;
        }
        let reason = format!("the payload is not UTF-8 at byte {}", error.valid_up_to());
        Self { code: "invalid-utf8", reason }
    }

    #[cold]
    pub fn malformed(malformed: &Malformed, payload: &[u8]) -> Self {
        if let Some(prefixed) = Self::with_schema_id(payload) {
            return prefixed;
        }
        let reason = format!("expected {} at byte {}", malformed.expected, malformed.at);
        Self { code: "malformed-json", reason }
    }

    /// The payload begins as the Confluent schema registry's JSON Schema serializer writes it: a zero byte and a
    /// schema id of four bytes, then the JSON. The id need not be UTF-8.
    fn with_schema_id(payload: &[u8]) -> Option<Self> {
        let [0, a, b, c, d, b'{' | b'[', ..] = *payload else { return None };
        let id = u32::from_be_bytes([a, b, c, d]);
        let reason = format!(
            "the JSON begins at byte 5, after what looks like the prefix of the Confluent schema registry (a zero byte \
             and schema id {id}); let the producer write JSON without it, or read the payload in a plugin without \
             input fields"
        );
        Some(Self { code: "malformed-json", reason })
    }

    /// A required field is absent or null.
    #[cold]
    pub fn missing(pointer: &str, token: Token) -> Self {
        let reason = if token.shape == Shape::Null {
            format!("{pointer} is null at byte {}", token.start)
        } else {
            format!("{pointer} is missing")
        };
        Self { code: "missing-field", reason }
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "true or false",
        Kind::Int64 => "an integer",
        Kind::Float64 => "a number",
        Kind::Text | Kind::Bytes | Kind::Timestamp => "a string",
        Kind::Json => "a value",
        Kind::Int64List => "a list of integers",
        Kind::Float64List => "a list of numbers",
    }
}

fn item(kind: Kind) -> &'static str {
    if kind == Kind::Int64List { "integers only" } else { "numbers only" }
}

fn range(kind: Kind) -> &'static str {
    match kind {
        Kind::Int64 | Kind::Int64List => "a signed integer of 64 bits",
        _ => "a number that a double can represent",
    }
}

/// The first characters of a value.
fn quote(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(QUOTE_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}
