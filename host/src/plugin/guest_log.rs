//! What a guest logs: collected during a call, bounded, and handed to the host's log afterwards, when
//! the positions of the batch are at hand. Costs nothing while a guest is silent. A pipeline's guests together may log
//! so much a minute: the log is written while their lane waits, and by others too.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bindings::sluice::plugin::log::Level;
use super::fault::printable;
use super::limits::Limits;

/// Lines of one call.
#[derive(Debug, Default)]
pub(super) struct GuestLog {
    lines: Vec<(Level, String)>,
    bytes: usize,
    dropped_lines: usize,
    /// Text of the last error, kept even when the log is full: the SDK's panic hook writes it just
    /// before the trap, and the trap itself says nothing.
    last_error: Option<String>,
}

/// Who logs; the fields of each line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub pipeline: &'a str,
    pub plugin: &'a str,
    pub digest: &'a str,
    /// Such as `2:100-149 5:7-7`: partition and first and last offset of the batch.
    pub offsets: &'a str,
    /// What all guests of the pipeline may log.
    pub budget: &'a LogBudget,
}

/// At once, after a while of less.
const BURST_BYTES: f64 = 256.0 * 1024.0;
const BYTES_A_MINUTE: f64 = 1024.0 * 1024.0;
/// What a line has beside its text: time, pipeline, plugin, digest, offsets.
const LINE_BYTES: usize = 250;
/// How often it is said that lines were left out.
const TELL_PERIOD: Duration = Duration::from_secs(60);

/// How much the guests of a pipeline may still log.
#[derive(Debug)]
pub(super) struct LogBudget(Mutex<Room>);

#[derive(Debug)]
struct Room {
    bytes: f64,
    at: Instant,
    left_out: u64,
    told: Option<Instant>,
}

impl Default for LogBudget {
    fn default() -> Self {
        let room = Room { bytes: BURST_BYTES, at: Instant::now(), left_out: 0, told: None };
        Self(Mutex::new(room))
    }
}

impl LogBudget {
    /// True when there is room for `line`; it is taken.
    fn takes(&self, line: &str, now: Instant) -> bool {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = (now - room.at).as_secs_f64() / 60.0 * BYTES_A_MINUTE;
        (room.bytes, room.at) = ((room.bytes + gained).min(BURST_BYTES), now);
        let bytes = (line.len() + LINE_BYTES) as f64;
        if room.bytes < bytes {
            room.left_out += 1;
            return false;
        }
        room.bytes -= bytes;
        true
    }

    /// How many lines were left out, when it is time to say so.
    fn left_out(&self, now: Instant) -> Option<u64> {
        let mut room = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = room.told.is_none_or(|told| now - told >= TELL_PERIOD);
        if room.left_out == 0 || !is_due {
            return None;
        }
        room.told = Some(now);
        Some(std::mem::take(&mut room.left_out))
    }
}

impl GuestLog {
    /// Takes a line as far as the limits allow.
    pub fn push(&mut self, level: Level, line: &str, limits: &Limits) {
        let line = printable(line, limits.log_line_bytes_max);
        if level == Level::Error {
            self.last_error = Some(line.clone());
        }
        if self.lines.len() >= limits.log_lines_max
            || self.bytes + line.len() > limits.log_bytes_max
        {
            self.dropped_lines += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push((level, line));
    }

    /// True when there is something to hand over.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped_lines == 0
    }

    /// The last error, once.
    pub fn take_last_error(&mut self) -> Option<String> {
        self.last_error.take()
    }

    /// Hands all lines to the host's log and is empty again.
    pub fn flush(&mut self, origin: Origin<'_>) {
        let now = Instant::now();
        if self.dropped_lines > 0 {
            let text = format!("{} more lines of this call dropped", self.dropped_lines);
            self.lines.push((Level::Warn, text));
        }
        for (level, line) in self.lines.drain(..) {
            if origin.budget.takes(&line, now) {
                emit(level, &line, origin);
            }
        }
        if let Some(count) = origin.budget.left_out(now) {
            let text = format!("{count} lines left out: the plugin logs more than 1 MiB a minute");
            emit(Level::Warn, &text, origin);
        }
        *self = Self::default();
    }
}

/// A macro's level must be known when the host is compiled, hence the cases.
fn emit(level: Level, line: &str, origin: Origin<'_>) {
    let Origin { pipeline, plugin, digest, offsets, .. } = origin;
    macro_rules! event {
        ($level:ident) => {
            tracing::event!(
                target: "plugin", tracing::Level::$level, pipeline, plugin, digest, offsets, "{line}"
            )
        };
    }
    match level {
        Level::Trace => event!(TRACE),
        Level::Debug => event!(DEBUG),
        Level::Info => event!(INFO),
        Level::Warn => event!(WARN),
        Level::Error => event!(ERROR),
    }
}

/// `2:100-149 5:7-7`: first and last offset of each partition, in order of appearance.
pub(super) fn offset_ranges(partitions: &[i32], offsets: &[i64]) -> String {
    let mut ranges: Vec<(i32, i64, i64)> = Vec::new();
    for (&partition, &offset) in partitions.iter().zip(offsets) {
        match ranges.iter_mut().find(|range| range.0 == partition) {
            Some(range) => range.2 = offset,
            None => ranges.push((partition, offset, offset)),
        }
    }
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(partition, first, last)| format!("{partition}:{first}-{last}"))
        .collect();
    ranges.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_its_last_error_survives() {
        let limits = Limits {
            log_lines_max: 3,
            log_line_bytes_max: 5,
            log_bytes_max: 12,
            ..Limits::default()
        };
        let mut log = GuestLog::default();
        log.push(Level::Info, "a\tb", &limits);
        log.push(Level::Info, "1234567", &limits);
        log.push(Level::Info, "abc", &limits);
        log.push(Level::Error, "why", &limits);
        let lines: Vec<_> = log.lines.iter().map(|(_, line)| line.as_str()).collect();
        assert_eq!((lines, log.dropped_lines), (vec!["a b", "12345…"], 2));
        assert_eq!(log.take_last_error().as_deref(), Some("why"));
        assert!(!log.is_empty());
    }

    #[test]
    fn guests_that_log_without_end_are_heard_for_a_while_and_then_a_little() {
        let (budget, begin) = (LogBudget::default(), Instant::now());
        let line = "x".repeat(4096 - LINE_BYTES);
        let taken = |lines: u32, now| (0..lines).filter(|_| budget.takes(&line, now)).count();
        assert_eq!(taken(1000, begin), 64);
        assert_eq!(budget.left_out(begin), Some(936));
        let minute_later = (1..=60).map(|second| taken(1000, begin + Duration::from_secs(second)));
        assert!((250..=256).contains(&minute_later.sum::<usize>()));
        let soon = begin + TELL_PERIOD / 2;
        assert_eq!(budget.left_out(soon), None, "not in each call");
        assert!(budget.left_out(begin + TELL_PERIOD).is_some_and(|count| count > 59_000));
        assert_eq!(taken(100, begin + TELL_PERIOD * 10), 64, "no more than a burst");
    }

    #[test]
    fn ranges_name_each_partition_once() {
        assert_eq!(offset_ranges(&[2, 5, 2, 2], &[100, 7, 101, 149]), "2:100-149 5:7-7");
        assert_eq!(offset_ranges(&[], &[]), "");
    }
}
