//! Decimal numbers as Postgres keeps them: digits in base 10,000, exact.

use std::io::Write as _;

use super::Misfit;

/// Most digits before the decimal point.
const INTEGER_DIGITS_MAX: i64 = 131_072;
/// Most digits behind it.
const SCALE_MAX: i64 = 16_383;

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// `numeric(precision, scale)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    precision: i32,
    scale: i32,
}

impl Limits {
    /// From the column's type modifier; `None` for a plain `numeric`.
    pub fn from_typmod(typmod: i32) -> Option<Self> {
        let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
        // The scale has 11 bits and a sign since version 15.
        let scale = packed & 0x7ff;
        Some(Self { precision: (packed >> 16) & 0xffff, scale: (scale ^ 1024) - 1024 })
    }
}

/// A decimal number, borrowed from its text.
#[derive(Debug, Clone, Copy)]
pub enum Decimal<'a> {
    /// Not a number.
    Nan,
    /// Without end; true when negative.
    Infinity(bool),
    /// Digits.
    Finite(Digits<'a>),
}

/// `integer` and `fraction` laid end to end, the decimal point behind `point` digits.
#[derive(Debug, Clone, Copy)]
pub struct Digits<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    point: i64,
    /// Digits shown behind the decimal point.
    scale: i64,
}

impl<'a> Decimal<'a> {
    /// From `-123.45e6`, `NaN`, `Infinity`. What Postgres 16 takes beyond (`0x1F`, `1_000`) is refused, so
    /// that all versions agree.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let (negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            _ => (false, text),
        };
        if text.eq_ignore_ascii_case(b"nan") {
            return Some(Self::Nan);
        }
        if unsigned.eq_ignore_ascii_case(b"infinity") || unsigned.eq_ignore_ascii_case(b"inf") {
            return Some(Self::Infinity(negative));
        }
        Digits::parse(unsigned, negative).map(Self::Finite)
    }

    fn check(self, limits: Option<Limits>) -> Result<(), &'static str> {
        match self {
            Self::Infinity(_) if limits.is_some() => Err("does not fit the column's precision"),
            Self::Nan | Self::Infinity(_) => Ok(()),
            Self::Finite(digits) => digits.check(limits),
        }
    }

    /// Appends the number as `numeric_send` writes it.
    pub fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Nan => header(out, 0, 0, NAN, 0),
            Self::Infinity(false) => header(out, 0, 0, INFINITY, 0),
            Self::Infinity(true) => header(out, 0, 0, MINUS_INFINITY, 0),
            Self::Finite(digits) => digits.encode(out),
        }
    }
}

impl<'a> Digits<'a> {
    fn parse(text: &'a [u8], negative: bool) -> Option<Self> {
        let digits_of = |text: &'a [u8]| {
            text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
        };
        let (integer, rest) = digits_of(text);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits_of(rest),
            _ => (&[][..], rest),
        };
        if integer.is_empty() && fraction.is_empty() {
            return None;
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => parse_exponent(rest)?,
            _ => return None,
        };
        let scale = (fraction.len() as i64 - exponent).max(0);
        Some(Self { negative, integer, fraction, point: integer.len() as i64 + exponent, scale })
    }

    fn len(&self) -> i64 {
        (self.integer.len() + self.fraction.len()) as i64
    }

    fn digit(&self, index: i64) -> u8 {
        let Ok(index) = usize::try_from(index) else { return 0 };
        let digit =
            self.integer.get(index).or_else(|| self.fraction.get(index - self.integer.len()));
        digit.map_or(0, |digit| digit - b'0')
    }

    /// Power of ten of the first digit that is not zero; `None` for zero.
    fn magnitude(&self) -> Option<i64> {
        (0..self.len()).find(|index| self.digit(*index) != 0).map(|first| self.point - 1 - first)
    }

    fn check(&self, limits: Option<Limits>) -> Result<(), &'static str> {
        let Some(magnitude) = self.magnitude() else {
            return if self.scale > SCALE_MAX { Err("has too many digits") } else { Ok(()) };
        };
        if magnitude >= INTEGER_DIGITS_MAX || self.scale > SCALE_MAX {
            return Err("has too many digits");
        }
        let Some(Limits { precision, scale }) = limits else { return Ok(()) };
        let integer_digits_max = i64::from(precision - scale);
        let fits = magnitude + 1 < integer_digits_max
            || magnitude + 1 == integer_digits_max && !self.rounds_up(magnitude, i64::from(scale));
        if fits || self.rounds_to_zero(magnitude, i64::from(scale)) {
            return Ok(());
        }
        Err("does not fit the column's precision")
    }

    /// True when rounding to `scale` digits carries beyond the first digit: 99.96 to one digit.
    fn rounds_up(&self, magnitude: i64, scale: i64) -> bool {
        let index_of = |power: i64| self.point - 1 - power;
        let nines = (-scale..=magnitude).all(|power| self.digit(index_of(power)) == 9);
        nines && self.digit(index_of(-scale - 1)) >= 5
    }

    fn rounds_to_zero(&self, magnitude: i64, scale: i64) -> bool {
        magnitude < -scale && self.digit(self.point + scale) < 5
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let sign = if self.negative { NEGATIVE } else { POSITIVE };
        let Some(magnitude) = self.magnitude() else {
            return header(out, 0, 0, POSITIVE, self.scale as u16);
        };
        let last = (0..self.len()).rfind(|index| self.digit(*index) != 0).unwrap_or_default();
        let lowest = (self.point - 1 - last).div_euclid(4);
        let weight = magnitude.div_euclid(4);
        header(out, (weight - lowest + 1) as u16, weight as i16, sign, self.scale as u16);
        for group in (lowest..=weight).rev() {
            let first = self.point - 1 - (4 * group + 3);
            let value =
                (0..4).fold(0, |value, index| value * 10 + u16::from(self.digit(first + index)));
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // Far beyond what fits; enough to be refused as too large.
    let value = digits
        .iter()
        .fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000_000));
    Some(if negative { -value } else { value })
}

