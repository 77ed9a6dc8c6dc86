//! One line of the log: foreign text cannot end it, and what may be values of rows is left out. All events come by here,
//! so that no call has to think of it: messages name plugins, headers and tables, and repeat servers and guests.

use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime as Clock};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;
use crate::fault::DETAIL;
use crate::printable::{Bounded, escaped, escaped_json};

/// Bytes of one field, at most.
const VALUE_BYTES_MAX: usize = 2 << 10;

/// Bytes of all fields, at most. Names, quotes and numbers come on top; their number is that in the code.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Stands where values of rows were left out.
const NOT_LOGGED: &str = "not logged";

/// How a line is written.
pub struct Line(pub LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        // Guests and librdkafka log under targets of their own, and their texts have no marks of ours.
        let is_ours = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        let mut fields = Fields { is_ours, left_bytes: LINE_BYTES_MAX, list: Vec::new() };
        event.record(&mut fields);
        match self.0 {
            LogFormat::Text => text(&mut writer, *metadata.level(), fields.list),
            LogFormat::Json => json(&mut writer, *metadata.level(), fields.list),
        }
    }
}

fn text(writer: &mut Writer<'_>, level: Level, fields: Vec<(&str, Shown)>) -> fmt::Result {
    let is_coloured = writer.has_ansi_escapes();
    let style = |style: &'static str| if is_coloured { style } else { "" };
    let (dim, italic, end) = (style("\x1b[2m"), style("\x1b[3m"), style("\x1b[0m"));
    writer.write_str(dim)?;
    Clock.format_time(writer)?;
    let colour = style(match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    });
    write!(writer, "{end} {colour}{level:>5}{end}")?;
    for (name, value) in fields {
        let value = match value {
            Shown::Text(text) if name == "message" => text,
            Shown::Text(text) => format!("{text:?}"),
            Shown::Formatted(text) => text,
            Shown::Value(value) => value.to_string(),
        };
        let value = escaped(&value);
        if name == "message" {
            write!(writer, " {value}")?;
        } else {
            write!(writer, " {italic}{name}{end}{dim}={end}{value}")?;
        }
    }
    writeln!(writer)
}

fn json(writer: &mut Writer<'_>, level: Level, fields: Vec<(&str, Shown)>) -> fmt::Result {
    writer.write_str("{\"timestamp\":\"")?;
    Clock.format_time(writer)?;
    write!(writer, "\",\"level\":\"{level}\"")?;
    for (name, value) in fields {
        let value = match value {
            Shown::Text(text) | Shown::Formatted(text) => Value::String(text),
            Shown::Value(value) => value,
        };
        write!(writer, ",{}:{}", Value::from(name), escaped_json(&value.to_string()))?;
    }
    writeln!(writer, "}}")
}

/// The value of a field.
enum Shown {
    /// A text: in quotes, unless it is the message.
    Text(String),
    /// Anything else as it formats itself.
    Formatted(String),
    /// A number or a boolean.
    Value(Value),
}

/// The fields of an event in their order, the message first.
struct Fields {
    is_ours: bool,
    left_bytes: usize,
    list: Vec<(&'static str, Shown)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Shown) {
        // What the `log` crate's records say of their place.
        if !field.name().starts_with("log.") {
            self.list.push((field.name(), value));
        }
    }

