//! TLS with Postgres: who is trusted, by which name, until when, and as whom we come.

use std::path::Path;

use anyhow::Result;
use sluice::demo::postgres::Throwaway;
use sluice::sink::postgres::Options;
use sluice_tests::certificates::{Authority, Issued, Valid};
use sluice_tests::folders;
use sluice_tests::host::Pipeline;
use sluice_tests::operator;
use sluice_tests::plugins::{plugin, sluice};
use sluice_tests::postgres::{Database, block_on, own_server};
use sluice_tests::wait::{SOON, until_true};

/// Connects and says how, or why not.
fn connect(server: &Throwaway, host: &str, parameters: &str) -> String {
    let url = format!("{}?{parameters}", server.url().replace("127.0.0.1", host));
    match Options::parse(&url) {
        Ok(options) => try_connect(&options),
        Err(fault) => fault.to_string(),
    }
}

fn try_connect(options: &Options) -> String {
    let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    block_on(async {
        match options.connect().await {
            Ok(session) => match session.query_one(ssl, &[]).await {
                Ok(row) if row.get(0) => "with TLS".to_owned(),
                Ok(_) => "without TLS".to_owned(),
                Err(error) => error.to_string(),
            },
            Err(fault) => fault.to_string(),
        }
    })
}

/// A server with TLS, its authority, and another one that nobody trusts.
struct Scene {
    server: Throwaway,
    database: Database,
    ours: Authority,
    others: Authority,
}

impl Scene {
    fn new() -> Result<Self> {
        let server = own_server()?;
        let database = Database::open(server.url())?;
        let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
        Ok(Self { server, database, ours, others })
    }

    /// Presents the certificate, and waits until the server does.
    fn present(
        &self,
        certificate: &Issued,
        is_seen: impl Fn(&str) -> bool,
        probe: &str,
    ) -> Result<()> {
        certificate.present_on(&self.database)?;
        until_true("the server presents its certificate", SOON, || {
            Ok(is_seen(&connect(&self.server, "127.0.0.1", probe)))
        })
    }
}

#[test]
fn a_server_is_checked_as_its_sslmode_says_and_the_fault_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let folder = folders::scratch_for("tls_postgres")?;
    let ours = scene.ours.write(&folder, "ours")?.display().to_string();
    let others = scene.others.write(&folder, "others")?.display().to_string();
    let full = format!("sslmode=verify-full&sslrootcert={ours}");
    let chain = format!("sslmode=verify-ca&sslrootcert={ours}");
    let check = |host: &str, parameters: &str, expected: &str| {
        let found = connect(&scene.server, host, parameters);
        assert!(found.contains(expected), "{host} {parameters}: {found}");
        assert!(
            expected == "with TLS" || found.starts_with("SL-P017"),
            "{host} {parameters}: {found}"
        );
    };
    check("127.0.0.1", &full, "does not support TLS");

    scene.database.execute("ALTER SYSTEM SET ssl = on")?;
    let right = scene.ours.issue("127.0.0.1", Valid::Now)?;
    scene.present(&right, |seen| seen == "with TLS", &full)?;
    check("127.0.0.1", &full, "with TLS");
    check("localhost", &full, "ostname mismatch");
    check("localhost", &chain, "with TLS");
    for wrong in ["verify-full", "verify-ca", "require", "prefer"] {
        check(
            "127.0.0.1",
            &format!("sslmode={wrong}&sslrootcert={others}"),
            "certificate verify failed",
        );
    }
    // Nobody that the system trusts has signed it.
    check("127.0.0.1", "sslrootcert=system", "certificate verify failed");
    check("127.0.0.1", "sslmode=verify-full&sslrootcert=/no/such", "read sslrootcert /no/such");

    // A client that was there before meets each of the next certificates as well.
    let url = format!("{}?{full}", scene.server.url());
    let long_lived = Options::parse(&url)?;
    assert_eq!(try_connect(&long_lived), "with TLS");
    let expired = scene.ours.issue("127.0.0.1", Valid::Before)?;
    scene.present(&expired, |seen| seen.contains("certificate has expired"), &full)?;
    check("127.0.0.1", &chain, "certificate has expired");
    assert!(try_connect(&long_lived).contains("certificate has expired"));
    let renewed = scene.ours.issue("127.0.0.1", Valid::Now)?;
    scene.present(&renewed, |seen| seen == "with TLS", &full)?;
    assert_eq!(try_connect(&long_lived), "with TLS");

    // The authority is another one now: the file of those that are trusted is renewed, too.
    let next = scene.others.issue("127.0.0.1", Valid::Now)?;
    scene.present(&next, |seen| seen.contains("certificate verify failed"), &full)?;
    assert!(try_connect(&long_lived).contains("certificate verify failed"));
    scene.others.write(&folder, "ours")?;
    assert_eq!(try_connect(&long_lived), "with TLS");
    trusted_by_the_system(&scene.server, &folder, &others)
}

