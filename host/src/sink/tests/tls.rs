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

/// Writes files of the server by itself, so that they are its user's and closed to others.
fn write_files(database: &Database, files: &[(&str, &str)]) {
    for (file, text) in files {
        let lines = format!("SELECT unnest(string_to_array('{}', E'\\n'))", text.trim());
        database.run(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {file}'"));
    }
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
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
    write_files(&database, &[("server.crt", &certificate), ("server.key", &key)]);
    database.run("ALTER SYSTEM SET ssl = on");
    database.run("SELECT pg_reload_conf()");
    let deadline = std::time::Instant::now() + super::lab::PATIENCE;
    while connect(&server, "127.0.0.1", "sslmode=require") != "with TLS" {
        assert!(std::time::Instant::now() < deadline, "TLS is not on");
    }
    let (other_certificate, other_key) = self::certificate();
    let (trusted, other) = (file(&certificate), file(&other_certificate));
    let with = |sslmode: &str, file: &tempfile::NamedTempFile| {
        format!("{sslmode}&sslrootcert={}", file.path().display())
    };
    for (host, parameters, expected) in [
        ("127.0.0.1", String::new(), "with TLS"),
        ("127.0.0.1", "sslmode=disable".into(), "without TLS"),
        ("127.0.0.1", "sslmode=verify-full".into(), "SL-P017"),
        ("127.0.0.1", "sslmode=verify-ca".into(), "SL-P017"),
        ("127.0.0.1", "sslrootcert=system".into(), "SL-P017"),
        ("127.0.0.1", "sslmode=require&sslrootcert=system".into(), "SL-P011"),
        ("127.0.0.1", with("sslmode=verify-full", &trusted), "with TLS"),
        ("127.0.0.1", with("sslmode=verify-full", &other), "SL-P017"),
        ("127.0.0.1", with("sslmode=verify-ca", &other), "SL-P017"),
        ("127.0.0.1", with("sslmode=require", &other), "SL-P017"),
        ("127.0.0.1", with("sslmode=prefer", &other), "SL-P017"),
        ("127.0.0.1", "sslmode=require&sslrootcert=/does/not/exist".into(), "SL-P017"),
        // Right certificate, wrong name.
        ("localhost", with("sslmode=verify-full", &trusted), "SL-P017"),
        ("localhost", with("sslmode=verify-ca", &trusted), "with TLS"),
        ("localhost", with("sslmode=require", &trusted), "with TLS"),
        ("localhost", "sslmode=require".into(), "with TLS"),
    ] {
        assert_eq!(connect(&server, host, &parameters), expected, "{host} {parameters}");
    }

    // From now on it wants to know who we are.
    write_files(
        &database,
        &[
            ("client.crt", &other_certificate),
            ("pg_hba.conf", "hostssl all all all trust clientcert=verify-ca"),
        ],
    );
    database.run("ALTER SYSTEM SET ssl_ca_file = 'client.crt'");
    database.run("SELECT pg_reload_conf()");
    let deadline = std::time::Instant::now() + super::lab::PATIENCE;
    while connect(&server, "127.0.0.1", "sslmode=require") == "with TLS" {
        assert!(std::time::Instant::now() < deadline, "it asks for no certificate");
    }
    let closed = PKey::private_key_from_pem(other_key.as_bytes()).unwrap();
    let cipher = openssl::symm::Cipher::aes_256_cbc();
    let closed = closed.private_key_to_pem_pkcs8_passphrase(cipher, b"a%b").unwrap();
    let (open, closed) = (file(&other_key), file(std::str::from_utf8(&closed).unwrap()));
    let servers = file(&key);
    let as_client = |key: &tempfile::NamedTempFile, more: &str| {
        let (certificate, key) = (other.path().display(), key.path().display());
        format!("sslmode=require&sslcert={certificate}&sslkey={key}{more}")
    };
    for (parameters, expected) in [
        (as_client(&open, ""), "with TLS"),
        (as_client(&closed, "&sslpassword=a%25b"), "with TLS"),
        (as_client(&closed, "&sslpassword=wrong"), "SL-P017"),
        // The key of another certificate.
        (as_client(&servers, ""), "SL-P017"),
        (format!("sslmode=require&sslcert={}", other.path().display()), "SL-P011"),
    ] {
        assert_eq!(connect(&server, "127.0.0.1", &parameters), expected, "{parameters}");
    }
}
