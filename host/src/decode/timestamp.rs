//! RFC 3339 to microseconds since 1970-01-01T00:00:00Z.

mod lenient;

pub use lenient::{Wrong, read as leniently};

/// Reads a time, strictly at first; digits beyond microseconds are dropped.
///
/// The leap second 23:59:60 UTC is the first second of the next day, as in Postgres.
#[inline]
pub fn read(text: &[u8]) -> Result<i64, Wrong> {
    // Almost all producers write the strict form, so that it alone has to be quick.
    strict(text).map_or_else(|| leniently(text), Ok)
}

/// Reads what RFC 3339 allows, and a blank instead of the `T`.
pub fn strict(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T' | b't' | b' ',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
    ] = *date
    else {
        return None;
    };
    let (micros, zone) = fraction(rest)?;
    let clock = Clock {
        century: two(y1, y2)?,
        year: two(y3, y4)?,
        month: two(m1, m2)?,
        day: two(d1, d2)?,
        hour: two(h1, h2)?,
        minute: two(n1, n2)?,
        second: two(s1, s2)?,
        micros,
    };
    clock.micros_since_1970(offset_minutes(zone)?)
}

/// What a calendar and a clock show, two digits each, unchecked.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The year's first two digits.
    pub century: u32,
    /// The other two.
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: i64,
}

impl Clock {
    /// `None` when there is no such time. `offset_minutes` is how far the clock is ahead of UTC.
    #[inline]
    pub fn micros_since_1970(self, offset_minutes: i64) -> Option<i64> {
        let Self { month, day, hour, minute, second, micros, .. } = self;
        let length = MONTHS.get(month as usize)?.1 + u32::from(month == 2 && self.is_leap_year());
        if day == 0 || day > length || hour > 23 || minute > 59 {
            return None;
        }
        let minutes = self.days() * 1440 + i64::from(hour * 60 + minute) - offset_minutes;
        if second > 60 || second == 60 && minutes.rem_euclid(1440) != 1439 {
            return None;
        }
        Some((minutes * 60 + i64::from(second)) * 1_000_000 + micros)
    }

    #[inline]
    fn is_leap_year(self) -> bool {
        // Years that 100 divides are those whose century 4 divides.
        (if self.year == 0 { self.century } else { self.year }) % 4 == 0
    }

    /// Days since 1970-01-01 of a date that there is.
    #[inline]
    fn days(self) -> i64 {
        let years = self.century * 100 + self.year;
        // Leap days before this year; the year 0 has one.
        let centuries = self.century + u32::from(self.year > 0);
        let leap_days = years.div_ceil(4) - centuries + centuries.div_ceil(4);
        let leap_day = u32::from(self.month > 2 && self.is_leap_year());
        let before = MONTHS[self.month as usize].0;
        i64::from(years * 365 + leap_days + leap_day + before + self.day) - 719_529
    }
}

/// For each month, from 1 on, the days of the year before it and its own; February has 28.
static MONTHS: [(u32, u32); 13] = [
    (0, 0),
    (0, 31),
    (31, 28),
    (59, 31),
    (90, 30),
    (120, 31),
    (151, 30),
    (181, 31),
    (212, 31),
    (243, 30),
    (273, 31),
    (304, 30),
    (334, 31),
];

/// Value of two digits.
#[inline]
fn two(tens: u8, ones: u8) -> Option<u32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then(|| u32::from(tens * 10 + ones))
}

/// Microseconds of a fraction, and what follows it.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = text else { return Some((0, text)) };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(count);
    let mut micros = 0;
    for index in 0..6 {
        micros = micros * 10 + digits.get(index).map_or(0, |digit| i64::from(digit - b'0'));
    }
    (count > 0).then_some((micros, rest))
}

#[inline]
fn offset_minutes(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (two(h1, h2)?, two(m1, m2)?);
            let offset = i64::from(hours * 60 + minutes);
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -offset } else { offset })
        }
        _ => None,
    }
}