/// `SSL_CERT_FILE` says what the system trusts.
fn trusted_by_the_system(server: &Throwaway, folder: &Path, trusted: &str) -> Result<()> {
    Database::open(server.url())?.execute(sluice_tests::checker::Readings::TABLE)?;
    let url = format!("{}?sslrootcert=system", server.url());
    let file = Pipeline::at("127.0.0.1:1", "tls", "t", &url, &plugin("readings")?).write(folder)?;
    let refused = operator::call(&["validate"], &file)?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("SL-P017") && text.contains("certificate verify failed"), "{text}");
    let mut command = std::process::Command::new(sluice()?);
    let accepted = command.arg("validate").arg(&file).env("SSL_CERT_FILE", trusted).output()?;
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    Ok(())
}

#[test]
fn a_client_is_checked_by_its_certificate_and_a_renewed_one_is_read_again() -> Result<()> {
    let scene = Scene::new()?;
    let folder = folders::scratch_for("tls_client")?;
    let ours = scene.ours.write(&folder, "ours")?.display().to_string();
    let full = format!("sslmode=verify-full&sslrootcert={ours}");
    scene.database.execute("ALTER SYSTEM SET ssl = on; ")?;
    scene.database.put_file("client-ca.pem", &std::fs::read_to_string(&ours)?)?;
    scene.database.execute("ALTER SYSTEM SET ssl_ca_file = 'client-ca.pem'")?;
    scene.database.put_file(
        "pg_hba.conf",
        "hostssl all all all scram-sha-256 clientcert=verify-ca\nhostnossl all all all scram-sha-256",
    )?;
    let server = scene.ours.issue("127.0.0.1", Valid::Now)?;
    scene.present(&server, |seen| seen.contains("client certificate"), &full)?;
    let missing = connect(&scene.server, "127.0.0.1", &full);
    assert!(
        missing.starts_with("SL-P002") && missing.contains("valid client certificate"),
        "{missing}"
    );

    let (certificate, key) = scene.ours.issue("writer", Valid::Now)?.write(&folder, "client")?;
    let as_client = format!("{full}&sslcert={}&sslkey={}", certificate.display(), key.display());
    assert_eq!(connect(&scene.server, "127.0.0.1", &as_client), "with TLS");
    let options = Options::parse(&format!("{}?{as_client}", scene.server.url()))?;
    assert_eq!(try_connect(&options), "with TLS");
    for (issued, cause) in [
        (scene.others.issue("writer", Valid::Now)?, "unknown ca"),
        (scene.ours.issue("writer", Valid::Before)?, "certificate expired"),
    ] {
        issued.write(&folder, "client")?;
        let is_named = |refused: &str| {
            let told = refused.starts_with("SL-P017") && refused.contains(cause);
            // The connection may be gone before the server's reason is read.
            told || refused.contains("it may have rejected the certificate in sslcert")
        };
        let refused = connect(&scene.server, "127.0.0.1", &as_client);
        assert!(is_named(&refused), "{cause}: {refused}");
        // One that began with the right one keeps it until it is refused.
        assert_eq!(try_connect(&options), "with TLS");
        let began_wrong = Options::parse(&format!("{}?{as_client}", scene.server.url()))?;
        assert!(is_named(&try_connect(&began_wrong)));
        scene.ours.issue("writer", Valid::Now)?.write(&folder, "client")?;
        assert_eq!(try_connect(&began_wrong), "with TLS", "renewed on disk after {cause}");
    }
    // A certificate whose key is another one's is told as such, and the former pair is not given up for it.
    std::fs::write(&key, scene.ours.issue("writer", Valid::Now)?.key_pem()?)?;
    let refused = connect(&scene.server, "127.0.0.1", &as_client);
    assert!(refused.starts_with("SL-P017") && refused.contains("sslkey"), "{refused}");
    assert_eq!(try_connect(&options), "with TLS");
    Ok(())
}
