//! TLS with Postgres, as libpq does it: which `sslmode` checks what, whom it trusts, and how we prove who we are.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::SslMode;

use super::address::TlsOptions;
use crate::fault::{Fault, sqlstate};
use crate::files::Stamp;

/// The word for the certificates that the system trusts.
const SYSTEM: &str = "system";

/// What the server has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    /// That somebody whom we trust vouches for it.
    Chain,
    /// And that it has the name by which it was called.
    ChainAndName,
}

/// Whether a session is encrypted, as the library has it.
///
/// # Errors
/// `SL-P011` when `sslmode` is unknown, or too weak for what is to be trusted.
pub(super) fn ssl_mode(options: &TlsOptions) -> Result<SslMode, Fault> {
    modes(options).map(|(mode, _)| mode)
}

/// Makes connections with TLS, with certificates and keys as they were read last.
pub(super) struct Tls {
    options: TlsOptions,
    current: Mutex<Read>,
}

/// A connector, and the files as they were when it was made.
struct Read {
    connector: MakeTlsConnector,
    stamps: Vec<Option<Stamp>>,
}

impl Tls {
    /// Reads the files that `options` name.
    ///
    /// # Errors
    /// `SL-P017` when a certificate or key cannot be read, `SL-P011` as [`ssl_mode`].
    pub fn new(options: TlsOptions) -> Result<Self, Fault> {
        let current = Mutex::new(Read::now(&options)?);
        Ok(Self { options, current })
    }

    /// What connections are made with.
    pub fn current(&self) -> MakeTlsConnector {
        self.lock().connector.clone()
    }

    /// True when we show a certificate of our own.
    pub fn has_certificate(&self) -> bool {
        self.options.sslcert.is_some()
    }

    /// After a handshake has failed: certificates are renewed on disk. `None` when they are as they were, or cannot be read.
    pub fn read_again(&self) -> Option<MakeTlsConnector> {
        let mut current = self.lock();
        if current.stamps == stamps(&self.options) {
            return None;
        }
        match Read::now(&self.options) {
            Ok(read) => *current = read,
            Err(fault) => {
                tracing::warn!("cannot read certificates again: {}", fault.message);
                return None;
            }
        }
        Some(current.connector.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Read> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read {
    /// Stamps first: a file that is replaced in between is read once more.
    fn now(options: &TlsOptions) -> Result<Self, Fault> {
        let stamps = stamps(options);
        Ok(Self { connector: connector(options)?, stamps })
    }
}

fn stamps(options: &TlsOptions) -> Vec<Option<Stamp>> {
    let files = [&options.sslrootcert, &options.sslcert, &options.sslkey];
    files.into_iter().flatten().map(|file| Stamp::of(Path::new(file))).collect()
}

fn connector(options: &TlsOptions) -> Result<MakeTlsConnector, Fault> {
    let (_, check) = modes(options)?;
    let failed = |error: ErrorStack| Fault::block(sqlstate::TLS, format!("sink.url: {error}"));
    let mut builder = SslConnector::builder(SslMethod::tls()).map_err(failed)?;
    // OpenSSL is the system's and trusts by itself what the system trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` say
    // another place.
    if let Some(file) = options.sslrootcert.as_deref().filter(|file| *file != SYSTEM) {
        builder.set_cert_store(X509StoreBuilder::new().map_err(failed)?.build());
        builder.set_ca_file(file).map_err(|error| unreadable("sslrootcert", file, error))?;
    }
    if check == Check::Nothing {
        builder.set_verify(SslVerifyMode::NONE);
    }
    present_certificate(options, &mut builder)?;
    let mut connector = MakeTlsConnector::new(builder.build());
    if check != Check::ChainAndName {
        connector.set_callback(|connection, _| {
            connection.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}

fn modes(options: &TlsOptions) -> Result<(SslMode, Check), Fault> {
    let system = options.sslrootcert.as_deref() == Some(SYSTEM);
    let default = if system { "verify-full" } else { "prefer" };
    let mode = options.sslmode.as_deref().unwrap_or(default);
    if system && mode != "verify-full" {
        let message =
            format!("sink.url: sslmode {mode} is too weak for sslrootcert=system; use verify-full");
        return Err(Fault::exit(sqlstate::URL, message));
    }
    // Whoever says whom to trust wants it to be checked.
    let if_given = if options.sslrootcert.is_some() { Check::Chain } else { Check::Nothing };
    Ok(match mode {
        "disable" => (SslMode::Disable, Check::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, if_given),
        "require" => (SslMode::Require, if_given),
        "verify-ca" => (SslMode::Require, Check::Chain),
        "verify-full" => (SslMode::Require, Check::ChainAndName),
        other => {
            let message = format!(
                "sink.url: sslmode {other:?} is none of disable, allow, prefer, require, verify-ca, verify-full"
            );
            return Err(Fault::exit(sqlstate::URL, message));
        }
    })
}

/// Our own certificate, if there is one.
fn present_certificate(
    options: &TlsOptions,
    builder: &mut SslConnectorBuilder,
) -> Result<(), Fault> {
    let (certificate, key) = match (&options.sslcert, &options.sslkey) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return Ok(()),
        _ => {
            let message = "sink.url: sslcert and sslkey belong together";
            return Err(Fault::exit(sqlstate::URL, message));
        }
    };
    builder
        .set_certificate_chain_file(certificate)
        .map_err(|error| unreadable("sslcert", certificate, error))?;
    let pem = fs::read(key).map_err(|error| unreadable("sslkey", key, error))?;
    let password = options.sslpassword.as_deref().unwrap_or_default();
    let private = PKey::private_key_from_pem_passphrase(&pem, password.as_bytes())
        .map_err(|error| unreadable("sslkey", key, error))?;
    builder.set_private_key(&private).map_err(|error| unreadable("sslkey", key, error))?;
    builder.check_private_key().map_err(|error| unreadable("sslkey", key, error))
}

fn unreadable(option: &str, file: &str, error: impl std::fmt::Display) -> Fault {
    Fault::block(sqlstate::TLS, format!("sink.url: read {option} {file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::postgres::address::Address;

    #[test]
    fn each_mode_checks_what_libpq_checks() {
        for (options, expected) in [
            ("", Some((SslMode::Prefer, Check::Nothing))),
            ("sslmode=disable", Some((SslMode::Disable, Check::Nothing))),
            ("sslmode=require", Some((SslMode::Require, Check::Nothing))),
            ("sslmode=require sslrootcert=ca.pem", Some((SslMode::Require, Check::Chain))),
            ("sslrootcert=ca.pem", Some((SslMode::Prefer, Check::Chain))),
            ("sslmode=verify-ca", Some((SslMode::Require, Check::Chain))),
            ("sslmode=verify-full", Some((SslMode::Require, Check::ChainAndName))),
            ("sslrootcert=system", Some((SslMode::Require, Check::ChainAndName))),
            ("sslmode=verify-ca sslrootcert=system", None),
            ("sslmode=disable sslrootcert=system", None),
            ("sslmode=maybe", None),
        ] {
            assert_eq!(modes(&Address::parse(options).tls).ok(), expected, "{options}");
        }
    }
}
