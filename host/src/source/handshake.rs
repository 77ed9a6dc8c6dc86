//! Why a broker that was reached does not let us in, in words that name the cause: librdkafka's own name it for passwords,
//! and for TLS only that something is wrong.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode as Code;

use crate::fault::{Fault, broker};
use crate::files;
use crate::source::log::refused;
use crate::source::native::{self, Answer, FetchError};
use crate::source::properties;

/// How long the cause of a failed handshake is looked for: a handshake takes milliseconds.
const PROBE_WAIT: Duration = Duration::from_secs(5);
/// So many brokers are greeted in TLS at most, and so long each may take to answer.
const GREETED_MAX: usize = 3;
const GREETING_WAIT: Duration = Duration::from_secs(1);
/// More than any certificate with its chain has.
const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;

/// librdkafka's words where a listener speaks another protocol than `security.protocol` says. It guesses from a connection
/// that was closed, which an outage does, too.
const CLOSED_IN_TLS: &str = "connecting to a PLAINTEXT broker listener?";
const CLOSED_IN_PLAINTEXT: &str = "connecting to a SSL listener?";
/// A frame's length, as librdkafka tells it, is what a plain-text client reads from an alert of TLS: its type (0x15), its
/// version (0x03 and another byte), and the first byte of its length.
const LENGTH: &str = "Invalid response size ";
const ALERT: u32 = 0x1503;

/// How sure it is that brokers refuse us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// They do not: the connection failed for another reason.
    None,
    /// The connection was closed where it would be for a wrong `security.protocol`, or for an outage.
    Likely,
    /// They said so.
    Certain,
}

impl Refusal {
    /// What an error of librdkafka says of that.
    pub fn of(code: Code, text: &str) -> Self {
        // With TLS 1.3 a broker rejects our certificate after the handshake, and librdkafka takes it for a broken
        // connection.
        if is_alert(text) || is_tls(text) || broker::remedy(code).0 == broker::LOGIN {
            Self::Certain
        } else if text.contains(CLOSED_IN_TLS) || text.contains(CLOSED_IN_PLAINTEXT) {
            Self::Likely
        } else {
            Self::None
        }
    }
}

/// A broker ended the handshake, or the connection after it.
fn is_alert(text: &str) -> bool {
    text.contains("SSL routines") && text.contains(" alert ")
}

/// The same because of what we show, or do not show.
fn is_alert_of_certificate(text: &str) -> bool {
    let alert = text.split_once(" alert ").filter(|_| is_alert(text));
    alert.is_some_and(|(_, alert)| alert.contains("certificate") || alert.contains("unknown ca"))
}

/// An answer in TLS to a request in plain text.
fn is_tls(text: &str) -> bool {
    let Some((_, rest)) = text.split_once(LENGTH) else { return false };
    let digits = rest.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
    digits.parse::<u32>().is_ok_and(|length| length >> 16 == ALERT)
}

/// `SL-K020` when brokers refuse a client with `config` that asks for `topic`, as a pipeline would be told; nothing when they
/// let it in, or do not answer in time. Blocks for a few seconds at most.
pub fn refusal(config: &ClientConfig, topic: &str) -> Option<Fault> {
    let config = properties::reaching(config);
    let wanted = |error: &FetchError| Refusal::of(error.code, &error.text) > Refusal::None;
    match native::probe(&config, topic, PROBE_WAIT, wanted) {
        Ok(Answer::Met(error)) => Some(fault(&config, topic, &error.text)),
        Ok(Answer::Reached) => None,
        Ok(Answer::Unknown) => wants_tls(&config),
        Err(error) => Some(refused(&error)),
    }
}

/// `SL-K020` with the cause of a refusal, which a client with `config` met as `text` when it asked for `topic`. May connect
/// once more, for a few seconds at most.
pub(super) fn fault(config: &ClientConfig, topic: &str, text: &str) -> Fault {
    let text = named(config, topic, text);
    Fault::retry(broker::LOGIN, format!("brokers do not let us in: {text}"))
}

/// `SL-K020` when a client with `config` speaks plain text, and one of the first brokers answers in TLS: such a broker closes
/// connections without a word, and librdkafka counts that as an outage. Blocks for a few seconds at most.
pub(super) fn wants_tls(config: &ClientConfig) -> Option<Fault> {
    let protocol = config.get("security.protocol").unwrap_or("plaintext");
    if !protocol.to_ascii_lowercase().ends_with("plaintext") {
        return None;
    }
    let brokers = config.get("bootstrap.servers")?.split(',').map(str::trim);
    let broker = brokers.take(GREETED_MAX).find(|broker| answers_in_tls(broker))?;
    let reason = format!("{broker} expects TLS, and security.protocol is {protocol}");
    Some(Fault::retry(broker::LOGIN, format!("brokers do not let us in: {reason}")))
}

