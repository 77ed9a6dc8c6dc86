//! TLS and SASL, through the properties that are handed to librdkafka.

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::host::Pipeline;
use sluice_tests::kafka::{PASSWORD, USER, broker};
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

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
fn a_wrong_password_holds_the_pipeline_and_is_not_shown() -> Result<()> {
    let scene = Scene::new("insecure", 1, Readings::TABLE)?;
    let host = scene.start("host", &secured(scene.pipeline()?, "wrong-7f3a9")?)?;
    let held = host.wait_for("pipeline held", SOON)?;
    assert_eq!(held.text("code").as_deref(), Some("SL-K002"), "{}", held.line);
    let (code, events) = host.terminate()?;
    assert_eq!(code, 3, "{events:?}");
    assert!(
        events.iter().all(|event| !event.line.contains("wrong-7f3a9")),
        "the password is in the log"
    );
    Ok(())
}
