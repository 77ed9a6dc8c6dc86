//! Times that are unambiguous although RFC 3339 does not allow them, and which part of a text is wrong.
//! The plugin SDK reads the same texts with the same results; a test compares the two.

use super::{Clock, two};

/// Which part of a text keeps it from being a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Date,
    NoSuchDate,
    NoTime,
    Separator,
    Time,
    NoSuchTime,
    LeapSecond,
    Fraction,
    NoZone,
    Zone,
}

impl Wrong {
    /// For the person who reads the dead letter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Date => "the date is not YYYY-MM-DD",
            Self::NoSuchDate => "there is no such date",
            Self::NoTime => "the time of day is missing",
            Self::Separator => "neither T nor a blank follows the date",
            Self::Time => "the time of day is neither HH:MM nor HH:MM:SS",
            Self::NoSuchTime => "there is no such time of day",
            Self::LeapSecond => "second 60 exists only at 23:59:60 UTC",
            Self::Fraction => "the fraction of the second has no digits",
            Self::NoZone => "the time zone is missing, write Z or an offset such as +01:00",
            Self::Zone => "the time zone is neither Z nor an offset such as +01:00",
        }
    }
}

/// Reads a time from left to right. Beyond the strict form: seconds may be left out, as Java does on a full
/// minute; the offset may be `+0100` (Python's `%z`) or `+01` (Postgres); a comma may stand before the fraction
/// (ISO 8601). A text without time zone is not taken: it names another instant in each zone.
#[cold]
#[inline(never)]
pub fn read(text: &[u8]) -> Result<i64, Wrong> {
    let (date, rest) = date(text)?;
    let (clock, zone) = time(date, rest)?;
    let offset_minutes = offset_minutes(zone)?;
    // All other parts are in range now.
    clock.micros_since_1970(offset_minutes).ok_or(Wrong::LeapSecond)
}

/// The date at midnight, and what follows it.
fn date(text: &[u8]) -> Result<(Clock, &[u8]), Wrong> {
    let (date, rest) = text.split_first_chunk::<10>().ok_or(Wrong::Date)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else { return Err(Wrong::Date) };
    let number = |tens, ones| two(tens, ones).ok_or(Wrong::Date);
    let midnight = Clock {
        century: number(y1, y2)?,
        year: number(y3, y4)?,
        month: number(m1, m2)?,
        day: number(d1, d2)?,
        hour: 0,
        minute: 0,
        second: 0,
        micros: 0,
    };
    midnight.micros_since_1970(0).ok_or(Wrong::NoSuchDate)?;
    Ok((midnight, rest))
}

/// The date with the time of day in `text`, and what follows that.
fn time(date: Clock, text: &[u8]) -> Result<(Clock, &[u8]), Wrong> {
    let rest = match text {
        [] => return Err(Wrong::NoTime),
        [b'T' | b't' | b' ', rest @ ..] => rest,
        _ => return Err(Wrong::Separator),
    };
    let number = |tens: &u8, ones: &u8| two(*tens, *ones).ok_or(Wrong::Time);
    let [h1, h2, b':', n1, n2, rest @ ..] = rest else { return Err(Wrong::Time) };
    let (hour, minute) = (number(h1, h2)?, number(n1, n2)?);
    let (second, micros, rest) = match rest {
        [b':', s1, s2, rest @ ..] => {
            let second = number(s1, s2)?;
            let (micros, rest) = fraction(rest)?;
            (second, micros, rest)
        }
        [b':', ..] => return Err(Wrong::Time),
        _ => (0, 0, rest),
    };
    if hour > 23 || minute > 59 || second > 60 {
        return Err(Wrong::NoSuchTime);
    }
    Ok((Clock { hour, minute, second, micros, ..date }, rest))
}

/// Microseconds of a fraction, and what follows it.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), Wrong> {
    let [b'.' | b',', rest @ ..] = text else { return Ok((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(count);
    let zeros = std::iter::repeat(&b'0');
    let micros = digits.iter().chain(zeros).take(6);
    let micros = micros.fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    if count > 0 { Ok((micros, rest)) } else { Err(Wrong::Fraction) }
}

fn offset_minutes(zone: &[u8]) -> Result<i64, Wrong> {
    let (sign, hours, minutes) = match *zone {
        [] => return Err(Wrong::NoZone),
        [b'Z' | b'z'] => return Ok(0),
        [sign, h1, h2] => (sign, two(h1, h2), Some(0)),
        [sign, h1, h2, m1, m2] | [sign, h1, h2, b':', m1, m2] => (sign, two(h1, h2), two(m1, m2)),
        _ => return Err(Wrong::Zone),
    };
    let (Some(hours @ 0..24), Some(minutes @ 0..60)) = (hours, minutes) else {
        return Err(Wrong::Zone);
    };
    let offset = i64::from(hours * 60 + minutes);
    match sign {
        b'+' => Ok(offset),
        b'-' => Ok(-offset),
        _ => Err(Wrong::Zone),
    }
}
