//! Pipelines that a person has to mend: blocked, seen from elsewhere, and going on by themselves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_tests::checker::{Check, Readings};
use sluice_tests::host::{Event, Host, Pipeline};
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator::lag;
use sluice_tests::plugins::plugin;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// What a blocked pipeline may take to notice that it was mended: its longest pause, and the way back into the group.
const MENDED_MAX: Duration = Duration::from_secs(90);

fn blocked(host: &Host, pipeline: &str) -> Vec<Event> {
    let of_pipeline = |event: &Event| event.text("pipeline").as_deref() == Some(pipeline);
    host.events("pipeline blocked").into_iter().filter(of_pipeline).collect()
}

fn codes(events: &[Event]) -> Vec<String> {
    events.iter().filter_map(|event| event.text("code")).collect()
}

#[test]
fn a_pipeline_whose_table_is_missing_waits_for_it_and_another_never_notices() -> Result<()> {
    let scene = Scene::readings("block_table")?;
    let later = Pipeline {
        sink_lines: "table = \"later\"\n".to_owned(),
        ..Pipeline::new("block_later", &scene.name, scene.database.url(), &plugin("readings")?)?
    };
    let file = later.write(&scene.folder)?;
    let files = [file.clone(), scene.pipeline()?.write(&scene.folder)?];
    let host = Host::start("host", &scene.folder, &files)?;
    let waits = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(waits.text("pipeline").as_deref(), Some("block_later"), "{}", waits.line);
    assert_eq!(waits.text("code").as_deref(), Some("SL-P010"), "{}", waits.line);
    assert!(waits.text("hint").is_some_and(|it| it.contains("Alter the tables")), "{}", waits.line);

    let stream = Load::new(&scene.topic, Mix::default())?.stream(2000);
    let progress = || -> Result<Vec<Event>> {
        let all = host.events("progress");
        Ok(all
            .into_iter()
            .filter(|it| it.text("pipeline").as_deref() == Some("block_later"))
            .collect())
    };
    until_true("the blocked pipeline has told so once a minute", SOON * 2, || {
        Ok(!progress()?.is_empty())
    })?;
    let told = progress()?.pop().context("nothing was told")?;
    assert_eq!(
        (told.level.as_str(), told.text("state").as_deref()),
        ("WARN", Some("blocked")),
        "{}",
        told.line
    );
    assert!(told.text("blocked").is_some_and(|it| it.starts_with("SL-P010 for ")), "{}", told.line);
    let seen = &lag(&file)?["blocked"][0];
    assert_eq!(
        (seen["code"].as_str(), seen["partition"].is_null()),
        (Some("SL-P010"), true),
        "{seen}"
    );
    let sent = i64::try_from(stream.acknowledged())?;
    until_true("the other pipeline keeps up", Duration::from_secs(10), || {
        Ok(scene.database.number(
            "SELECT sum(messages)::bigint FROM sluice.lineage WHERE pipeline = 'block_table'",
        )? >= sent)
    })?;

    scene.database.execute("CREATE TABLE later (LIKE readings INCLUDING ALL)")?;
    let again = host.wait_for("pipeline resumed", MENDED_MAX)?;
    assert_eq!(again.text("pipeline").as_deref(), Some("block_later"), "{}", again.line);
    stream.stop()?;
    scene.wait_until_drained()?;
    scene.wait_until_drained_as("block_later")?;
    assert_eq!(lag(&file)?["blocked"], Value::Array(Vec::new()));
    assert_eq!(
        codes(&blocked(&host, "block_later")),
        ["SL-P010"],
        "one line for a change of state"
    );
    assert_eq!(codes(&blocked(&host, "block_table")), [""; 0]);
    host.drain()?;
    scene.check(&Readings::all())?;
    scene
        .database
        .execute("ALTER TABLE readings RENAME TO first; ALTER TABLE later RENAME TO readings")?;
    Check::new("block_later", &Readings::all()).passes(&scene.topic, &scene.database)
}

/// As a pipeline at work does not notice that its plugin's file is gone.
#[test]
fn a_pipeline_that_was_mended_resumes_although_the_plugins_file_is_gone() -> Result<()> {
    let scene = Scene::readings("block_file")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.plugin = scene.own_plugin("readings")?;
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(1200)?;
    scene.wait_until_drained()?;
    std::fs::remove_file(&pipeline.plugin)?;
    scene.database.execute("ALTER TABLE readings DROP COLUMN status")?;
    load.send(1200)?;
    host.wait_for("pipeline blocked", SOON)?;
    scene.database.execute("ALTER TABLE readings ADD COLUMN status text")?;
    host.wait_for("pipeline resumed", MENDED_MAX)?;
    load.send(1200)?;
    scene.wait_until_drained()?;
    host.drain()?;
    let rows =
        "SELECT count(DISTINCT (device_id, seq)) = count(*) AND count(*) > 3000 FROM readings";
    assert!(scene.database.is_true(rows)?, "each row once");
    Ok(())
}

