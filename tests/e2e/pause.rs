//! Pipelines that would make more dead letters within a minute than they may.

use std::time::Duration;

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

const GOOD: Mix = Mix { bad_per_mille: 0, long_per_mille: 0 };

fn dead_letters(scene: &Scene, pipeline: &str) -> Result<i64> {
    scene
        .database
        .number(&format!("SELECT count(*) FROM sluice.dead_letters WHERE pipeline = '{pipeline}'"))
}

#[test]
fn a_broken_version_makes_no_more_dead_letters_than_allowed_and_a_right_one_gets_the_rest()
-> Result<()> {
    let marked = format!(
        "{}; ALTER TABLE readings ADD COLUMN marker text; CREATE TABLE others AS TABLE readings",
        Readings::TABLE
    );
    let scene = Scene::new("pause", 6, &marked)?;
    let mut paused = scene.pipeline_of("hostile-too-strict")?;
    paused.plugin = scene.own_plugin("hostile-too-strict")?;
    paused.dead_letter_lines = "max_per_minute = 100\n".to_owned();
    let topic = &scene.topic.name;
    let mut other = Pipeline::new("others", topic, scene.database.url(), &plugin("readings")?)?;
    other.sink_lines = "table = \"others\"\n".to_owned();
    let mut load = Load::new(&scene.topic, GOOD)?;
    load.send(20_000)?;
    let files = [paused.write(&scene.folder)?, other.write(&scene.folder)?];
    let host = Host::start("host", &scene.folder, &files)?;

    let event = host.wait_for("pipeline paused", SOON)?;
    assert_eq!(event.text("code").as_deref(), Some("SL-D310"));
    assert_eq!(event.text("pipeline").as_deref(), Some("pause"));
    assert!(event.message.contains("most would be plugin too-strict: "), "{}", event.message);
    until_true("the allowance is used up", SOON, || Ok(dead_letters(&scene, "pause")? == 100))?;
    // The other pipeline of the process goes on, longer than the group would wait for a silent host.
    let released = host.events("partitions released").len();
    for _ in 0..12 {
        load.send(2000)?;
        scene.wait_until_drained_as("others")?;
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(dead_letters(&scene, "pause")?, 100);
    }
    assert_eq!(host.events("partitions released").len(), released, "partitions were kept");
    assert_eq!(scene.database.number("SELECT count(*) FROM readings")?, 0);

    scene.replace_plugin(&paused.plugin, &plugin("hostile-marker-a")?)?;
    scene.wait_until_drained_as("pause")?;
    let events = host.drain()?;
    assert_eq!(dead_letters(&scene, "pause")?, 100);
    assert_eq!(scene.database.number("SELECT count(*) FROM readings")?, 44_000 - 100);
    assert_eq!(scene.database.number("SELECT count(*) FROM others")?, 44_000);
    let told = events.iter().filter(|event| event.is("pipeline paused")).count();
    assert!(told <= 2, "told {told} times");
    Ok(())
}

#[test]
fn a_burst_of_bad_messages_trickles_away_and_good_ones_are_all_kept() -> Result<()> {
    let scene = Scene::new("trickle", 6, Readings::TABLE)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.dead_letter_lines = "max_per_minute = 150\n".to_owned();
    let mut load = Load::new(&scene.topic, GOOD)?;
    load.send(6000)?;
    let mut bad = Load::new(&scene.topic, Mix { bad_per_mille: 1000, long_per_mille: 0 })?;
    bad = bad.counting_from(100_000);
    bad.send(250)?;
    let mut load = load.counting_from(200_000);
    load.send(6000)?;
    let host = scene.start("host", &pipeline)?;
    host.wait_for("pipeline paused", SOON)?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())?;
    let worst = "SELECT max(dead_letters) FROM (SELECT count(*) OVER (ORDER BY rejected_at RANGE BETWEEN CURRENT ROW AND \
        '60 seconds' FOLLOWING) AS dead_letters FROM sluice.dead_letters) AS minutes";
    let worst = scene.database.number(worst)?;
    assert!((140..=150).contains(&worst), "{worst} dead letters within a minute");
    Ok(())
}

#[test]
fn a_paused_pipeline_can_be_stopped_and_hands_its_partitions_over() -> Result<()> {
    let scene = Scene::new("pause_stop", 4, Readings::TABLE)?;
    let mut pipeline = scene.pipeline()?.impatient();
    pipeline.dead_letter_lines = "max_per_minute = 10\n".to_owned();
    Load::new(&scene.topic, Mix { bad_per_mille: 500, long_per_mille: 0 })?.send(2000)?;
    let first = scene.start("first", &pipeline)?;
    first.wait_for("pipeline paused", SOON)?;
    let second = scene.start("second", &pipeline)?;
    second.wait_for("pipeline paused", SOON)?;
    until_true("each has used its allowance up", SOON, || {
        Ok(dead_letters(&scene, "pause_stop")? == 20)
    })?;
    first.drain()?;
    second.drain()?;
    assert_eq!(dead_letters(&scene, "pause_stop")?, 20);
    pipeline.dead_letter_lines = String::new();
    let last = scene.start("last", &pipeline)?;
    scene.wait_until_drained()?;
    last.drain()?;
    scene.check(&Readings::all())
}