/// True when a handshake goes as far as the broker's certificate. Nothing is sent behind it, and nobody is trusted.
fn answers_in_tls(broker: &str) -> bool {
    let address = broker.split_once("://").map_or(broker, |(_, address)| address);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let greet = || -> Option<bool> {
        let address = address.to_socket_addrs().ok()?.next()?;
        let stream = TcpStream::connect_timeout(&address, GREETING_WAIT).ok()?;
        stream.set_read_timeout(Some(GREETING_WAIT)).ok()?;
        stream.set_write_timeout(Some(GREETING_WAIT)).ok()?;
        let mut connector = SslConnector::builder(SslMethod::tls_client()).ok()?;
        connector.set_verify(SslVerifyMode::NONE);
        Some(connector.build().connect(host, stream).is_ok())
    };
    greet().unwrap_or(false)
}

/// The text of a refusal with its cause.
fn named(config: &ClientConfig, topic: &str, text: &str) -> String {
    let protocol = config.get("security.protocol").unwrap_or("plaintext");
    let place = native::broker_of(text);
    let broker = place.unwrap_or("a broker");
    if text.contains(native::REJECTED) {
        // A client of our own has put the reason in the place of OpenSSL's error.
        let is_known = !text.contains("SSL routines");
        let broker = place.or(config.get("bootstrap.servers")).filter(|_| !is_known);
        let reason = broker.and_then(|broker| rejected(config, topic, broker));
        return reason.unwrap_or_else(|| text.to_owned());
    }
    if is_alert_of_certificate(text) {
        return format!("{text}: {}", own_certificate(config));
    }
    if is_tls(text) {
        return format!("{broker} expects TLS, and security.protocol is {protocol}: {text}");
    }
    if text.contains(CLOSED_IN_PLAINTEXT) {
        return format!("{broker} may expect TLS, and security.protocol is {protocol}: {text}");
    }
    if text.contains(CLOSED_IN_TLS) {
        return format!(
            "{broker} may expect plain text, and security.protocol is {protocol}: {text}"
        );
    }
    text.to_owned()
}

/// Why the certificate of `broker` is rejected. Only clients of our own are told that, not those of librdkafka's wrapper.
fn rejected(config: &ClientConfig, topic: &str, broker: &str) -> Option<String> {
    let mut config = properties::reaching(config);
    config.set("bootstrap.servers", broker);
    let wanted = |error: &FetchError| error.text.contains(native::REJECTED);
    match native::probe(&config, topic, PROBE_WAIT, wanted) {
        Ok(Answer::Met(error)) => Some(error.text),
        Ok(Answer::Reached | Answer::Unknown) => None,
        Err(error) => {
            tracing::debug!("cannot tell why a certificate is rejected: {error}");
            None
        }
    }
}

/// What we show to brokers that ask who we are.
fn own_certificate(config: &ClientConfig) -> String {
    let pem = match (config.get("ssl.certificate.pem"), config.get("ssl.certificate.location")) {
        (Some(pem), _) => Some(pem.as_bytes().to_vec()),
        (None, Some(file)) => {
            files::read_regular(file.as_ref(), CERTIFICATE_BYTES_MAX).ok().map(|(bytes, _)| bytes)
        }
        (None, None) if config.get("ssl.keystore.location").is_some() => {
            return "the broker does not accept our certificate, that of ssl.keystore.location"
                .to_owned();
        }
        (None, None) => {
            return "the broker wants a certificate of ours, and ssl.certificate.location names none".to_owned();
        }
    };
    match pem.and_then(|pem| X509::from_pem(&pem).ok()) {
        Some(certificate) => described(&certificate),
        None => "the broker does not accept our certificate, which cannot be read".to_owned(),
    }
}

fn described(certificate: &X509) -> String {
    let subject = native::name(certificate.subject_name());
    let is_over = Asn1Time::days_from_now(0).is_ok_and(|now| certificate.not_after() < now);
    if is_over {
        let end = certificate.not_after();
        return format!("our certificate has expired: {subject} was valid until {end}");
    }
    let issuer = native::name(certificate.issuer_name());
    format!("the broker does not accept our certificate: {subject} is signed by {issuer}")
}