#[test]
fn a_column_that_is_dropped_blocks_the_pipeline_until_it_is_added_again() -> Result<()> {
    let scene = Scene::readings("block_column")?;
    let host = scene.start("host", &scene.pipeline()?)?;
    host.wait_for("partitions claimed", SOON)?;
    scene.database.execute("ALTER TABLE readings DROP COLUMN status")?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(1200)?;
    let first = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(first.text("code").as_deref(), Some("SL-P010"), "{}", first.line);
    assert!(first.message.contains("there is no column \"status\""), "{}", first.message);
    assert_eq!(scene.positions(&scene.name)?, [Some(0); 12], "nothing has moved");
    scene.database.execute("ALTER TABLE readings ADD COLUMN status text")?;
    host.wait_for("pipeline resumed", MENDED_MAX)?;
    load.send(1200)?;
    scene.wait_until_drained()?;
    assert_eq!(codes(&blocked(&host, &scene.name)), ["SL-P010"]);
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn a_right_that_is_revoked_blocks_the_pipeline_until_it_is_granted() -> Result<()> {
    let scene = Scene::readings("block_right")?;
    let database = &scene.database;
    let mut pipeline = scene.pipeline()?;
    pipeline.url = database.create_login("block_right")?;
    database.execute(
        "GRANT CREATE ON DATABASE block_right TO block_right; GRANT INSERT ON readings TO block_right",
    )?;
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(600)?;
    scene.wait_until_drained()?;
    database.execute("REVOKE INSERT ON readings FROM block_right")?;
    load.send(600)?;
    let waits = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(waits.text("code").as_deref(), Some("SL-P008"), "{}", waits.line);
    until_true("it was looked again, and told to those who look from elsewhere", SOON, || {
        database.is_true("SELECT checked_at > blocked_since FROM sluice.blocks WHERE code = 'SL-P008' AND reason LIKE '%INSERT%'")
    })?;
    database.execute("GRANT INSERT ON readings TO block_right")?;
    host.wait_for("pipeline resumed", MENDED_MAX)?;
    scene.wait_until_drained()?;
    assert_eq!(codes(&blocked(&host, &scene.name)), ["SL-P008"]);
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_replaced_and_the_pipeline_goes_on_at_once() -> Result<()> {
    let scene = Scene::readings("block_plugin")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.plugin = scene.folder.join("plugin.wasm");
    let host = scene.start("host", &pipeline)?;
    Load::new(&scene.topic, Mix::default())?.send(600)?;
    let missing = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(missing.text("code").as_deref(), Some("SL-G010"), "{}", missing.line);
    std::fs::write(&pipeline.plugin, "not a component")?;
    let wrong = host.wait_for_nth("pipeline blocked", 2, SOON)?;
    assert_eq!(wrong.text("code").as_deref(), Some("SL-G001"), "{}", wrong.line);
    let replaced = Instant::now();
    scene.replace_plugin(&pipeline.plugin, &plugin("readings")?)?;
    host.wait_for("pipeline resumed", SOON)?;
    assert!(replaced.elapsed() < Duration::from_secs(20), "{:?}", replaced.elapsed());
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn a_host_that_ends_while_its_pipeline_is_blocked_says_so_with_its_exit_code() -> Result<()> {
    let scene = Scene::readings("block_work")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.plugin_lines = "memory_bytes = \"1MiB\"\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    let waits = host.wait_for("pipeline blocked", SOON)?;
    assert!(waits.text("code").is_some_and(|code| code.starts_with("SL-G")), "{}", waits.line);
    let (code, events) = host.terminate()?;
    assert_eq!(code, 1, "it could not work when it was told to end");
    assert!(events.iter().any(|event| event.is("pipeline stopped")));
    assert_eq!(scene.database.number("SELECT count(*) FROM sluice.blocks")?, 0);
    Ok(())
}

#[test]
fn settings_that_cannot_be_read_end_the_process_and_nothing_is_begun() -> Result<()> {
    let scene = Scene::readings("block_settings")?;
    let good = scene.pipeline()?.write(&scene.folder)?;
    let wrong = Pipeline {
        sink_lines: "tabel = \"readings\"\n".to_owned(),
        ..Pipeline::new("wrong", &scene.name, scene.database.url(), &plugin("readings")?)?
    };
    let host = Host::start("host", &scene.folder, &[good, wrong.write(&scene.folder)?])?;
    let (code, events) = host.wait(SOON)?;
    assert_eq!(code, 2, "{events:?}");
    assert!(!events.iter().any(|event| event.is("pipeline started")), "{events:?}");
    Ok(())
}

#[test]
fn a_schema_that_goes_missing_is_not_made_again_under_a_pipeline() -> Result<()> {
    let scene = Scene::readings("block_schema")?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(600)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    scene.database.execute("ALTER SCHEMA sluice RENAME TO away")?;
    load.send(600)?;
    let waits = host.wait_for("pipeline blocked", SOON)?;
    assert_eq!(waits.text("code").as_deref(), Some("SL-P012"), "{}", waits.line);
    // Within this time it is looked twice.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(4) {
        assert!(
            !scene.database.is_true("SELECT to_regnamespace('sluice') IS NOT NULL")?,
            "made again"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    scene.database.execute("ALTER SCHEMA away RENAME TO sluice")?;
    host.wait_for("pipeline resumed", MENDED_MAX)?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}
