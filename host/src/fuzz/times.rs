//! Dates and times of messages and cells, compared with the library that knows the calendar.

use jiff::Timestamp;
use jiff::civil::{Date, Time};

use super::input::Input;
use crate::decode::timestamp;
use crate::sink::types::datetime;

const DAY_US: i64 = 86_400_000_000;

/// The first bytes are a number of microseconds; the rest is a text.
pub(super) fn check(input: &[u8]) {
    let mut input = Input::new(input);
    let micros = input.integer();
    instant(micros);
    let text = input.rest();
    moment(text);
    assert_eq!(datetime::parse_date(text), date(text), "{}", text.escape_ascii());
    match time(text) {
        Clock::Time(micros) => assert_eq!(datetime::parse_time(text), Some(micros)),
        Clock::None => assert_eq!(datetime::parse_time(text), None, "{}", text.escape_ascii()),
        Clock::Unknown => {}
    }
    // What is no more than a time of day never passes midnight.
    assert!(datetime::parse_time(text).is_none_or(|time| (0..=DAY_US).contains(&time)));
}

/// A text with date, time and zone.
fn moment(text: &[u8]) {
    let ours = timestamp::read(text);
    if let Some(strict) = timestamp::strict(text) {
        assert_eq!(timestamp::leniently(text), Ok(strict), "{}", text.escape_ascii());
    }
    // The library has no leap seconds, and an end within the year 9999.
    let Ok(text) = std::str::from_utf8(text) else { return assert!(ours.is_err()) };
    let is_leap_second = text.get(16..19) == Some(":60");
    if let (Ok(ours), Ok(theirs), false) = (ours, text.parse::<Timestamp>(), is_leap_second) {
        let theirs = theirs.as_nanosecond().div_euclid(1000);
        assert_eq!(i128::from(ours), theirs, "{text}");
    }
}

/// Microseconds since 1970.
fn instant(micros: i64) {
    let of_2000 = i128::from(micros) - 946_684_800_000_000;
    let fits = (-211_813_488_000_000_000..9_223_371_331_200_000_000).contains(&of_2000);
    assert_eq!(datetime::check_timestamp(micros).is_ok(), fits, "{micros}");
    if fits {
        assert_eq!(i128::from(datetime::timestamp(micros)), of_2000);
        let days = of_2000.div_euclid(i128::from(DAY_US));
        assert_eq!(i128::from(datetime::date_of(micros)), days, "{micros}");
    }
    if let Ok(theirs) = Timestamp::from_microsecond(micros)
        && micros >= -62_167_219_200_000_000
    {
        let text = theirs.to_string();
        assert_eq!(timestamp::read(text.as_bytes()), Ok(micros), "{text}");
        assert_eq!(timestamp::strict(text.as_bytes()), Some(micros), "{text}");
    }
}

/// Days since 2000, when the text is `YYYY-MM-DD` and no more.
fn date(text: &[u8]) -> Option<i32> {
    let has_shape = text.len() == 10
        && (0..10).all(|at| match at {
            4 | 7 => text[at] == b'-',
            _ => text[at].is_ascii_digit(),
        });
    let text = std::str::from_utf8(text).ok().filter(|_| has_shape)?;
    let date: Date = text.parse().ok()?;
    let days = date.since(jiff::civil::date(2000, 1, 1)).ok()?.get_days();
    (date.year() != 0).then_some(days)
}

/// What the library makes of a time of day.
enum Clock {
    /// Microseconds since midnight, rounded.
    Time(i64),
    /// It is none.
    None,
    /// The library cannot say.
    Unknown,
}

fn time(text: &[u8]) -> Clock {
    let has_digits = |at: &[usize]| at.iter().all(|at| text[*at].is_ascii_digit());
    let has_shape = match text.len() {
        5 => has_digits(&[0, 1, 3, 4]) && text[2] == b':',
        8.. => {
            has_digits(&[0, 1, 3, 4, 6, 7])
                && (text[2], text[5]) == (b':', b':')
                && (text.len() == 8 || text.len() > 9 && text[8] == b'.')
                && text.iter().skip(9).all(u8::is_ascii_digit)
        }
        _ => false,
    };
    let Some(text) = std::str::from_utf8(text).ok().filter(|_| has_shape) else {
        return Clock::None;
    };
    // Midnight at the day's end and more digits than the library keeps are Postgres' own.
    if text.starts_with("24:") || text.len() > 18 {
        return Clock::Unknown;
    }
    // The library reads a leap second as the one before it.
    let time = text.parse::<Time>().ok().filter(|_| text.get(6..8) != Some("60"));
    let Some(time) = time else { return Clock::None };
    let nanos = time.duration_since(Time::midnight()).as_nanos();
    Clock::Time(i64::try_from((nanos + 500) / 1000).expect("a day has fewer"))
}
