//! What librdkafka's clients say for themselves: lines of their logs, and why they refuse their settings.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

use crate::fault::{Fault, broker};
use crate::source::reasons::Reasons;

/// `SL-K001`: librdkafka does not take the properties.
pub fn refused(error: &KafkaError) -> Fault {
    Fault::exit(broker::SETTINGS, format!("librdkafka refuses the settings: {error}"))
}

/// Of a client that only asks: sends the lines of its log to the host's, and knows why nobody answers.
pub struct Logged {
    /// As far as the client was polled.
    pub reasons: Reasons,
}

impl Logged {
    /// Of a client with `config`.
    pub fn of(config: &ClientConfig) -> Self {
        Self { reasons: Reasons::of(config) }
    }
}

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reasons.note(&error, reason);
    }
}

impl ConsumerContext for Logged {}

/// Of syslog's levels.
pub fn level_of(level: i32) -> RDKafkaLogLevel {
    match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// One line of librdkafka's log. Its connection errors (`FAIL`, `ERROR` where it says them again, and `SSLCERTVRFY` for
/// certificates) repeat each second while a broker is away; the host tells outages itself, once, so they are debug lines here. So are refused
/// commits (`COMMITFAIL`): what the group is told is informational, for lag tools, and told again.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning
            if !matches!(facility, "FAIL" | "ERROR" | "SSLCERTVRFY" | "COMMITFAIL") =>
        {
            tracing::warn!(target: "librdkafka", facility, "{text}");
        }
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}
