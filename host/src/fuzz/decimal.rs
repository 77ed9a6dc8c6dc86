//! A second, slow arithmetic of decimal numbers, and a second reader of Postgres' binary numeric: what the
//! encoder makes of a number is compared with it.

use super::wire::Reader;

/// `digits` times ten to the `power`, without zeros at either end; zero has no digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimal {
    pub negative: bool,
    pub digits: Vec<u8>,
    pub power: i64,
}

/// What a numeric can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Number {
    Nan,
    Infinity { negative: bool },
    Finite(Decimal),
}

impl Decimal {
    fn new(negative: bool, digits: &[u8], power: i64) -> Self {
        let leading = digits.iter().take_while(|digit| **digit == 0).count();
        let trailing = digits[leading..].iter().rev().take_while(|digit| **digit == 0).count();
        let digits = digits[leading..digits.len() - trailing].to_vec();
        if digits.is_empty() {
            return Self { negative: false, digits, power: 0 };
        }
        Self { negative, digits, power: power + trailing as i64 }
    }

    /// Digits before the decimal point; below zero when zeros follow it.
    pub fn integer_digits(&self) -> i64 {
        self.digits.len() as i64 + self.power
    }

    /// Rounded to `scale` digits after the decimal point, halves away from zero.
    pub fn rounded(&self, scale: i64) -> Self {
        let dropped = -scale - self.power;
        if dropped <= 0 {
            return self.clone();
        }
        let Some(kept) = (self.digits.len() as i64).checked_sub(dropped).filter(|kept| *kept >= 0)
        else {
            return Self::new(false, &[], 0);
        };
        let (kept, dropped) = self.digits.split_at(kept as usize);
        let mut digits = [&[0], kept].concat();
        if dropped.first().is_some_and(|first| *first >= 5) {
            let nines = digits.iter().rev().take_while(|digit| **digit == 9).count();
            let from = digits.len() - nines;
            digits[from..].fill(0);
            digits[from - 1] += 1;
        }
        Self::new(self.negative, &digits, -scale)
    }

    /// As a text that the standard library reads.
    pub fn text(&self) -> String {
        let sign = if self.negative { "-" } else { "" };
        let digits: String = self.digits.iter().map(|digit| char::from(b'0' + digit)).collect();
        format!("{sign}0{digits}e{}", self.power)
    }
}

/// The number that a text names, and how many digits it shows after the decimal point.
pub(super) fn of_text(text: &[u8]) -> Option<(Number, i64)> {
    let text = std::str::from_utf8(text.trim_ascii()).ok()?.to_ascii_lowercase();
    // The standard library knows the same grammar, but for a sign before NaN.
    let double = text.parse::<f64>().ok()?;
    if text.ends_with("nan") {
        return (text == "nan").then_some((Number::Nan, 0));
    }
    let negative = text.starts_with('-');
    if text.ends_with("inf") || text.ends_with("infinity") {
        assert!(double.is_infinite());
        return Some((Number::Infinity { negative }, 0));
    }
    let unsigned = text.trim_start_matches(['+', '-']);
    let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Far beyond what fits, as for the encoder.
    let far = if exponent.starts_with('-') { -1_000_000_000 } else { 1_000_000_000 };
    let exponent = exponent.parse::<i64>().unwrap_or(far).clamp(-1_000_000_000, 1_000_000_000);
    let digits: Vec<u8> = integer.bytes().chain(fraction.bytes()).map(|it| it - b'0').collect();
    let shown = fraction.len() as i64 - exponent;
    Some((Number::Finite(Decimal::new(negative, &digits, -shown)), shown.max(0)))
}

/// Reads what `numeric_send` writes, and how many digits Postgres would show after the decimal point.
///
/// # Panics
/// When Postgres would not have written it so.
pub(super) fn of_wire(cell: &[u8]) -> (Number, i64) {
    let mut reader = Reader(cell);
    let (groups, weight) = (reader.short(), i64::from(reader.short()));
    let (sign, scale) = (reader.short() as u16, i64::from(reader.short()));
    let groups: Vec<i16> = (0..groups).map(|_| reader.short()).collect();
    assert!(reader.0.is_empty() && (0..=16_383).contains(&scale), "length and scale");
    assert!(groups.iter().all(|group| (0..10_000).contains(group)), "{groups:?}");
    assert!(groups.first() != Some(&0) && groups.last() != Some(&0), "{groups:?} has zeros around");
    let number = match sign {
        0xC000 => Number::Nan,
        0xD000 => Number::Infinity { negative: false },
        0xF000 => Number::Infinity { negative: true },
        0 | 0x4000 => {
            let text: String = groups.iter().map(|group| format!("{group:04}")).collect();
            let digits: Vec<u8> = text.bytes().map(|digit| digit - b'0').collect();
            let power = 4 * (weight + 1 - groups.len() as i64);
            Number::Finite(Decimal::new(sign != 0, &digits, power))
        }
        other => panic!("{other:#x} is no sign"),
    };
    (number, scale)
}
