//! Why brokers cannot be reached: whoever asks them learns only that nobody answers, and librdkafka tells the cause apart
//! from that.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::fault::{Fault, broker};

/// librdkafka says the same again after half of this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// What a client was told last.
#[derive(Debug, Default)]
pub struct Reasons(Mutex<Option<Reason>>);

#[derive(Debug)]
struct Reason {
    code: Code,
    text: String,
    at: Instant,
}

impl Reason {
    /// With TLS 1.3 a broker rejects our certificate after the handshake, and librdkafka takes it for a broken connection.
    fn is_refusal(&self) -> bool {
        let alert = self.text.contains("SSL routines") && self.text.contains(" alert ");
        alert || broker::remedy(self.code).0 == broker::LOGIN
    }
}

impl Reasons {
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
        // A connection that is refused is closed as well.
        let stays =
            known.as_ref().is_some_and(|it| it.is_refusal() && it.at.elapsed() < FORGOTTEN_AFTER);
        if !stays || reason.is_refusal() {
            *known = Some(reason);
        }
    }

    /// Brokers answer.
    pub fn forget(&self) {
        *self.lock() = None;
    }

    /// `SL-K002`, or `SL-K020` where they were reached and refused us: brokers do not answer what is asked of `topic`.
    pub fn away(&self, topic: &str, error: &impl Display) -> Fault {
        let known = self.lock();
        let known = known.as_ref().filter(|it| it.at.elapsed() < FORGOTTEN_AFTER);
        match known {
            Some(it) if it.is_refusal() => {
                Fault::retry(broker::LOGIN, format!("brokers do not let us in: {}", it.text))
            }
            Some(it) => {
                let message = format!("no broker answers for topic {topic}: {error}: {}", it.text);
                Fault::retry(broker::AWAY, message)
            }
            None => {
                Fault::retry(broker::AWAY, format!("no broker answers for topic {topic}: {error}"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reason>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let reasons = Reasons::default();
        let told = |reasons: &Reasons| reasons.away("t", &"timed out").to_string();
        assert_eq!(told(&reasons), "SL-K002: no broker answers for topic t: timed out");
        reasons.note(&error(Code::BrokerTransportFailure), "a: connection refused");
        reasons.note(&error(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(
            told(&reasons),
            "SL-K002: no broker answers for topic t: timed out: a: connection refused"
        );
        reasons.note(&error(Code::Authentication), "a: wrong password");
        reasons.note(&error(Code::BrokerTransportFailure), "a: disconnected");
        assert_eq!(told(&reasons), "SL-K020: brokers do not let us in: a: wrong password");
        reasons.note(&error(Code::SSL), "a: certificate has expired");
        assert_eq!(told(&reasons), "SL-K020: brokers do not let us in: a: certificate has expired");
        reasons.forget();
        assert_eq!(told(&reasons), "SL-K002: no broker answers for topic t: timed out");
        let alert = "a: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate";
        reasons.note(&error(Code::BrokerTransportFailure), alert);
        assert_eq!(told(&reasons), format!("SL-K020: brokers do not let us in: {alert}"));
    }
}
