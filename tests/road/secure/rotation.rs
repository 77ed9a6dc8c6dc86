//! A password that is changed in Postgres and in its file while a host runs.

use std::fs;

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

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
            let blocked = host.wait_for("pipeline held", SOON)?;
            assert_eq!(blocked.text("code").as_deref(), Some("SL-P002"), "{}", blocked.line);
        }
        let encoded = password
            .replace('@', "%40")
            .replace('/', "%2F")
            .replace(' ', "%20")
            .replace(':', "%3A");
        fs::write(&file, format!("{encoded}\n"))?;
        until_true("the host has logged in", SOON, || {
            database.holds(&format!("SELECT count(*) > 0 {sessions}"))
        })?;
        load = stream.stop()?;
        scene.wait_until_drained()?;
    }
    let events = host.drain()?;
    let shown = |event: &&sluice_tests::host::Event| event.line.contains("canary");
    assert_eq!(events.iter().find(shown), None, "a password is in the log");
    scene.check(&Readings::all())
}
