//! Why brokers cannot be reached: whoever asks them learns only that nobody answers, and librdkafka tells the cause apart
//! from that.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::fault::{Fault, broker};
use crate::source::handshake::{self, Refusal};
use crate::source::properties;

/// librdkafka says the same again after half of this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// What may be a refusal or an outage counts as the former for so long: an outage has other errors by then.
const LIKELY_FOR: Duration = Duration::from_secs(10);

/// What a client was told last.
pub struct Reasons {
    /// How the client reaches brokers.
    config: ClientConfig,
    known: Mutex<Option<Reason>>,
}

#[derive(Debug, Clone)]
struct Reason {
    code: Code,
    text: String,
    at: Instant,
}

impl Reason {
    fn refusal(&self) -> Refusal {
        Refusal::of(self.code, &self.text)
    }

    /// A connection that is refused is closed as well, and what follows says less.
    fn outlasts(&self, next: &Self) -> bool {
        let wait = match self.refusal() {
            Refusal::Certain => FORGOTTEN_AFTER,
            Refusal::Likely => LIKELY_FOR,
            Refusal::None => return false,
        };
        next.refusal() < self.refusal() && self.at.elapsed() < wait
    }
}

impl Reasons {
    /// Those of a client with `config`.
    pub fn of(config: &ClientConfig) -> Self {
        Self { config: properties::reaching(config), known: Mutex::default() }
    }

    /// librdkafka has met `error`.
    pub fn note(&self, error: &KafkaError, text: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {text}");
        let Some(code) = error.rdkafka_error_code() else { return };
        // Each broker was told of by itself before.
        if code == Code::AllBrokersDown {
            return;
        }
        let reason = Reason { code, text: text.to_owned(), at: Instant::now() };
        let mut known = self.lock();
        if !known.as_ref().is_some_and(|it| it.outlasts(&reason)) {
            *known = Some(reason);
        }
    }

    /// Brokers answer.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// `SL-K002`, or `SL-K020` where they were reached and refused us: brokers do not answer what is asked of `topic`. May
    /// connect once more to find out why.
    pub fn away(&self, topic: &str, error: &impl Display) -> Fault {
        if let Some(fault) = self.refused(topic) {
            return fault;
        }
        let known = self.recent();
        let reason = known.map_or_else(String::new, |it| format!(": {}", it.text));
        Fault::retry(broker::AWAY, format!("no broker responds for topic {topic}: {error}{reason}"))
    }

    /// `SL-K020` where brokers were reached and refused us when they were asked for `topic`. May connect once more to find
    /// out why.
    pub fn refused(&self, topic: &str) -> Option<Fault> {
        let Some(known) = self.recent().filter(|it| it.refusal() > Refusal::None) else {
            return handshake::wants_tls(&self.config);
        };
        Some(handshake::fault(&self.config, topic, &known.text))
    }

    fn recent(&self) -> Option<Reason> {
        self.lock().clone().filter(|it| it.at.elapsed() < FORGOTTEN_AFTER)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reason>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code) -> KafkaError {
        KafkaError::Global(code)
    }

    #[test]
    fn a_refused_login_is_told_as_such_until_brokers_answer() {
        let reasons = Reasons::of(&ClientConfig::new());
        let told = |reasons: &Reasons| reasons.away("t", &"timed out").to_string();
        assert_eq!(told(&reasons), "SL-K002: no broker responds for topic t: timed out");
        reasons.note(&error(Code::BrokerTransportFailure), "a: connection refused");
        reasons.note(&error(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(
            told(&reasons),
            "SL-K002: no broker responds for topic t: timed out: a: connection refused"
        );
        reasons.note(&error(Code::Authentication), "a: wrong password");
        reasons.note(&error(Code::BrokerTransportFailure), "a: disconnected");
        assert_eq!(told(&reasons), "SL-K020: brokers do not let us in: a: wrong password");
        reasons.note(&error(Code::SSL), "a: certificate has expired");
        assert_eq!(told(&reasons), "SL-K020: brokers do not let us in: a: certificate has expired");
        reasons.forget();
        assert_eq!(told(&reasons), "SL-K002: no broker responds for topic t: timed out");
        let alert = "a: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate";
        reasons.note(&error(Code::BrokerTransportFailure), alert);
        let ours =
            "the broker wants a certificate of ours, and ssl.certificate.location names none";
        assert_eq!(told(&reasons), format!("SL-K020: brokers do not let us in: {alert}: {ours}"));
    }

    #[test]
    fn a_listener_of_another_protocol_is_told_from_an_outage_as_far_as_can_be() {
        let config = ClientConfig::new().set("security.protocol", "ssl").clone();
        let reasons = Reasons::of(&config);
        let told = |reasons: &Reasons| reasons.away("t", &"timed out").to_string();
        let closed = "ssl://b:1/1: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?";
        reasons.note(&error(Code::BrokerTransportFailure), closed);
        reasons.note(&error(Code::BrokerTransportFailure), "b:1/1: connection refused");
        assert_eq!(
            told(&reasons),
            format!(
                "SL-K020: brokers do not let us in: b:1 may expect plain text, and security.protocol is ssl: {closed}"
            )
        );
        reasons.note(&error(Code::Authentication), "b:1/1: wrong password");
        assert_eq!(told(&reasons), "SL-K020: brokers do not let us in: b:1/1: wrong password");
        reasons.forget();
        // An alert of TLS 1.2, read as the length of an answer; then another length.
        for (length, refused) in [(0x1503_0300, true), (0x1503_0100, true), (352_000, false)] {
            let reasons = Reasons::of(&ClientConfig::new());
            let text =
                format!("b:1/1: Receive failed: Invalid response size {length} (0..1): increase");
            reasons.note(&error(Code::BadMessage), &text);
            let told = told(&reasons);
            assert_eq!(told.starts_with("SL-K020"), refused, "{told}");
            assert_eq!(
                told.contains("b:1 expects TLS, and security.protocol is plaintext"),
                refused,
                "{told}"
            );
        }
    }
}
