//! The time at which a reading is sent, written over the one it was made with, as that has the same length.

use jiff::{Timestamp, Unit};

const FIELD: &[u8] = b"\"measured_at\":\"";
/// Of `2026-11-26T09:35:00.565Z`.
const MILLISECONDS: std::ops::Range<usize> = 20..23;

/// The time as text, of which most is the same for a second.
pub struct Stamp {
    second: i64,
    text: String,
}

impl Stamp {
    pub fn new() -> Self {
        Self { second: i64::MIN, text: String::new() }
    }

    /// Puts the time into a payload, as the nearest millisecond. One that ends before it has none.
    pub fn put(&mut self, payload: &mut [u8]) {
        let start = payload.windows(FIELD.len()).position(|part| part == FIELD);
        let now = Timestamp::now().round(Unit::Millisecond).unwrap_or_default();
        if now.as_second() != self.second {
            (self.second, self.text) = (now.as_second(), format!("{now:.3}"));
        }
        let milliseconds = format!("{:03}", now.subsec_millisecond());
        self.text.replace_range(MILLISECONDS, &milliseconds);
        let place = start.and_then(|start| {
            let begin = start + FIELD.len();
            payload.get_mut(begin..begin + self.text.len())
        });
        if let Some(place) = place {
            place.copy_from_slice(self.text.as_bytes());
        }
    }
}
