//! The host's log as events that can be waited for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `message`, or the whole line when it is not JSON.
    pub message: String,
    /// `level`.
    pub level: String,
    /// The line.
    pub line: String,
    value: Value,
}

impl Event {
    /// From one line of the log.
    pub fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).unwrap_or_default();
        let mut event =
            Self { message: String::new(), level: String::new(), line: line.to_owned(), value };
        event.message = event.text("message").unwrap_or_else(|| line.to_owned());
        event.level = event.text("level").unwrap_or_default();
        event
    }

    /// True for an event `message`, with or without details behind a colon.
    pub fn is(&self, message: &str) -> bool {
        self.message
            .strip_prefix(message)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }

    /// The field `name`: of the event or of the span it happened in.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let places = [Some(&self.value), self.value.get("fields"), self.value.get("span")];
        places.into_iter().flatten().find_map(|place| place.get(name))
    }

    /// The field `name` as text, whatever its type.
    pub fn text(&self, name: &str) -> Option<String> {
        self.field(name)
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    }

    /// The field `name` as a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.field(name).and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()))
    }
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    closed: bool,
}

/// Collects events from a stream until it ends.
#[derive(Debug, Default)]
pub(super) struct Events {
    state: Mutex<State>,
    changed: Condvar,
}

impl Events {
    /// Reads `log` in a thread of its own and copies it to `copy`.
    pub fn collect(log: impl Read + Send + 'static, mut copy: File) -> Arc<Self> {
        let events = Arc::new(Self::default());
        let collected = Arc::clone(&events);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(log);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                // A full disk must not stop the host.
                drop(copy.write_all(&line));
                collected.change(|state| {
                    state.events.push(Event::parse(String::from_utf8_lossy(&line).trim_end()));
                });
                line.clear();
            }
            collected.change(|state| state.closed = true);
        });
        events
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Event> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// Waits until `find` finds something; gives up after `limit` or when the log has ended without it.
    pub fn wait<T>(&self, limit: Duration, find: impl Fn(&[Event]) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = find(&state.events) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("not in time");
            }
            if state.closed {
                bail!("the log has ended");
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the whole log was read.
    pub fn wait_until_closed(&self, limit: Duration) -> Result<()> {
        crate::wait::until_true("the log was read", limit, || {
            Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner).closed)
        })
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_the_log_format_puts_them() {
        for line in [
            r#"{"level":"INFO","message":"partition blocked","partition":3,"code":"SL-K004"}"#,
            r#"{"level":"INFO","fields":{"message":"partition blocked: topic is another one","partition":"3"},"span":{"code":"SL-K004"}}"#,
        ] {
            let event = Event::parse(line);
            assert_eq!(event.level, "INFO");
            assert_eq!(event.number("partition"), Some(3));
            assert_eq!(event.text("code").as_deref(), Some("SL-K004"));
            assert_eq!(event.text("pipeline"), None);
            assert!(event.is("partition blocked") && !event.is("partition"));
        }
        assert_eq!(Event::parse("thread panicked").message, "thread panicked");
    }
}
