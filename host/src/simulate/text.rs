//! Numbers and instants as text, appended to a buffer without allocation or `format!`: the generators
//! write several of them for each message.

/// Appends `value` in decimal.
#[inline]
pub(super) fn integer(out: &mut Vec<u8>, value: u64) {
    padded(out, value, 1);
}

/// Appends `value` in decimal with at least `width` digits (at most 20).
#[inline]
pub(super) fn padded(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while value > 0 {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    let start = start.min(digits.len() - width);
    out.extend_from_slice(&digits[start..]);
}

/// Appends `value / 10^places` with exactly that many decimal places (at least one).
#[inline]
pub(super) fn fixed(out: &mut Vec<u8>, value: i64, places: usize) {
    if value < 0 {
        out.push(b'-');
    }
    padded(out, value.unsigned_abs(), places + 1);
    let point = out.len() - places;
    out.push(b'.');
    out[point..].rotate_right(1);
}

/// Writes instants as RFC 3339 with milliseconds, in UTC; remembers the minute, which rarely changes.
#[derive(Debug, Default)]
pub(super) struct Instants {
    minute: Option<i64>,
    prefix: Vec<u8>,
}

impl Instants {
    /// Appends the instant `ms` milliseconds after 1970-01-01T00:00:00Z.
    ///
    /// # Panics
    /// Outside of the years -9999 to 9999.
    #[inline]
    pub(super) fn write(&mut self, out: &mut Vec<u8>, ms: i64) {
        let minute = ms.div_euclid(60_000);
        if self.minute != Some(minute) {
            self.turn(minute);
        }
        let rest = ms.rem_euclid(60_000) as u64;
        out.extend_from_slice(&self.prefix);
        padded(out, rest / 1000, 2);
        out.push(b'.');
        padded(out, rest % 1000, 3);
        out.push(b'Z');
    }

    fn turn(&mut self, minute: i64) {
        let start = jiff::Timestamp::from_second(minute * 60).expect("an instant of our times");
        self.minute = Some(minute);
        self.prefix = start.strftime("%Y-%m-%dT%H:%M:").to_string().into_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = b"x".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap().split_off(1)
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 1, 9, 10, 99, 100, 12_345_678, u64::MAX] {
            assert_eq!(written(|out| integer(out, value)), format!("{value}"));
            assert_eq!(written(|out| padded(out, value, 8)), format!("{value:08}"));
        }
        for value in [0, 1, -1, 5, -5, 10, -10, 12_345, -12_345, 999_999_990] {
            let tenths = format!("{:.1}", value as f64 / 10.0);
            assert_eq!(written(|out| fixed(out, value, 1)), tenths);
            let hundredths = format!("{:.2}", value as f64 / 100.0);
            assert_eq!(written(|out| fixed(out, value, 2)), hundredths);
        }
    }

    #[test]
    fn instants_are_rfc_3339() {
        let mut instants = Instants::default();
        for ms in [0, 59_999, 60_000, 1_795_403_045_123, 951_868_799_999, -1, 1_795_403_045_007] {
            let expected = jiff::Timestamp::from_millisecond(ms).unwrap();
            let mut out = Vec::new();
            instants.write(&mut out, ms);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{expected:.3}"));
        }
    }
}