    /// Formats `value` as far as there is room.
    fn take(&mut self, value: fmt::Arguments<'_>) -> String {
        let bytes_max = self.left_bytes.min(VALUE_BYTES_MAX);
        let mut bounded = Bounded::new(bytes_max);
        // It ends early when there is no room.
        let _ = bounded.write_fmt(value);
        self.left_bytes -= bytes_max - bounded.left_bytes();
        let mut text = bounded.into_text();
        if self.is_ours
            && let Some(at) = text.find(DETAIL)
        {
            text.truncate(at + DETAIL.len());
            text.push_str(NOT_LOGGED);
        }
        text
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = self.take(format_args!("{value:?}"));
        self.push(field, Shown::Formatted(text));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.take(format_args!("{value}"));
        self.push(field, Shown::Text(text));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Shown::Value(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Shown::Value(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Shown::Value(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Shown::Value(value.into()));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::printable::is_unprintable;

    /// Everything that could end a line, move a cursor or turn text round.
    const HOSTILE: &str =
        "a\n2026-12-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{7f}\u{85}\u{202e}\u{2028}\u{e0041}\\\"}";

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs, without the time of day.
    fn log_of(format: LogFormat, is_coloured: bool, work: impl Fn()) -> String {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(is_coloured)
            .event_format(Line(format))
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let zulu = text.find('Z').expect("each line has a time");
        let time = &text[zulu - 26..=zulu];
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{text}");
        text.replace(time, "<time>")
    }

    fn events() {
        tracing::info!(
            pipeline = "readings",
            partition = 3_i32,
            share = 0.5,
            lost = false,
            "all {}",
            "well"
        );
        tracing::warn!(partitions = ?[1, 2], error = %std::io::Error::other("no\nroom"), "odd");
    }

    #[test]
    fn a_line_has_its_fields_in_order() {
        let first = log_of(LogFormat::Text, false, || {
            tracing::info!(pipeline = "readings", partition = 3_i32, share = 0.5, "all {}", "well");
        });
        assert_eq!(first, "<time>  INFO all well pipeline=\"readings\" partition=3 share=0.5\n");
        let both = log_of(LogFormat::Json, true, events);
        let second = both.lines().nth(1).unwrap();
        assert_eq!(
            both.lines().next().unwrap(),
            r#"{"timestamp":"<time>","level":"INFO","message":"all well","pipeline":"readings","partition":3,"share":0.5,"lost":false}"#
        );
        let (_, fields) = second.split_once("\"level\"").unwrap();
        assert_eq!(fields, r#":"WARN","message":"odd","partitions":"[1, 2]","error":"no\nroom"}"#);
        let coloured = log_of(LogFormat::Text, true, || tracing::error!(code = "SL-X001", "no"));
        assert_eq!(
            coloured,
            "\x1b[2m<time>\x1b[0m \x1b[31mERROR\x1b[0m no \x1b[3mcode\x1b[0m\x1b[2m=\x1b[0m\"SL-X001\"\n"
        );
    }

    #[test]
    fn foreign_text_forges_no_line_and_moves_no_cursor() {
        let work = || {
            let error = std::io::Error::other(HOSTILE);
            tracing::warn!(name = HOSTILE, %error, seen = ?HOSTILE, "foreign: {HOSTILE}");
            tracing::error!(target: "librdkafka", "{HOSTILE}");
        };
        let text = log_of(LogFormat::Text, false, work);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| !line.contains(is_unprintable)), "{text}");
        assert!(
            text.contains(r"foreign: a\n2026-12-01T00:00:00Z ERROR forged\r\u{1b}[2J"),
            "{text}"
        );
        let coloured = log_of(LogFormat::Text, true, work);
        assert!(!coloured.contains("\x1b[2J"), "{coloured}");
        let json = log_of(LogFormat::Json, false, work);
        assert_eq!(json.lines().count(), 2, "{json}");
        assert!(json.lines().all(|line| !line.contains(is_unprintable)), "{json}");
        let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], format!("foreign: {HOSTILE}"));
        assert_eq!(first["name"], HOSTILE);
        assert_eq!(first["error"], HOSTILE);
    }

    #[test]
    fn a_line_has_a_bounded_length() {
        for fill in ["x", "\n", "\u{e0041}", "\\"] {
            let long = fill.repeat(1 << 20);
            let work = || {
                tracing::warn!(a = long, b = %long, c = ?long, d = %long, e = %long, f = %long, g = 7, "{long}");
            };
            for format in [LogFormat::Text, LogFormat::Json] {
                let line = log_of(format, false, work);
                assert!(line.len() < 10 << 10, "{} bytes of {fill:?}", line.len());
                assert!(line.len() > 2 << 10, "{} bytes of {fill:?}", line.len());
                assert!(line.contains('…') && line.contains('7'), "{line}");
            }
        }
    }

    #[test]
    fn the_detail_of_postgres_is_not_logged() {
        let work = || {
            let said = "duplicate key (23505); constraint: readings_pkey; detail: Key (id)=(secret) exists.";
            tracing::warn!(code = "SL-P007", "cannot write: {said}");
            tracing::warn!(reason = said, "rows rejected");
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            let log = log_of(format, false, work);
            assert!(!log.contains("secret"), "{log}");
            let kept = "duplicate key (23505); constraint: readings_pkey; detail: not logged";
            assert_eq!(log.matches(kept).count(), 2, "{log}");
            assert!(log.contains("SL-P007"), "{log}");
        }
        // A guest's own words are its author's choice.
        let guest = || tracing::info!(target: "plugin", "one; detail: two");
        assert!(log_of(LogFormat::Text, false, guest).contains("one; detail: two"));
    }
}
