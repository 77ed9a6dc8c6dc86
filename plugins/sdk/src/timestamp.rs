//! Instants, and how they are read from text: as the host reads them, with the same reasons.

use std::fmt;
use std::str::FromStr;

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// This many microseconds after 1970-01-01T00:00:00Z.
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }
}

/// Why a text is not a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseTimestampError(&'static str);

impl ParseTimestampError {
    /// Which part is wrong: `the time zone is missing, ...`.
    pub fn part(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.0;
        write!(formatter, "not a time as in RFC 3339, such as `2026-11-22T03:04:05.123Z`: {part}")
    }
}

impl std::error::Error for ParseTimestampError {}

const DATE: ParseTimestampError = ParseTimestampError("the date is not YYYY-MM-DD");
const NO_SUCH_DATE: ParseTimestampError = ParseTimestampError("there is no such date");
const NO_TIME: ParseTimestampError = ParseTimestampError("the time of day is missing");
const SEPARATOR: ParseTimestampError =
    ParseTimestampError("neither T nor a blank follows the date");
const TIME: ParseTimestampError =
    ParseTimestampError("the time of day is neither HH:MM nor HH:MM:SS");
const NO_SUCH_TIME: ParseTimestampError = ParseTimestampError("there is no such time of day");
const LEAP_SECOND: ParseTimestampError =
    ParseTimestampError("second 60 exists only at 23:59:60 UTC");
const FRACTION: ParseTimestampError =
    ParseTimestampError("the fraction of the second has no digits");
const NO_ZONE: ParseTimestampError =
    ParseTimestampError("the time zone is missing, write Z or an offset such as +01:00");
const ZONE: ParseTimestampError =
    ParseTimestampError("the time zone is neither Z nor an offset such as +01:00");

/// Reads RFC 3339; digits beyond microseconds are dropped. Seconds may be left out, a blank may stand
/// instead of the `T`, a comma instead of the decimal point, and an offset may be `+0100` or `+01`.
impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text.as_bytes()).map(Self)
    }
}

fn parse(text: &[u8]) -> Result<i64, ParseTimestampError> {
    let (date, rest) = text.split_first_chunk::<10>().ok_or(DATE)?;
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = date else { return Err(DATE) };
    let year = number(year).ok_or(DATE)?;
    let (month, day) = (two(*m1, *m2).ok_or(DATE)?, two(*d1, *d2).ok_or(DATE)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return Err(NO_SUCH_DATE);
    }
    let rest = match rest {
        [] => return Err(NO_TIME),
        [b'T' | b't' | b' ', rest @ ..] => rest,
        _ => return Err(SEPARATOR),
    };
    let [h1, h2, b':', n1, n2, rest @ ..] = rest else { return Err(TIME) };
    let (hour, minute) = (two(*h1, *h2).ok_or(TIME)?, two(*n1, *n2).ok_or(TIME)?);
    let (second, micros, zone) = seconds(rest)?;
    if hour > 23 || minute > 59 || second > 60 {
        return Err(NO_SUCH_TIME);
    }
    let minutes = days(year, month, day) * 1440 + hour * 60 + minute - offset_minutes(zone)?;
    // A leap second is the last of a day in UTC, and counts as the first of the next one.
    if second == 60 && minutes.rem_euclid(1440) != 1439 {
        return Err(LEAP_SECOND);
    }
    Ok((minutes * 60 + second) * 1_000_000 + micros)
}

/// Seconds and microseconds, and what follows them. Java leaves out seconds on a full minute.
fn seconds(text: &[u8]) -> Result<(i64, i64, &[u8]), ParseTimestampError> {
    let Some(text) = text.strip_prefix(b":") else { return Ok((0, 0, text)) };
    let [s1, s2, rest @ ..] = text else { return Err(TIME) };
    let second = two(*s1, *s2).ok_or(TIME)?;
    let [b'.' | b',', rest @ ..] = rest else { return Ok((second, 0, rest)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(count);
    let kept = count.min(6);
    match number(&digits[..kept]) {
        Some(micros) if count > 0 => Ok((second, micros * 10_i64.pow(6 - kept as u32), rest)),
        _ => Err(FRACTION),
    }
}

fn offset_minutes(zone: &[u8]) -> Result<i64, ParseTimestampError> {
    let (sign, hours, minutes) = match *zone {
        [] => return Err(NO_ZONE),
        [b'Z' | b'z'] => return Ok(0),
        [sign, h1, h2] => (sign, two(h1, h2), Some(0)),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(h1, h2), two(m1, m2)),
        _ => return Err(ZONE),
    };
    match (sign, hours, minutes) {
        (b'+', Some(hours @ 0..24), Some(minutes @ 0..60)) => Ok(hours * 60 + minutes),
        (b'-', Some(hours @ 0..24), Some(minutes @ 0..60)) => Ok(-(hours * 60 + minutes)),
        _ => Err(ZONE),
    }
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    number(&[tens, ones])
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, in years that begin in March so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    before + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Read from a string as in RFC 3339.
impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a time as in RFC 3339")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(|error| E::custom(format_args!("{text:?} is {error}")))
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The host's tests compare both readers on many more texts.
    #[test]
    fn times_are_read_to_the_microsecond() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T04:04:05.1239999+01:00", 1_795_316_645_123_999),
            ("2026-11-21t23:34:05-03:30", 1_795_316_645_000_000),
            ("1969-12-31T23:59:59.5z", -500_000),
            ("2024-02-29 00:00:00Z", 1_709_164_800_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
            ("2026-11-22T03:04Z", 1_795_316_640_000_000),
            ("2026-11-22 04:04:05,5+01", 1_795_316_645_500_000),
            ("2026-11-22T02:04-0100", 1_795_316_640_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(text.parse(), Ok(Timestamp(micros)), "{text}");
        }
    }

    #[test]
    fn an_error_says_which_part_is_wrong() {
        let cases = [
            ("", DATE),
            ("2026-02-29T03:04:05Z", NO_SUCH_DATE),
            ("2026-11-22", NO_TIME),
            ("2026-11-22_03:04:05Z", SEPARATOR),
            ("2026-11-22T03:04:5Z", TIME),
            ("2026-11-22T24:00:00Z", NO_SUCH_TIME),
            ("2026-11-22T03:04:60Z", LEAP_SECOND),
            ("2026-11-22T03:04:05.Z", FRACTION),
            ("2026-11-22T03:04:05", NO_ZONE),
            ("2026-11-22T03:04:05+24:00", ZONE),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Timestamp>(), Err(error), "{text}");
        }
        assert_eq!(
            "2026-11-22T03:04:05".parse::<Timestamp>().unwrap_err().to_string(),
            "not a time as in RFC 3339, such as `2026-11-22T03:04:05.123Z`: \
             the time zone is missing, write Z or an offset such as +01:00"
        );
    }
}
