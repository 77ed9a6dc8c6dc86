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
use sluice_tests::kafka::{Broker, PASSWORD, QUICK, Topic, Tuning, USER};
use sluice_tests::load::{Load, Mix};
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

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

/// Why a host that asks the broker at `address` is blocked.
fn blocked(scene: &Scene, name: &str, address: &str, properties: &[(&str, &str)]) -> Result<Event> {
    let mut pipeline = scene.pipeline()?;
    name.clone_into(&mut pipeline.name);
    address.clone_into(&mut pipeline.brokers);
    for (name, value) in properties {
        pipeline = pipeline.property(name, value);
    }
    let host = scene.start(name, &pipeline)?;
    let blocked = host.wait_for("pipeline held", SOON)?;
    host.terminate()?;
    Ok(blocked)
}

#[test]
fn a_broker_is_checked_and_the_fault_is_named() -> Result<()> {
    let scene = Scene::new("tls_brokers", 1, Readings::TABLE)?;
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let trusted = ours.write(&scene.folder, "ours")?.display().to_string();
    let tls = [("security.protocol", "SSL"), ("ssl.ca.location", trusted.as_str())];
    for (name, certificate, host, expected) in [
        (
            "wrong-authority",
            others.issue("localhost", Valid::Now)?,
            "localhost",
            "certificate verify failed",
        ),
        (
            "wrong-name",
            ours.issue("broker.internal", Valid::Now)?,
            "localhost",
            "certificate verify failed",
        ),
        (
            "expired",
            ours.issue("localhost", Valid::Before)?,
            "localhost",
            "certificate verify failed",
        ),
    ] {
        let address = format!("{host}:{}", show(&certificate)?);
        let told = blocked(&scene, name, &address, &tls)?;
        assert_eq!(told.text("code").as_deref(), Some("SL-K020"), "{name}: {}", told.line);
        assert!(told.message.contains(expected), "{name}: {}", told.line);
    }
    // The listener without TLS.
    let told = blocked(&scene, "plaintext", scene.topic.brokers(), &tls)?;
    assert!(told.message.contains("SSL") || told.message.contains("disconnected"), "{}", told.line);
    Ok(())
}

/// A broker that lets in whom its authority vouches for, and what belongs to it.
struct Mutual {
    broker: Broker,
    folder: PathBuf,
    ours: Authority,
    scene: Scene,
}

impl Mutual {
    fn start(name: &str) -> Result<Self> {
        let folder = folders::scratch_for(&format!("{name}-broker"))?;
        let ours = Authority::new("ours")?;
        ours.write(&folder, "clients")?;
        ours.write(&folder, "ours")?;
        let server = ours.issue("localhost", Valid::Now)?;
        std::fs::write(folder.join("keystore.p12"), server.pkcs12("broker", "keystore")?)?;
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
        let told = host.wait_for("pipeline held", NOTICE_MAX)?;
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
    host.wait_for("pipeline goes on again", SOON)?;

    // Renewed while it runs, before the old one is over.
    mutual.ours.issue("writer", Valid::Now)?.write(&folder, "client")?;
    host.wait_for("certificates for brokers were renewed", SOON)?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    // A certificate without its key is left alone: it may still come.
    let half = mutual.ours.issue("writer", Valid::Now)?;
    std::fs::write(&certificate, half.certificate_pem()?)?;
    host.wait_for("renewed certificates cannot be used", SOON)?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    // What the broker rejects shows that it is the new one that is used.
    others.issue("writer", Valid::Now)?.write(&folder, "client")?;
    let told = host.wait_for_nth("pipeline held", 2, NOTICE_MAX)?;
    assert_eq!(told.text("code").as_deref(), Some("SL-K020"), "{}", told.line);
    half.write(&folder, "client")?;
    load.send(100)?;
    mutual.scene.wait_until_drained_within(NOTICE_MAX)?;
    host.drain()?;
    mutual.scene.check(&Readings::all())
}
