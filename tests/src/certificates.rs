//! Certificates of authorities of our own: right ones, and such as are wrong in one respect.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder};

use crate::postgres::Database;

const DAY_S: i64 = 86_400;

/// Somebody who signs certificates.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

/// A certificate with its key.
pub struct Issued {
    certificate: X509,
    key: PKey<Private>,
}

/// When a certificate may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    /// Since yesterday, and tomorrow still.
    Now,
    /// Until yesterday.
    Before,
    /// From tomorrow on.
    Later,
}

impl Authority {
    /// An authority with a key of its own.
    pub fn new(name: &str) -> Result<Self> {
        let key = new_key()?;
        let subject = named(name)?;
        let mut builder = unsigned(&subject, &key, Valid::Now)?;
        builder.set_issuer_name(&subject)?;
        builder.append_extension(BasicConstraints::new().critical().ca().build()?)?;
        builder.sign(&key, MessageDigest::sha256())?;
        Ok(Self { certificate: builder.build(), key })
    }

    /// A certificate for `name`, which is that of a host or of a client.
    pub fn issue(&self, name: &str, valid: Valid) -> Result<Issued> {
        let key = new_key()?;
        let mut builder = unsigned(&*named(name)?, &key, valid)?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        let mut names = SubjectAlternativeName::new();
        match name.parse::<std::net::IpAddr>() {
            Ok(_) => names.ip(name),
            Err(_) => names.dns(name),
        };
        let names = names.build(&builder.x509v3_context(Some(&self.certificate), None))?;
        builder.append_extension(names)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(Issued { certificate: builder.build(), key })
    }

    /// Writes the authority's certificate to `name.pem` in `folder`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let file = folder.join(format!("{name}.pem"));
        replace(&file, &self.certificate.to_pem()?)?;
        Ok(file)
    }
}

impl Issued {
    /// Writes `name.pem` and `name.key` into `folder`, each at once.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        replace(&files.0, &self.certificate_pem()?)?;
        replace(&files.1, &self.key_pem()?)?;
        Ok(files)
    }

    /// Gives it to the server of `database`, which presents it from the moment on at which it has read its settings again.
    pub fn present_on(&self, database: &Database) -> Result<()> {
        let files = [("server.crt", self.certificate_pem()?), ("server.key", self.key_pem()?)];
        for (file, text) in files {
            database.put_file(file, &String::from_utf8(text)?)?;
        }
        database.execute("SELECT pg_reload_conf()")
    }

    /// The certificate.
    pub fn certificate_pem(&self) -> Result<Vec<u8>> {
        Ok(self.certificate.to_pem()?)
    }

    /// Its key.
    pub fn key_pem(&self) -> Result<Vec<u8>> {
        Ok(self.key.private_key_to_pem_pkcs8()?)
    }

    /// Both for programs that run on Java, under the name `alias`.
    pub fn pkcs12(&self, alias: &str, password: &str) -> Result<Vec<u8>> {
        let mut builder = Pkcs12::builder();
        builder.name(alias).pkey(&self.key).cert(&self.certificate);
        Ok(builder.build2(password)?.to_der()?)
    }
}

/// Whoever reads the file finds the old content or the new one.
fn replace(file: &Path, content: &[u8]) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, content)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    Ok(fs::rename(new, file)?)
}

fn new_key() -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

fn named(name: &str) -> Result<X509Name> {
    let mut builder = X509NameBuilder::new()?;
    builder.append_entry_by_text("CN", name)?;
    Ok(builder.build())
}

fn unsigned(
    subject: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
    valid: Valid,
) -> Result<X509Builder> {
    let (from, to) = match valid {
        Valid::Now => (-DAY_S, DAY_S),
        Valid::Before => (-2 * DAY_S, -DAY_S),
        Valid::Later => (DAY_S, 2 * DAY_S),
    };
    let now = jiff::Timestamp::now().as_second();
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let mut number = BigNum::new()?;
    number.rand(64, MsbOption::ONE, false)?;
    let number = number.to_asn1_integer()?;
    builder.set_serial_number(&number)?;
    builder.set_subject_name(subject)?;
    builder.set_pubkey(key)?;
    let (from, to) = (Asn1Time::from_unix(now + from)?, Asn1Time::from_unix(now + to)?);
    builder.set_not_before(&from)?;
    builder.set_not_after(&to)?;
    Ok(builder)
}
