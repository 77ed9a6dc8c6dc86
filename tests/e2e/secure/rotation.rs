//! Passwords that are changed on a server and in their file while a host runs.

use std::fs;

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::folders;
use sluice_tests::kafka::{Broker, PASSWORD, QUICK, Topic, USER};
use sluice_tests::load::{Load, Mix};
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// As long as a blocked pipeline or a client of librdkafka may wait before it tries again, and as much again.
const NOTICE_MAX: std::time::Duration = std::time::Duration::from_secs(120);

#[test]
fn a_password_that_is_rotated_in_its_file_needs_no_restart() -> Result<()> {
    let scene = Scene::new("rotated", 2, Readings::TABLE)?;
    let database = &scene.database;
    database.execute(
        "CREATE ROLE rotated LOGIN PASSWORD 'first'; ALTER DATABASE rotated OWNER TO rotated; \
         ALTER TABLE readings OWNER TO rotated",
    )?;
    let file = scene.folder.join("password");
    fs::write(&file, "first\n")?;
    let mut pipeline = scene.pipeline()?;
    let port = database.port()?;
    pipeline.url =
        format!("postgres://rotated:${{file:{}}}@127.0.0.1:{port}/rotated", file.display());
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(300)?;
    scene.wait_until_drained()?;
    let sessions = "FROM pg_stat_activity WHERE usename = 'rotated'";
    for (round, password) in
        ["canary-2", "canary-3: @/ with what a URL must encode"].into_iter().enumerate()
    {
        let stream = load.stream(200);
        database.execute(&format!("ALTER ROLE rotated PASSWORD '{password}'"))?;
        database.execute(&format!("SELECT count(pg_terminate_backend(pid)) {sessions}"))?;
        // First at once, as a rotation should go; then late, when the host has been refused.
        if round > 0 {
            let blocked = host.wait_for("pipeline blocked", SOON)?;
            assert_eq!(blocked.text("code").as_deref(), Some("SL-P002"), "{}", blocked.line);
        }
        let encoded = password
            .replace('@', "%40")
            .replace('/', "%2F")
            .replace(' ', "%20")
            .replace(':', "%3A");
        fs::write(&file, format!("{encoded}\n"))?;
        until_true("the host has logged in", SOON, || {
            database.is_true(&format!("SELECT count(*) > 0 {sessions}"))
        })?;
        load = stream.stop()?;
        scene.wait_until_drained()?;
    }
    let events = host.drain()?;
    let shown = |event: &&sluice_tests::host::Event| event.line.contains("canary");
    assert_eq!(events.iter().find(shown), None, "a password is in the log");
    scene.check(&Readings::all())
}

#[test]
fn a_password_for_brokers_that_is_rotated_in_its_file_needs_no_restart() -> Result<()> {
    let name = "rotated_brokers";
    let mut broker = Broker::start(&QUICK, &folders::scratch_for(&format!("{name}-broker"))?)?;
    let topic = Topic::create_on(broker.address(), name, 2, 1)?;
    let scene = Scene::around(topic, Database::create(name)?)?;
    let file = scene.folder.join("sasl");
    fs::write(&file, format!("{PASSWORD}\n"))?;
    let mut pipeline = scene
        .pipeline()?
        .property("security.protocol", "SASL_SSL")
        .property("sasl.mechanisms", "SCRAM-SHA-256")
        .property("sasl.username", USER)
        .property("sasl.password", &format!("${{file:{}}}", file.display()))
        .property("ssl.ca.location", &broker.certificate().to_string_lossy());
    broker.secure_address().clone_into(&mut pipeline.brokers);
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(200)?;
    scene.wait_until_drained_within(NOTICE_MAX)?;

    // First in the broker, which ends all connections then.
    broker.change_password("canary-2")?;
    broker.restart()?;
    host.wait_for_event("that the old password is refused", NOTICE_MAX, |event| {
        event.level == "WARN" && event.message.contains("uthentication failed")
    })?;
    fs::write(&file, "canary-2\n")?;
    host.wait_for("a password for brokers was renewed", SOON)?;
    load.send(200)?;
    scene.wait_until_drained_within(NOTICE_MAX)?;

    // First in the file: connections that are there outlast a password that brokers do not know yet.
    fs::write(&file, "canary-3\n")?;
    let early = host.wait_for("cannot use a renewed password yet", SOON)?;
    assert_eq!(early.text("code").as_deref(), Some("SL-K020"), "{}", early.line);
    load.send(200)?;
    scene.wait_until_drained_within(NOTICE_MAX)?;
    broker.change_password("canary-3")?;
    host.wait_for_nth("a password for brokers was renewed", 2, SOON)?;
    load.send(200)?;
    scene.wait_until_drained_within(NOTICE_MAX)?;
    let mut events = host.drain()?;
    assert!(events.iter().all(|event| !event.is("pipeline blocked")), "it had what it needed");

    // While a pipeline is blocked for it.
    fs::write(&file, "canary-4\n")?;
    let host = scene.start("blocked", &pipeline)?;
    let blocked = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-K020"), "{}", blocked.line);
    load.send(200)?;
    fs::write(&file, "canary-3\n")?;
    scene.wait_until_drained_within(NOTICE_MAX)?;
    events.extend(host.drain()?);
    let shown = |event: &&sluice_tests::host::Event| event.line.contains("canary");
    assert_eq!(events.iter().find(shown), None, "a password is in the log");
    scene.check(&Readings::all())
}
