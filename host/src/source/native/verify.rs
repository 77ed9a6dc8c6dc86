//! Why OpenSSL rejects a broker's certificate: librdkafka's errors say no more than that it does. Decides nothing.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::{ptr, slice};

use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef, X509Ref, X509VerifyResult};
use rdkafka::bindings as sys;

use super::client::Sockets;
use super::text;
use crate::printable::escaped;

/// What librdkafka's errors of such a handshake have in common, whatever the release of OpenSSL.
pub const REJECTED: &str = "certificate verify failed";

/// OpenSSL's numbers: `X509_V_OK` and errors of `x509_vfy.h` that the certificate itself explains.
const OK: c_int = 0;
const NOT_YET_VALID: c_int = 9;
const EXPIRED: c_int = 10;
const WRONG_HOST: c_int = 62;
const WRONG_IP: c_int = 64;

/// Names of a certificate that are shown at most.
const NAMES_MAX: usize = 5;
/// Brokers that are remembered at most.
const BROKERS_MAX: usize = 100;

/// What was found out by one client, by broker (`host:port`).
#[derive(Default)]
pub(super) struct Rejections(Mutex<BTreeMap<String, String>>);

impl Rejections {
    fn note(&self, broker: String, reason: String) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < BROKERS_MAX || known.contains_key(&broker) {
            known.insert(broker, reason);
        }
    }

    /// An error's text, with the reason in the place of librdkafka's guess where its broker's certificate was rejected.
    pub(super) fn explain(&self, error: String) -> String {
        let Some(broker) = broker_of(&error).filter(|_| error.contains(REJECTED)) else {
            return error;
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(broker) {
            Some(reason) => format!("{broker}: {REJECTED}: {reason}"),
            None => error,
        }
    }
}

/// Host and port at the head of one of librdkafka's errors: `ssl://broker:9093/bootstrap: SSL handshake failed: ...`.
/// `None` where the error concerns no connection to one broker.
pub fn broker_of(error: &str) -> Option<&str> {
    let (name, _) = error.split_once(": ")?;
    let address = name.split_once("://").map_or(name, |(_, address)| address);
    let (broker, _) = address.split_once('/')?;
    broker.contains(':').then_some(broker)
}

/// Called for each certificate of a broker's chain after OpenSSL has checked it. Accepts what OpenSSL accepts and nothing
/// else; what it rejects is noted.
///
/// # Safety
/// As librdkafka calls it: `error`, `certificate` and `message` are valid, and `sockets` points to [`Sockets`].
pub(super) unsafe extern "C" fn verify(
    _: *mut sys::rd_kafka_t,
    broker: *const c_char,
    _: i32,
    error: *mut c_int,
    _: c_int,
    certificate: *const c_char,
    certificate_bytes: usize,
    message: *mut c_char,
    message_bytes: usize,
    sockets: *mut c_void,
) -> c_int {
    // SAFETY: as the caller promises.
    let (error, broker) = unsafe { (*error, text(broker)) };
    if error == OK {
        return 1;
    }
    // SAFETY: as the caller promises; the certificate is in DER.
    let certificate = unsafe { slice::from_raw_parts(certificate.cast::<u8>(), certificate_bytes) };
    let reason = reason(error, host_of(&broker), X509::from_der(certificate).ok().as_deref());
    let told = reason.as_bytes();
    let length = told.len().min(message_bytes.saturating_sub(1));
    // SAFETY: the message has room for its length and the NUL; the context lives as long as its client.
    unsafe {
        if message_bytes > 0 {
            ptr::copy_nonoverlapping(told.as_ptr(), message.cast::<u8>(), length);
            *message.add(length) = 0;
        }
        (*sockets.cast_const().cast::<Sockets>()).rejections.note(broker, reason);
    }
    0
}

fn host_of(broker: &str) -> &str {
    broker.rsplit_once(':').map_or(broker, |(host, _)| host)
}

/// OpenSSL's words for `error`, and what `certificate` says to it.
fn reason(error: c_int, host: &str, certificate: Option<&X509Ref>) -> String {
    // SAFETY: OpenSSL has words for every number.
    let words = unsafe { X509VerifyResult::from_raw(error) }.error_string().to_lowercase();
    let Some(certificate) = certificate else { return words };
    let subject = name(certificate.subject_name());
    let details = match error {
        EXPIRED => format!("{subject} was valid until {}", certificate.not_after()),
        NOT_YET_VALID => format!("{subject} is valid from {}", certificate.not_before()),
        WRONG_HOST | WRONG_IP => {
            format!("the certificate is for {}, not for {host}", hosts(certificate))
        }
        _ => format!("{subject} is signed by {}", name(certificate.issuer_name())),
    };
    escaped(&format!("{words}: {details}"))
}

