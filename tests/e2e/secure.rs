//! TLS and logins of both sides, and what becomes of passwords.

mod brokers;
mod postgres;
mod rotation;
mod secrets;
mod servers;

use std::process::Command;

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::kafka::{PASSWORD, USER, broker};
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator;
use sluice_tests::plugins::sluice;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until};

fn secured(pipeline: Pipeline, password: &str) -> Result<Pipeline> {
    let broker = broker()?;
    let mut pipeline = pipeline
        .property("security.protocol", "SASL_SSL")
        .property("sasl.mechanisms", "SCRAM-SHA-256")
        .property("sasl.username", USER)
        .property("sasl.password", password)
        .property("ssl.ca.location", &broker.certificate().to_string_lossy());
    broker.secure_address().clone_into(&mut pipeline.brokers);
    Ok(pipeline)
}

#[test]
fn messages_flow_over_tls_with_scram() -> Result<()> {
    let scene = Scene::new("secure", 2, Readings::TABLE)?;
    Load::new(&scene.topic, Mix::default())?.send(500)?;
    let host = scene.start("host", &secured(scene.pipeline()?, PASSWORD)?)?;
    scene.wait_until_drained()?;
    let events = host.drain()?;
    assert!(
        events.iter().all(|event| !event.line.contains(PASSWORD)),
        "the password is in the log"
    );
    scene.check(&Readings::all())
}

#[test]
fn a_wrong_password_blocks_the_pipeline_and_is_not_shown() -> Result<()> {
    let scene = Scene::new("insecure", 1, Readings::TABLE)?;
    let host = scene.start("host", &secured(scene.pipeline()?, "wrong-7f3a9")?)?;
    let blocked = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-K020"), "{}", blocked.line);
    assert!(blocked.message.contains("uthentication"), "{}", blocked.line);
    let (code, events) = host.terminate()?;
    assert_eq!(code, 3, "{events:?}");
    assert!(
        events.iter().all(|event| !event.line.contains("wrong-7f3a9")),
        "the password is in the log"
    );
    Ok(())
}

/// `SSL_CERT_FILE` says what the system trusts.
#[test]
fn a_broker_that_the_system_trusts_needs_no_certificate_in_the_settings() -> Result<()> {
    let scene = Scene::new("system_trust", 1, Readings::TABLE)?;
    Load::new(&scene.topic, Mix::default())?.send(100)?;
    let mut pipeline = secured(scene.pipeline()?, PASSWORD)?;
    pipeline.properties.remove("ssl.ca.location");
    let file = pipeline.write(&scene.folder)?;
    let trusted = broker()?.certificate().to_string_lossy();
    let host =
        Host::start_with_variable("host", &scene.folder, &[file], ("SSL_CERT_FILE", &trusted))?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}

/// The certificate is signed by nobody that the system trusts.
#[test]
fn a_broker_whose_certificate_is_not_trusted_is_told_as_such() -> Result<()> {
    let scene = Scene::new("untrusted", 1, Readings::TABLE)?;
    let mut pipeline = secured(scene.pipeline()?, PASSWORD)?;
    pipeline.properties.remove("ssl.ca.location");
    let host = scene.start("host", &pipeline)?;
    let blocked = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-K020"), "{}", blocked.line);
    let reason = "self-signed certificate: CN=localhost is signed by CN=localhost";
    assert!(blocked.message.contains(reason), "{}", blocked.line);
    host.terminate()?;
    let file = pipeline.write(&scene.folder)?;
    // A broker that is too busy to shake hands within a command's ten seconds is not known to refuse.
    let text = until("the command is refused", SOON, || {
        let lag = operator::call(&["lag"], &file)?;
        let text = String::from_utf8_lossy(&lag.stderr).into_owned();
        Ok(Some(text).filter(|text| !text.contains("SL-K002")))
    })?;
    assert!(text.contains("SL-K020") && text.contains(reason), "{text}");
    for command in
        [&["simulate", "devices"][..], &["simulate", "orders", "--create-partitions", "1"]]
    {
        let mut call = Command::new(sluice()?);
        call.args(command).args(["--messages", "1", "--topic", "untrusted"]);
        call.args(["--brokers", &pipeline.brokers, "--property", "security.protocol=SSL"]);
        let output = call.output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("SL-K020") && text.contains(reason), "{command:?}: {text}");
    }
    Ok(())
}