fn header(out: &mut Vec<u8>, digits: u16, weight: i16, sign: u16, scale: u16) {
    let mut bytes = [0; 8];
    bytes[..2].copy_from_slice(&digits.to_be_bytes());
    bytes[2..4].copy_from_slice(&weight.to_be_bytes());
    bytes[4..6].copy_from_slice(&sign.to_be_bytes());
    bytes[6..].copy_from_slice(&scale.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// A number as text, on the stack: 20 digits of an integer, 17 and an exponent of a double.
struct Short {
    bytes: [u8; 32],
    len: usize,
}

impl Short {
    fn new(arguments: std::fmt::Arguments<'_>) -> Self {
        let mut bytes = [0; 32];
        let mut rest = &mut bytes[..];
        rest.write_fmt(arguments).expect("numbers fit in 32 bytes");
        let len = 32 - rest.len();
        Self { bytes, len }
    }

    fn decimal(&self) -> Decimal<'_> {
        Decimal::parse(&self.bytes[..self.len]).unwrap_or(Decimal::Nan)
    }
}

/// Appends an integer as numeric.
pub fn encode_integer(value: i64, out: &mut Vec<u8>) {
    Short::new(format_args!("{value}")).decimal().encode(out);
}

/// Appends a double as numeric, with the fewest digits that give the same double again.
pub fn encode_float(value: f64, out: &mut Vec<u8>) {
    Short::new(format_args!("{value:e}")).decimal().encode(out);
}

/// Whether an integer fits.
pub fn check_integer(value: i64, limits: Option<Limits>) -> Result<(), Misfit> {
    let text = Short::new(format_args!("{value}"));
    text.decimal()
        .check(limits)
        .map_err(|reason| Misfit::new("out-of-range", format!("{value} {reason}")))
}

/// Whether a double fits.
pub fn check_float(value: f64, limits: Option<Limits>) -> Result<(), Misfit> {
    let text = Short::new(format_args!("{value:e}"));
    text.decimal()
        .check(limits)
        .map_err(|reason| Misfit::new("out-of-range", format!("{value} {reason}")))
}

/// Whether a text is a number and fits.
pub fn check_text(text: &[u8], limits: Option<Limits>) -> Result<(), Misfit> {
    parsed(text)?.check(limits).map_err(|reason| Misfit::of("out-of-range", reason, text))
}

/// The same for the text of a JSON number, which needs no quotes where it is repeated.
pub fn check_digits(text: &[u8], limits: Option<Limits>) -> Result<(), Misfit> {
    parsed(text)?.check(limits).map_err(|reason| Misfit::of_number("out-of-range", reason, text))
}

fn parsed(text: &[u8]) -> Result<Decimal<'_>, Misfit> {
    Decimal::parse(text).ok_or_else(|| Misfit::of("bad-number", "is not a number", text))
}