/// `CN=broker, O=Example`.
pub fn name(name: &X509NameRef) -> String {
    let part = |entry: &openssl::x509::X509NameEntryRef| {
        let key = entry.object().nid().short_name().unwrap_or("?").to_owned();
        entry.data().to_string().map_or_else(|_| key.clone(), |value| format!("{key}={value}"))
    };
    let parts: Vec<_> = name.entries().take(NAMES_MAX).map(part).collect();
    if parts.is_empty() { "a certificate without a subject".to_owned() } else { parts.join(", ") }
}

/// The hosts that a certificate is for; the subject's common name counts only where no host is named.
fn hosts(certificate: &X509Ref) -> String {
    let ip = |bytes: &[u8]| {
        let short = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
        let ip = short.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
        ip.ok().map(|it| it.to_string())
    };
    let names = certificate.subject_alt_names();
    let names: Vec<String> = names
        .iter()
        .flatten()
        .filter_map(|name| name.dnsname().map(str::to_owned).or_else(|| ip(name.ipaddress()?)))
        .take(NAMES_MAX)
        .collect();
    if !names.is_empty() {
        return names.join(", ");
    }
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next();
    let common = common.and_then(|entry| entry.data().to_string().ok());
    common.unwrap_or_else(|| "no host".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_of_an_error_is_found_where_there_is_one() {
        for (error, expected) in [
            ("ssl://b.example:9093/bootstrap: SSL handshake failed: x", Some("b.example:9093")),
            ("sasl_ssl://[::1]:9093/2: SSL handshake failed: x", Some("[::1]:9093")),
            ("b:9092/1: Disconnected: closed", Some("b:9092")),
            ("ssl://GroupCoordinator: b:9093: SSL handshake failed", None),
            ("1/1 brokers are down", None),
            ("b:9093: certificate verify failed: certificate has expired", None),
        ] {
            assert_eq!(broker_of(error), expected, "{error}");
        }
    }

    #[test]
    fn an_error_gets_the_reason_of_its_own_broker() {
        let rejections = Rejections::default();
        let error = |broker: &str| {
            format!(
                "ssl://{broker}/1: SSL handshake failed: error:0A000086:SSL routines::{REJECTED}: (after 3ms)"
            )
        };
        assert_eq!(rejections.explain(error("a:1")), error("a:1"), "nothing is known");
        rejections.note("a:1".into(), "certificate has expired".into());
        rejections.note("b:1".into(), "hostname mismatch".into());
        assert_eq!(
            rejections.explain(error("a:1")),
            "a:1: certificate verify failed: certificate has expired"
        );
        let other = "ssl://b:1/1: Connect failed: refused".to_owned();
        assert_eq!(rejections.explain(other.clone()), other, "it has another cause");
    }

    /// What is called with `OK` is accepted, whatever else is said; any error is not.
    #[test]
    fn what_openssl_rejects_is_never_accepted() {
        let sockets = Sockets::default();
        let verified = |error: c_int| {
            let (mut error, mut message, mut hidden) = (error, [1; 8], 0_u8);
            // SAFETY: all pointers are valid; what is no certificate is not read as one.
            let accepted = unsafe {
                verify(
                    ptr::null_mut(),
                    c"b:1".as_ptr(),
                    1,
                    &raw mut error,
                    0,
                    (&raw mut hidden).cast(),
                    1,
                    message.as_mut_ptr(),
                    message.len(),
                    (&raw const sockets).cast_mut().cast(),
                )
            };
            assert!(accepted == 1 || message[7] == 0, "the message ends where its room does");
            accepted
        };
        assert_eq!(verified(OK), 1);
        for error in (1..=100).chain([-1, 10_000]) {
            assert_eq!(verified(error), 0, "{error}");
        }
        let text = format!("b:1/1: {REJECTED}");
        verified(EXPIRED);
        assert_eq!(
            sockets.rejections.explain(text),
            "b:1: certificate verify failed: certificate has expired"
        );
    }
}
