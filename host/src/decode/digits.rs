//! Numbers that keep their digits: as text, or as doubles that lose none. Knows how a number is written in
//! JSON, not which fields need it.

use std::io::Write as _;

use super::cpu::{Cpu, Task};
use super::quick::{self, Target};
use super::scan::{Shape, Token};
use super::simd::Cursor;
use super::value::{self, Mismatch};
use crate::columns::{Column, Kind, Values};

/// How the value of a field becomes a cell, decided once for each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the column's kind says.
    Kind,
    /// As a double; a number with digits that the double drops is none.
    Guarded,
    /// As the text of an integer, however long.
    Integer,
    /// As the text of any number.
    Number,
}

impl Form {
    /// The text of a number of this kind.
    pub fn text_of(kind: Kind) -> Self {
        if kind == Kind::Int64 { Self::Integer } else { Self::Number }
    }

    /// The kind of the column in which a field of `kind` ends.
    pub fn column(self, kind: Kind) -> Kind {
        match self {
            Self::Kind | Self::Guarded => kind,
            Self::Integer | Self::Number => Kind::Text,
        }
    }
}

/// What [`value::push`] does with a form that is not the kind's own.
pub fn push(payload: &[u8], token: Token, form: Form, column: &mut Column) -> Result<(), Mismatch> {
    match (&mut column.values, form, token.shape) {
        (Values::Float64(values), Form::Guarded, _) => {
            let value = value::float64(payload, token)?;
            if !keeps_digits(value, token.of(payload)) {
                return Err(Mismatch::Inexact);
            }
            values.push(value);
        }
        (Values::Text(spans), Form::Integer, Shape::Integer)
        | (Values::Text(spans), Form::Number, Shape::Integer | Shape::Number) => {
            spans.push(token.of(payload));
        }
        _ => return Err(Mismatch::Type),
    }
    Ok(())
}

/// What [`quick::push`] does with the kind's own form.
#[inline(always)]
#[expect(clippy::inline_always, reason = "see `Cpu`")]
pub fn push_quickly<C: Cpu>(
    cpu: C,
    cursor: &mut Cursor<'_>,
    target: Target,
    column: &mut Column,
    room: &mut Vec<u8>,
) -> Option<()> {
    let start = *cursor;
    match cpu.run(PushShort { cursor: start, form: target.form, column }) {
        Some(behind) => *cursor = behind,
        None => *cursor = quick::push_any(start, target, column, room)?,
    }
    Some(())
}

/// A number of few bytes and without an exponent; all others go to the scanner.
struct PushShort<'a, 'b> {
    cursor: Cursor<'a>,
    form: Form,
    column: &'b mut Column,
}

impl<'a> Task for PushShort<'a, '_> {
    type Result = Option<Cursor<'a>>;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "see `Cpu`")]
    fn run<C: Cpu>(mut self, cpu: C) -> Self::Result {
        let start = self.cursor;
        let number = quick::number(cpu, &mut self.cursor)?;
        match (&mut self.column.values, self.form) {
            (Values::Text(spans), form) if form == Form::Number || number.fraction == 0 => {
                self.cursor.copy_since(start, &mut spans.data);
                spans.close();
            }
            // Fewer than 16 digits are those of the nearest double, wherever the dot is.
            (Values::Float64(values), Form::Guarded) if number.digits <= value::EXACT_MAX => {
                values.push(quick::to_float64(number));
            }
            _ => return None,
        }
        Some(self.cursor)
    }
}

/// True when the shortest text of `value`, which is what becomes of it in a numeric column, is the same
/// number as `text`, of which it is the nearest double.
fn keeps_digits(value: f64, text: &[u8]) -> bool {
    // 17 digits, a dot, two signs and an exponent of three digits.
    let mut shortest = [0; 32];
    let mut rest = &mut shortest[..];
    write!(rest, "{value:e}").expect("32 bytes are enough for any double");
    let left = rest.len();
    Decimal::of(text).is(&Decimal::of(&shortest[..32 - left]))
}

/// A number's digits from the first one that is not zero on, apart from its sign.
struct Decimal<'a> {
    /// Digits, and perhaps a dot between them.
    digits: &'a [u8],
    /// Power of ten of the first digit; 0 for zero.
    magnitude: i64,
}

impl<'a> Decimal<'a> {
    /// Of a number as JSON writes it.
    fn of(text: &'a [u8]) -> Self {
        let text = text.strip_prefix(b"-").unwrap_or(text);
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (digits, exponent) = match end {
            Some(end) => (&text[..end], exponent(&text[end + 1..])),
            None => (text, 0),
        };
        let dot = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
        let first = digits.iter().position(|byte| matches!(byte, b'1'..=b'9'));
        let Some(first) = first else { return Self { digits: &[], magnitude: 0 } };
        let places = dot as i64 - first as i64;
        // The dot itself stands between the digits behind it and those before.
        let power = if places > 0 { places - 1 } else { places };
        Self { digits: &digits[first..], magnitude: exponent.saturating_add(power) }
    }

    fn is(&self, other: &Self) -> bool {
        let digits = |of: &Self| of.digits.iter().filter(|byte| **byte != b'.').copied();
        let (mut ours, mut theirs) = (digits(self), digits(other));
        self.magnitude == other.magnitude
            && loop {
                match (ours.next(), theirs.next()) {
                    (None, None) => break true,
                    (ours, theirs) if ours.unwrap_or(b'0') != theirs.unwrap_or(b'0') => {
                        break false;
                    }
                    _ => {}
                }
            }
    }
}

/// Of any length: what does not fit is far beyond all doubles.
fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let value = digits.iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    if negative { -value } else { value }
}
