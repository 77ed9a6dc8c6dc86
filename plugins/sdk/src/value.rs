//! Types of values that Rust has no word for.

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
pub struct ParseTimestampError;

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("not a time as in RFC 3339, such as `2026-11-22T03:04:05.123Z`")
    }
}

impl std::error::Error for ParseTimestampError {}

/// Reads RFC 3339; digits beyond microseconds are cut off.
impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text.as_bytes()).map(Self).ok_or(ParseTimestampError)
    }
}

fn parse(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let marks = [(4, b"-"), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")] as [(usize, &[u8]); 5];
    if !marks.iter().all(|(index, allowed)| allowed.contains(&date[*index])) {
        return None;
    }
    let year = number(&date[..4])?;
    let (month, day) = (number(&date[5..7])?, number(&date[8..10])?);
    let (hour, minute, second) =
        (number(&date[11..13])?, number(&date[14..16])?, number(&date[17..])?);
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_in(year, month)
        || hour > 23
        || minute > 59
    {
        return None;
    }
    let (micros, zone) = fraction(rest)?;
    let minutes = days(year, month, day) * 1440 + hour * 60 + minute - offset_minutes(zone)?;
    // A leap second is the last of a day in UTC, and counts as the first of the next one.
    if second > 60 || second == 60 && minutes.rem_euclid(1440) != 1439 {
        return None;
    }
    Some((minutes * 60 + second) * 1_000_000 + micros)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

/// Microseconds of a fraction, and what follows it.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = text.strip_prefix(b".") else { return Some((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(count);
    let micros = number(&digits[..count.min(6)])? * 10_i64.pow(6 - count.min(6) as u32);
    (count > 0).then_some((micros, rest))
}

fn offset_minutes(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', tens, ones] => {
            let (hours, minutes) = (number(hours)?, number(&[*tens, *ones])?);
            let fits = zone.len() == 6 && hours < 24 && minutes < 60;
            let offset = hours * 60 + minutes;
            fits.then_some(if *sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
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

/// One JSON value as text. Made by the host it is valid; of one that a plugin makes the host is
/// the judge, and Postgres behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

impl<T: AsRef<str>> Json<T> {
    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// The value, read into any type that serde can read.
    pub fn parse<'a, V: serde::Deserialize<'a>>(&'a self) -> serde_json::Result<V> {
        serde_json::from_str(self.as_str())
    }
}

impl<T: fmt::Display> fmt::Display for Json<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_in_rfc_3339_are_read_to_the_microsecond() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T03:04:05.123Z", 1_795_316_645_123_000),
            ("2026-11-22T04:04:05.1239999+01:00", 1_795_316_645_123_999),
            ("2026-11-21t23:34:05-03:30", 1_795_316_645_000_000),
            ("1969-12-31T23:59:59.5z", -500_000),
            ("2024-02-29 00:00:00Z", 1_709_164_800_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("0000-01-01T00:00:00Z", -62_167_219_200_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(text.parse(), Ok(Timestamp(micros)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        let cases = [
            "",
            "2026-11-22",
            "2026-11-22T03:04:05",
            "2026-11-22T03:04:05.Z",
            "2026-13-22T03:04:05Z",
            "2026-02-29T03:04:05Z",
            "2026-00-10T03:04:05Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T03:60:00Z",
            "2026-11-22T03:04:61Z",
            "2026-11-22T03:04:60Z",
            "2026-11-22T03:04:05+1:00",
            "2026-11-22T03:04:05+24:00",
            "2026-11-22T03:04:05+0100",
            "2026/11/22T03:04:05Z",
            "+026-11-22T03:04:05Z",
            "2026-11-22T03:04:05Z ",
        ];
        for text in cases {
            assert_eq!(text.parse::<Timestamp>(), Err(ParseTimestampError), "{text}");
        }
    }
}
