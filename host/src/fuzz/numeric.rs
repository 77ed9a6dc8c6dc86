//! Numbers: a text is one or is none, fits its column or does not, and is encoded as itself.

use super::decimal::{self, Decimal, Number};
use super::input::Input;
use crate::sink::types::numeric::{self, Limits};

/// The first bytes are a column's limits, an integer and a double; the rest is a text.
pub(super) fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let (precision, scale) = (1 + input.integer().rem_euclid(1000), input.integer() % 1001);
    let limits = input.byte().is_multiple_of(2).then_some((precision, scale));
    let (integer, double) = (input.integer(), input.double());
    text(input.rest(), limits);
    text(integer.to_string().as_bytes(), limits);
    text(format!("{double:e}").as_bytes(), limits);
    of_integer(integer, limits);
    of_double(double, limits);
}

/// As Postgres packs them into a type modifier.
fn packed(limits: Option<(i64, i64)>) -> Option<Limits> {
    let (precision, scale) = limits?;
    Limits::from_typmod((precision << 16 | scale & 0x7ff) as i32 + 4)
}

fn text(text: &[u8], limits: Option<(i64, i64)>) {
    let parsed = numeric::Decimal::parse(text);
    let expected = decimal::of_text(text);
    assert_eq!(parsed.is_some(), expected.is_some(), "{}", text.escape_ascii());
    let (Some(parsed), Some((number, shown))) = (parsed, expected) else { return };
    for limits in [None, limits] {
        let fits = numeric::check_text(text, packed(limits));
        let digits_fit = numeric::check_digits(text, packed(limits));
        assert_eq!(
            fits.is_ok(),
            fits_in(&number, shown, limits),
            "{} in {limits:?}",
            text.escape_ascii()
        );
        assert_eq!(digits_fit.is_ok(), fits.is_ok());
    }
    if fits_in(&number, shown, None) {
        let mut cell = Vec::new();
        parsed.encode(&mut cell);
        assert_eq!(decimal::of_wire(&cell), (number, shown), "{}", text.escape_ascii());
    }
}

/// Whether Postgres keeps it in `numeric(precision, scale)`.
fn fits_in(number: &Number, shown: i64, limits: Option<(i64, i64)>) -> bool {
    let number = match number {
        Number::Nan => return true,
        Number::Infinity { .. } => return limits.is_none(),
        Number::Finite(number) => number,
    };
    if shown > 16_383 || number.integer_digits() > 131_072 {
        return false;
    }
    let Some((precision, scale)) = limits else { return true };
    let rounded = number.rounded(scale);
    rounded.digits.is_empty() || rounded.integer_digits() <= precision - scale
}

fn of_integer(value: i64, limits: Option<(i64, i64)>) {
    let (number, shown) = decimal::of_text(value.to_string().as_bytes()).expect("a number");
    let fits = numeric::check_integer(value, packed(limits)).is_ok();
    assert_eq!(fits, fits_in(&number, shown, limits), "{value} in {limits:?}");
    let mut cell = Vec::new();
    numeric::encode_integer(value, &mut cell);
    assert_eq!(decimal::of_wire(&cell), (number, 0), "{value}");
}

fn of_double(value: f64, limits: Option<(i64, i64)>) {
    let mut cell = Vec::new();
    numeric::encode_float(value, &mut cell);
    let (number, shown) = decimal::of_wire(&cell);
    match &number {
        Number::Nan => assert!(value.is_nan()),
        Number::Infinity { negative } => assert!(value.is_infinite() && *negative == (value < 0.0)),
        // Zero has no sign in a numeric.
        Number::Finite(number) => assert_eq!(double(number).to_bits(), (value + 0.0).to_bits()),
    }
    let fits = numeric::check_float(value, packed(limits)).is_ok();
    assert_eq!(fits, fits_in(&number, shown, limits), "{value:e} in {limits:?}");
}

fn double(number: &Decimal) -> f64 {
    number.text().parse().expect("the standard library reads it")
}
