//! What a guest logs: collected during a call, bounded, and handed to the host's log afterwards, when
//! the positions of the batch are at hand. Costs nothing while a guest is silent.

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
        for (level, line) in self.lines.drain(..) {
            emit(level, &line, origin);
        }
        if self.dropped_lines > 0 {
            let text = format!("{} more lines of this call dropped", self.dropped_lines);
            emit(Level::Warn, &text, origin);
        }
        *self = Self::default();
    }
}

/// A macro's level must be known when the host is compiled, hence the cases.
fn emit(level: Level, line: &str, origin: Origin<'_>) {
    let Origin { pipeline, plugin, digest, offsets } = origin;
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
    fn ranges_name_each_partition_once() {
        assert_eq!(offset_ranges(&[2, 5, 2, 2], &[100, 7, 101, 149]), "2:100-149 5:7-7");
        assert_eq!(offset_ranges(&[], &[]), "");
    }
}
