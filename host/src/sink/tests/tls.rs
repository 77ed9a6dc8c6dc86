//! TLS towards Postgres: what each `sslmode` accepts.

use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509NameBuilder};

use super::lab::{Database, wait_for};
use crate::demo::postgres::Throwaway;
use crate::sink::postgres::Options;

/// A certificate for 127.0.0.1 that nobody vouches for, and its key, as PEM.
fn certificate() -> (String, String) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "throwaway").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    let address =
        SubjectAlternativeName::new().ip("127.0.0.1").build(&builder.x509v3_context(None, None));
    builder.append_extension(address.unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let pem = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (pem(builder.build().to_pem().unwrap()), pem(key.private_key_to_pem_pkcs8().unwrap()))
}

/// Connects with `parameters` and says how, or why not.
fn connect(server: &Throwaway, host: &str, parameters: &str) -> String {
    let url = server.url().replace("127.0.0.1", host);
    let result = wait_for(async {
        let session = Options::parse(&format!("{url}?{parameters}"))?.connect().await?;
        let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        Ok::<bool, crate::fault::Fault>(session.query_one(query, &[]).await.unwrap().get("ssl"))
    });
    match result {
        Ok(true) => "with TLS".to_owned(),
        Ok(false) => "without TLS".to_owned(),
        Err(fault) => fault.code.to_owned(),
    }
}

#[test]
fn each_sslmode_accepts_what_it_says() {
    let server = Throwaway::start(&[], &mut |_| {}).unwrap();
    let database = Database::on(&server, "postgres");
    assert_eq!(connect(&server, "127.0.0.1", "sslmode=require"), "SL-P017");
    assert_eq!(connect(&server, "127.0.0.1", "sslmode=prefer"), "without TLS");
    let (certificate, key) = certificate();
    for (file, pem) in [("server.crt", &certificate), ("server.key", &key)] {
        // The server writes its own files, so that they are its user's and closed to others.
        let lines = format!("SELECT unnest(string_to_array('{}', E'\\n'))", pem.trim());
        database.run(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {file}'"));
    }
    database.run("ALTER SYSTEM SET ssl = on");
    database.run("SELECT pg_reload_conf()");
    let deadline = std::time::Instant::now() + super::lab::PATIENCE;
    while connect(&server, "127.0.0.1", "sslmode=require") != "with TLS" {
        assert!(std::time::Instant::now() < deadline, "TLS is not on");
    }
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), &certificate).unwrap();
    let full = format!("sslmode=verify-full&sslrootcert={}", trusted.path().display());
    for (host, parameters, expected) in [
        ("127.0.0.1", "", "with TLS"),
        ("127.0.0.1", "sslmode=disable", "without TLS"),
        ("127.0.0.1", "sslmode=verify-full", "SL-P017"),
        ("127.0.0.1", &full, "with TLS"),
        // Right certificate, wrong name.
        ("localhost", &full, "SL-P017"),
        ("localhost", "sslmode=require", "with TLS"),
    ] {
        assert_eq!(connect(&server, host, parameters), expected, "{host} {parameters}");
    }
}
