//! Exact decimal numbers for money: digits in, digits out, no floats between.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Most digits a decimal can have, before and after the point together.
const DIGITS_MAX: u32 = 28;

/// An exact decimal number of up to 28 digits, such as `-12.50`.
///
/// It keeps the number of digits after the point that it was written with; comparisons ignore them.
/// Arithmetic is checked: `None` where a result has more than 28 digits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decimal {
    /// The digits without the point.
    units: i128,
    /// How many of them stand after it.
    scale: u32,
}

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { units: 0, scale: 0 };

    /// `units` shifted right by `scale` digits: `Decimal::new(1999, 2)` is 19.99. `None` beyond 28 digits.
    pub fn new(units: i128, scale: u32) -> Option<Self> {
        let fits = scale <= DIGITS_MAX && units.unsigned_abs() < 10_u128.pow(DIGITS_MAX);
        fits.then_some(Self { units, scale })
    }

    /// The sum.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Self::new(self.units_at(scale)?.checked_add(other.units_at(scale)?)?, scale)
    }

    /// The difference.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self { units: -other.units, ..other })
    }

    /// The product.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        Self::new(self.units.checked_mul(other.units)?, self.scale + other.scale)
    }

    /// True below zero.
    pub fn is_negative(&self) -> bool {
        self.units < 0
    }

    fn units_at(self, scale: u32) -> Option<i128> {
        self.units.checked_mul(10_i128.pow(scale - self.scale))
    }

    /// Whole part and fraction, the latter to 28 digits: comparable whatever the scales.
    fn parts(self) -> (i128, i128) {
        let one = 10_i128.pow(self.scale);
        (self.units / one, self.units % one * 10_i128.pow(DIGITS_MAX - self.scale))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl From<i64> for Decimal {
    fn from(value: i64) -> Self {
        Self { units: i128::from(value), scale: 0 }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u128.pow(self.scale);
        let units = self.units.unsigned_abs();
        let sign = if self.is_negative() { "-" } else { "" };
        match self.scale as usize {
            0 => write!(formatter, "{sign}{units}"),
            scale => write!(formatter, "{sign}{}.{:0scale$}", units / one, units % one),
        }
    }
}

/// Why a text is not a [`Decimal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseDecimalError {
    /// It is not digits with at most one point between them.
    Malformed,
    /// It has more than 28 digits.
    TooLong,
}

impl fmt::Display for ParseDecimalError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Malformed => "not a decimal number such as `12.50`",
            Self::TooLong => "a decimal number of more than 28 digits",
        })
    }
}

impl std::error::Error for ParseDecimalError {}

impl FromStr for Decimal {
    type Err = ParseDecimalError;

    fn from_str(text: &str) -> Result<Self, ParseDecimalError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(ParseDecimalError::Malformed),
            Some(parts) => parts,
            None => (digits, ""),
        };
        let malformed = |byte: u8| !byte.is_ascii_digit();
        if whole.is_empty() || whole.bytes().chain(fraction.bytes()).any(malformed) {
            return Err(ParseDecimalError::Malformed);
        }
        let mut units = 0_i128;
        for digit in whole.bytes().chain(fraction.bytes()) {
            units = units
                .checked_mul(10)
                .map(|units| units + i128::from(digit - b'0'))
                .ok_or(ParseDecimalError::TooLong)?;
        }
        let scale = u32::try_from(fraction.len()).map_err(|_| ParseDecimalError::TooLong)?;
        let units = if negative { -units } else { units };
        Self::new(units, scale).ok_or(ParseDecimalError::TooLong)
    }
}

/// Written as a string: a JSON number would be read as a float by most.
impl serde::Serialize for Decimal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Read from a string or an integer; a number with a fraction has gone through a float already.
impl<'de> serde::Deserialize<'de> for Decimal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Decimal;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a decimal number in a string, such as \"12.50\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map_err(|error| E::custom(format_args!("{text:?} is {error}")))
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Decimal, E> {
                Ok(Decimal::from(value))
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Decimal, E> {
                Ok(Decimal { units: i128::from(value), scale: 0 })
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn text_comes_back_digit_for_digit() {
        for text in [
            "0",
            "19.99",
            "19.90",
            "-0.05",
            "-12",
            "9999999999999999999999999999",
            "0.0000000000000000000000000001",
        ] {
            assert_eq!(decimal(text).to_string(), text);
        }
    }

    #[test]
    fn text_that_is_no_decimal_is_refused() {
        let long = "1".repeat(29);
        let longer = "1".repeat(200);
        let cases = [
            ("", ParseDecimalError::Malformed),
            ("-", ParseDecimalError::Malformed),
            (".5", ParseDecimalError::Malformed),
            ("5.", ParseDecimalError::Malformed),
            ("1e3", ParseDecimalError::Malformed),
            ("1.2.3", ParseDecimalError::Malformed),
            ("+1", ParseDecimalError::Malformed),
            (" 1", ParseDecimalError::Malformed),
            ("NaN", ParseDecimalError::Malformed),
            (&long, ParseDecimalError::TooLong),
            (&longer, ParseDecimalError::TooLong),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Decimal>().unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn arithmetic_is_exact_or_nothing() {
        let third = decimal("0.1").checked_add(decimal("0.20")).unwrap();
        assert_eq!((third.to_string().as_str(), third), ("0.30", decimal("0.3")));
        assert_eq!(decimal("19.99").checked_mul(Decimal::from(2)).unwrap().to_string(), "39.98");
        assert_eq!(decimal("1").checked_sub(decimal("1.01")).unwrap().to_string(), "-0.01");
        let most = decimal(&"9".repeat(28));
        assert!(most.checked_add(Decimal::from(1)).is_none());
        assert!(most.checked_mul(most).is_none());
        assert!(most.checked_add(decimal("0.1")).is_none());
    }

    #[test]
    fn order_ignores_trailing_zeros() {
        let ascending = ["-12", "-1.5", "-1.2", "-0.5", "0", "0.49", "0.5", "1", "1.01", "100"];
        for pair in ascending.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
        assert_eq!(decimal("1.50"), decimal("1.5"));
    }
}
