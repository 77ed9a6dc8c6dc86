//! TLS with brokers: who is trusted, by which name, until when, and as whom we come.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::Result;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use sluice_tests::certificates::{Authority, Issued, Valid};
use sluice_tests::checker::Readings;
use sluice_tests::folders;
use sluice_tests::host::{Event, Host, Pipeline};
use sluice_tests::kafka::{Broker, PASSWORD, QUICK, Topic, Tuning, USER, broker};
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until};

/// Longer than the pause of a pipeline that is blocked.
const NOTICE_MAX: std::time::Duration = std::time::Duration::from_secs(120);

/// Shows `certificate` to everybody who comes, and understands nothing of Kafka.
fn show(certificate: &Issued) -> Result<u16> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    acceptor.set_certificate(&*X509::from_pem(&certificate.certificate_pem()?)?)?;
    acceptor.set_private_key(&*PKey::private_key_from_pem(&certificate.key_pem()?)?)?;
    let (acceptor, listener) = (acceptor.build(), TcpListener::bind("127.0.0.1:0")?);
    let port = listener.local_addr()?.port();
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Ok(mut stream) = acceptor.accept(stream) {
                let _ = stream.read(&mut [0; 64]);
            }
        }
    });
    Ok(port)
}

/// A pipeline's name, where it finds brokers, its properties, and what it is told.
type Cell<'c> = (&'c str, String, &'c [(&'c str, &'c str)], &'c [&'c str]);

/// Settings of a pipeline `name` that asks the broker at `address`.
fn asking(
    scene: &Scene,
    name: &str,
    address: &str,
    properties: &[(&str, &str)],
) -> Result<PathBuf> {
    let mut pipeline = scene.pipeline()?;
    name.clone_into(&mut pipeline.name);
    address.clone_into(&mut pipeline.brokers);
    for (name, value) in properties {
        pipeline = pipeline.property(name, value);
    }
    pipeline.write(&scene.folder)
}

/// Waits until the pipeline `name` is blocked because brokers refuse it, for a reason with all of `expected`, and a hint.
fn refused(host: &Host, name: &str, expected: &[&str]) -> Result<Event> {
    let told = host.wait_for_event(&format!("why {name} is refused"), NOTICE_MAX, |event| {
        let is_its =
            event.is("pipeline blocked") && event.text("pipeline").as_deref() == Some(name);
        is_its && event.text("code").as_deref() == Some("SL-K020")
    })?;
    for expected in expected {
        assert!(told.message.contains(expected), "{name}: no `{expected}` in {}", told.line);
    }
    assert!(
        told.text("hint").is_some_and(|hint| hint.contains("ssl.ca.location")),
        "{}",
        told.line
    );
    Ok(told)
}

/// Waits until `validate` says the same of a pipeline's settings. Brokers may be too busy to say anything in time.
fn validated(file: &Path, expected: &[&str]) -> Result<()> {
    let text = until("brokers answer", SOON, || {
        let output = operator::call(&["validate"], file)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(Some(text).filter(|_| !output.status.success()))
    })?;
    for expected in ["error SL-K020: ", "explain: sluice explain SL-K020"].iter().chain(expected) {
        assert!(text.contains(expected), "no `{expected}` in {text}");
    }
    Ok(())
}

#[test]
fn a_broker_is_checked_and_the_fault_is_named() -> Result<()> {
    let scene = Scene::new("tls_brokers", 1, Readings::TABLE)?;
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let trusted = ours.write(&scene.folder, "ours")?.display().to_string();
    let tls = [("security.protocol", "SSL"), ("ssl.ca.location", trusted.as_str())];
    let shown =
        |certificate: &Issued| Ok::<_, anyhow::Error>(format!("localhost:{}", show(certificate)?));
    let signed = "unable to get local issuer certificate: CN=localhost is signed by CN=others";
    let cells: [Cell<'_>; 6] = [
        ("authority", shown(&others.issue("localhost", Valid::Now)?)?, &tls, &[signed]),
        (
            "name",
            shown(&ours.issue("broker.internal", Valid::Now)?)?,
            &tls,
            &["hostname mismatch: the certificate is for broker.internal, not for localhost"],
        ),
        (
            "expired",
            shown(&ours.issue("localhost", Valid::Before)?)?,
            &tls,
            &["certificate has expired: CN=localhost was valid until "],
        ),
        (
            "early",
            shown(&ours.issue("localhost", Valid::Later)?)?,
            &tls,
            &["certificate is not yet valid: CN=localhost is valid from "],
        ),
        (
            "tls-to-plaintext",
            scene.topic.brokers().to_owned(),
            &tls,
            &["may expect plain text, and security.protocol is SSL"],
        ),
        (
            "plaintext-to-tls",
            broker()?.secure_address().to_owned(),
            &[("security.protocol", "PLAINTEXT")],
            &["expects TLS, and security.protocol is PLAINTEXT"],
        ),
    ];
    let files = cells.iter().map(|(name, at, properties, _)| asking(&scene, name, at, properties));
    let host = Host::start("host", &scene.folder, &files.collect::<Result<Vec<_>>>()?)?;
    for (name, address, _, expected) in &cells {
        let told = refused(&host, name, expected)?;
        assert!(told.message.contains(address), "{name}: no {address} in {}", told.line);
        validated(&scene.folder.join(format!("{name}.toml")), expected)?;
    }
    host.terminate()?;
    Ok(())
}

/// A broker that lets in whom its authority vouches for, and what belongs to it.
struct Mutual {
    broker: Broker,
    folder: PathBuf,
    ours: Authority,
    scene: Scene,
}

/// The broker's own key and certificate, for its next start.
fn write_keystore(authority: &Authority, valid: Valid, folder: &Path) -> Result<()> {
    let server = authority.issue("localhost", valid)?;
    Ok(std::fs::write(folder.join("keystore.p12"), server.pkcs12("broker", "keystore")?)?)
}

impl Mutual {
    fn start(name: &str) -> Result<Self> {
        let folder = folders::scratch_for(&format!("{name}-broker"))?;
        let ours = Authority::new("ours")?;
        ours.write(&folder, "clients")?;
        ours.write(&folder, "ours")?;
        write_keystore(&ours, Valid::Now, &folder)?;
        let properties = format!(
            "listener.name.sasl_ssl.ssl.client.auth=required\n\
             listener.name.sasl_ssl.ssl.truststore.type=PEM\n\
             listener.name.sasl_ssl.ssl.truststore.location={}\n",
            folder.join("clients.pem").display()
        );
        let tuning = Tuning { properties: properties.leak(), ..QUICK };
        let broker = Broker::start(&tuning, &folder)?;
        let topic = Topic::create_on(broker.address(), name, 1, 1)?;
        let scene = Scene::around(topic, Database::create(name)?)?;
        Ok(Self { broker, folder, ours, scene })
    }

    /// Starts the broker again with another certificate.
    fn restart_with(&mut self, valid: Valid) -> Result<()> {
        write_keystore(&self.ours, valid, &self.folder)?;
        self.broker.restart()
    }

    /// A pipeline that trusts the broker and shows no certificate.
    fn pipeline(&self) -> Result<Pipeline> {
        let trusted = self.folder.join("ours.pem").display().to_string();
        let mut pipeline = self
            .scene
            .pipeline()?
            .property("security.protocol", "SASL_SSL")
            .property("sasl.mechanisms", "SCRAM-SHA-256")
            .property("sasl.username", USER)
            .property("sasl.password", PASSWORD)
            .property("ssl.ca.location", &trusted);
        self.broker.secure_address().clone_into(&mut pipeline.brokers);
        Ok(pipeline)
    }

    /// The same with a certificate of its own, in files.
    fn pipeline_as(&self, certificate: &Path, key: &Path) -> Result<Pipeline> {
        let pipeline = self.pipeline()?;
        let pipeline =
            pipeline.property("ssl.certificate.location", &certificate.to_string_lossy());
        Ok(pipeline.property("ssl.key.location", &key.to_string_lossy()))
    }
}

#[test]
fn a_certificate_that_is_renewed_on_disk_is_read_while_the_pipeline_is_blocked_or_runs()
-> Result<()> {
    let mutual = Mutual::start("tls_renewed")?;
    let folder = mutual.folder.clone();
    let mut load = Load::new(&mutual.scene.topic, Mix::default())?;
    load.send(100)?;
    let refused = |host: &Host| -> Result<()> {
        let told = host.wait_for("pipeline blocked", NOTICE_MAX)?;
        assert_eq!(told.text("code").as_deref(), Some("SL-K020"), "{}", told.line);
        Ok(())
    };
    // None at all, then one of somebody else: blocked from the start.
    let host = mutual.scene.start("without", &mutual.pipeline()?)?;
    refused(&host)?;
    host.terminate()?;
    let others = Authority::new("others")?;
    let (certificate, key) = others.issue("writer", Valid::Now)?.write(&folder, "client")?;
    let pipeline = mutual.pipeline_as(&certificate, &key)?;
    let host = mutual.scene.start("host", &pipeline)?;
    refused(&host)?;
    // Renewed while it is blocked.
    mutual.ours.issue("writer", Valid::Now)?.write(&folder, "client")?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    host.wait_for("pipeline resumed", SOON)?;

    // Renewed while it runs, before the old one is over.
    mutual.ours.issue("writer", Valid::Now)?.write(&folder, "client")?;
    host.wait_for("certificates for brokers were renewed", SOON)?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    // A certificate without its key is left alone: it may still come.
    let half = mutual.ours.issue("writer", Valid::Now)?;
    std::fs::write(&certificate, half.certificate_pem()?)?;
    host.wait_for("cannot use renewed certificates", SOON)?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    // What the broker rejects shows that it is the new one that is used.
    others.issue("writer", Valid::Now)?.write(&folder, "client")?;
    let told = host.wait_for_nth("pipeline blocked", 2, NOTICE_MAX)?;
    assert_eq!(told.text("code").as_deref(), Some("SL-K020"), "{}", told.line);
    half.write(&folder, "client")?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    host.drain()?;
    mutual.scene.check(&Readings::all())
}

#[test]
fn a_certificate_of_ours_that_brokers_refuse_is_described() -> Result<()> {
    let mutual = Mutual::start("tls_clients")?;
    Load::new(&mutual.scene.topic, Mix::default())?.send(100)?;
    let shown = |name: &str, certificate: &Issued| {
        let (certificate, key) = certificate.write(&mutual.folder, name)?;
        mutual.pipeline_as(&certificate, &key)
    };
    let wrong = shown("wrong", &Authority::new("others")?.issue("writer", Valid::Now)?)?;
    let expired = shown("expired", &mutual.ours.issue("writer", Valid::Before)?)?;
    let right = shown("right", &mutual.ours.issue("writer", Valid::Now)?)?;
    let mut files = vec![right.write(&mutual.scene.folder)?];
    let cells = [
        ("missing", mutual.pipeline()?, "ssl.certificate.location names none"),
        ("wrong", wrong, "does not accept our certificate: CN=writer is signed by CN=others"),
        ("expired", expired, "our certificate has expired: CN=writer was valid until "),
    ];
    for (name, pipeline, _) in &cells {
        let pipeline = Pipeline { name: (*name).to_owned(), ..pipeline.clone() };
        files.push(pipeline.write(&mutual.scene.folder)?);
    }
    let host = Host::start("host", &mutual.scene.folder, &files)?;
    for (name, _, expected) in cells {
        refused(&host, name, &[expected])?;
        validated(&mutual.scene.folder.join(format!("{name}.toml")), &[expected])?;
    }
    let right = operator::call(&["validate"], &files[0])?;
    assert!(right.status.success(), "{}", String::from_utf8_lossy(&right.stderr));
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    host.terminate()?;
    mutual.scene.check(&Readings::all())
}

#[test]
fn a_certificate_that_a_broker_renews_is_taken_and_one_that_is_over_is_named() -> Result<()> {
    let mut mutual = Mutual::start("tls_broker_renewed")?;
    let (certificate, key) =
        mutual.ours.issue("writer", Valid::Now)?.write(&mutual.folder, "client")?;
    let host = mutual.scene.start("host", &mutual.pipeline_as(&certificate, &key)?)?;
    let mut load = Load::new(&mutual.scene.topic, Mix::default())?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    mutual.restart_with(Valid::Before)?;
    let over = "certificate has expired: CN=localhost was valid until ";
    host.wait_for_event("that the broker's is over", NOTICE_MAX, |event| {
        event.level == "WARN" && event.message.contains(over)
    })?;
    load.send(100)?;
    mutual.restart_with(Valid::Now)?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    host.drain()?;
    mutual.scene.check(&Readings::all())
}
