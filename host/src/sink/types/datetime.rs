//! Dates, times and timestamps as Postgres counts them: from 2000-01-01.

use super::Misfit;

/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;
const DAY_US: i64 = 86_400_000_000;
/// Bounds of Postgres' timestamps, from 2000-01-01: 4713 BC, and the end of the year 294276.
const MIN_US: i64 = -211_813_488_000_000_000;
const END_US: i64 = 9_223_371_331_200_000_000;

/// Microseconds since 1970 as microseconds since 2000.
#[inline]
pub fn timestamp(unix_us: i64) -> i64 {
    unix_us.wrapping_sub(EPOCH_US)
}

/// Microseconds since 1970 as days since 2000, in UTC.
#[inline]
pub fn date_of(unix_us: i64) -> i32 {
    timestamp(unix_us).div_euclid(DAY_US) as i32
}

/// Whether Postgres has a timestamp for it.
#[inline]
pub fn check_timestamp(unix_us: i64) -> Result<(), Misfit> {
    if unix_us >= MIN_US + EPOCH_US
        && unix_us.checked_sub(EPOCH_US).is_some_and(|value| value < END_US)
    {
        return Ok(());
    }
    Err(Misfit::new(
        "out-of-range",
        format!("{unix_us} microseconds since 1970 is no timestamp of Postgres"),
    ))
}

/// `YYYY-MM-DD` as days since 2000-01-01.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = text else { return None };
    if year.len() != 4 {
        return None;
    }
    let (year, month, day) = (number(year)?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
        return None;
    }
    // Days of the civil calendar, with years that begin in March (Hinnant).
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    // From 0000-03-01 to 2000-01-01.
    Some(days - 730_425)
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.ffffff` as microseconds since midnight.
pub fn parse_time(text: &[u8]) -> Option<i64> {
    let (clock, fraction) = match text {
        [h1, h2, b':', m1, m2] => ([*h1, *h2, *m1, *m2, b'0', b'0'], &[][..]),
        [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] => {
            let fraction = match rest {
                [] => rest,
                [b'.', fraction @ ..]
                    if !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit) =>
                {
                    fraction
                }
                _ => return None,
            };
            ([*h1, *h2, *m1, *m2, *s1, *s2], fraction)
        }
        _ => return None,
    };
    let (hours, minutes, seconds) =
        (number(&clock[..2])?, number(&clock[2..4])?, number(&clock[4..])?);
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let digit = |index: usize| fraction.get(index).map_or(0, |digit| i64::from(digit - b'0'));
    let micros =
        (0..6).fold(0, |micros, index| micros * 10 + digit(index)) + i64::from(digit(6) >= 5);
    let time = i64::from(hours * 3600 + minutes * 60 + seconds) * 1_000_000 + micros;
    (time <= DAY_US).then_some(time)
}

fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0'))
    })
}

fn days_of(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_date(text: &str, expected: Option<i32>) {
        assert_eq!(parse_date(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn dates_count_from_2000() {
        check_date("2000-01-01", Some(0));
        check_date("1999-12-31", Some(-1));
        check_date("2000-03-01", Some(60));
        check_date("2026-11-22", Some(9822));
        check_date("1970-01-01", Some(-10957));
        check_date("0001-01-01", Some(-730_119));
        for bad in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-1-01",
            "0000-01-01",
            "26-01-01",
            "2026-01-01 ",
        ] {
            check_date(bad, None);
        }
    }

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut expected = parse_date(b"1600-01-01").unwrap();
        for year in 1600..2400 {
            for month in 1..=12 {
                for day in 1..=days_of(year, month) {
                    let text = format!("{year:04}-{month:02}-{day:02}");
                    assert_eq!(parse_date(text.as_bytes()), Some(expected), "{text}");
                    expected += 1;
                }
            }
        }
    }

    fn check_time(text: &str, expected: Option<i64>) {
        assert_eq!(parse_time(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn times_count_from_midnight() {
        check_time("00:00", Some(0));
        check_time("01:02:03", Some(3_723_000_000));
        check_time("01:02:03.5", Some(3_723_500_000));
        check_time("23:59:59.9999999", Some(DAY_US));
        check_time("24:00:00", Some(DAY_US));
        for bad in [
            "24:00:01",
            "25:00",
            "1:00",
            "01:60",
            "01:00:60",
            "01:00:",
            "01:00:00.",
            "01:00:00.x",
            "noon",
        ] {
            check_time(bad, None);
        }
    }

    #[test]
    fn timestamps_end_where_those_of_postgres_end() {
        for (value, fits) in [
            (0, true),
            (MIN_US + EPOCH_US, true),
            (MIN_US + EPOCH_US - 1, false),
            (i64::MIN, false),
            (i64::MAX, true),
        ] {
            assert_eq!(check_timestamp(value).is_ok(), fits, "{value}");
        }
    }
}
