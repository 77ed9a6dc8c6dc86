//! Topics that change under a pipeline: deleted and created again, truncated, grown.

use anyhow::Result;
use sluice_tests::checker::{Check, Log, Readings};
use sluice_tests::kafka::Topic;
use sluice_tests::load::message::make;
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator::blocked;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// A scene of `partitions` in which `count` messages a partition were moved and the host has ended.
fn moved(name: &str, partitions: i32, count: usize) -> Result<(Scene, Load)> {
    let scene = Scene::new(name, partitions, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(count * usize::try_from(partitions)?)?;
    let host = scene.start("first", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    Ok((scene, load))
}

#[test]
fn a_partition_whose_next_message_retention_deleted_is_blocked_and_the_others_go_on() -> Result<()>
{
    let (scene, mut load) = moved("retention", 3, 100)?;
    load.send(600)?;
    scene.topic.delete_records(1, 150)?;
    let host = scene.start("second", &scene.pipeline()?)?;
    let blocked = host.wait_for("partition blocked", SOON)?;
    assert_eq!(blocked.number("partition"), Some(1), "{}", blocked.line);
    assert!(blocked.message.contains("topic retention partition 1"), "{}", blocked.message);
    assert_eq!(blocked.text("code").as_deref(), Some("SL-K010"), "{}", blocked.line);
    until_true("the other partitions have drained", SOON, || {
        Ok(scene.positions("retention")? == [Some(300), Some(100), Some(300)])
    })?;
    host.drain()?;
    assert_eq!(scene.positions("retention")?[1], Some(100), "the blocked partition has not moved");
    Ok(())
}

#[test]
fn a_topic_created_again_is_blocked_although_the_old_position_exists_in_it() -> Result<()> {
    let (scene, _) = moved("recreated", 2, 100)?;
    scene.topic.delete()?;
    let topic = Topic::create("recreated", 2)?;
    Load::new(&topic, Mix::default())?.counting_from(1000).send(1000)?;
    let rows = scene.database.number("SELECT count(*) FROM readings")?;
    let host = scene.start("second", &scene.pipeline()?)?;
    let blocked = || host.events("partition blocked");
    until_true("both partitions are blocked", SOON, || {
        let partitions: Vec<String> =
            blocked().iter().filter_map(|event| event.text("partitions")).collect();
        Ok(["0", "1"].iter().all(|number| partitions.join(",").contains(number)))
    })?;
    for blocked in blocked() {
        assert!(blocked.message.contains("deleted and created again"), "{}", blocked.message);
        assert_eq!(blocked.text("code").as_deref(), Some("SL-K015"), "{}", blocked.line);
    }
    host.drain()?;
    assert_eq!(scene.positions("recreated")?, [Some(100), Some(100)]);
    assert_eq!(scene.database.number("SELECT count(*) FROM readings")?, rows);
    Ok(())
}

/// As hosts have stored it that met brokers before version 2.8.
#[test]
fn what_was_stored_when_brokers_named_no_topic_id_goes_on() -> Result<()> {
    let (scene, mut load) = moved("nameless", 3, 100)?;
    for table in ["positions", "lineage", "dead_letters"] {
        let none = "'00000000-0000-0000-0000-000000000000'";
        scene.database.execute(&format!("UPDATE sluice.{table} SET topic_id = {none}"))?;
    }
    load.send(300)?;
    let host = scene.start("second", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    assert!(host.events("partition blocked").is_empty());
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn a_topic_created_again_under_a_running_host_is_noticed() -> Result<()> {
    let scene = Scene::new("recreated_live", 2, Readings::TABLE)?;
    Load::new(&scene.topic, Mix::default())?.send(200)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    scene.topic.delete()?;
    let topic = Topic::create("recreated_live", 2)?;
    Load::new(&topic, Mix::default())?.counting_from(1000).send(1000)?;
    host.wait_for("partition blocked", SOON)?;
    host.drain()?;
    assert_eq!(scene.positions("recreated_live")?, [Some(100), Some(100)]);
    let new_rows = "SELECT count(*) FROM readings WHERE seq >= 1000";
    assert_eq!(
        scene.database.number(new_rows)?,
        0,
        "rows of the new topic under positions of the old"
    );
    Ok(())
}

#[test]
fn partitions_that_were_added_are_read_from_their_first_message() -> Result<()> {
    let mut scene = Scene::new("grown", 2, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(100)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.source_lines = "start = \"latest\"\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    until_true("positions are stored before the first message", SOON, || {
        Ok(scene.positions("grown")? == [Some(50), Some(50)])
    })?;
    load.send(100)?;
    let mut topic = scene.topic.clone();
    topic.grow(5)?;
    load.follow(&topic)?;
    load.send(500)?;
    scene.topic = topic;
    scene.wait_until_drained()?;
    host.drain()?;
    let log = Log::read(&scene.topic)?.starting_at(&[50, 50, 0, 0, 0]);
    Check::new("grown", &Readings::all()).passes_with(&log, "grown", &scene.database)
}

#[test]
fn deleted_messages_that_were_moved_before_are_no_gap() -> Result<()> {
    let (scene, mut load) = moved("retention_behind", 2, 100)?;
    let before = Log::read(&scene.topic)?;
    scene.topic.delete_records(0, 100)?;
    load.send(200)?;
    let host = scene.start("second", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    let log = before.extended_by(Log::read(&scene.topic)?);
    Check::new("retention_behind", &Readings::all()).passes_with(
        &log,
        "retention_behind",
        &scene.database,
    )
}

/// librdkafka by itself would read the last partitions only when the first ones are empty.
/// A response has one batch of a producer at least. Where an operator allows less than that, the partition cannot be read.
#[test]
fn a_batch_that_is_larger_than_a_response_may_be_is_told() -> Result<()> {
    let scene = Scene::readings("topics_response")?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(1200)?;
    let mut large = make(Mix { bad_per_mille: 0, long_per_mille: 0 }, 3, 1_000_000);
    let mut reading: serde_json::Value =
        serde_json::from_slice(large.payload.as_deref().unwrap_or_default())?;
    reading["diagnostics"] = "x".repeat(4_000_000).into();
    large.payload = Some(reading.to_string().into_bytes());
    load.send_made(&[(3, large)])?;
    let pipeline = scene.pipeline()?.property("receive.message.max.bytes", "1100000");
    let host = scene.start("host", &pipeline)?;
    until_true("it is blocked and says why", SOON, || {
        Ok(blocked(&scene.database, &scene.name)?.is_some_and(|(code, reason)| {
            println!("{code}: {reason}");
            code == "SL-K012" && reason.contains("receive.message.max.bytes")
        }))
    })?;
    host.terminate()?;
    // Without the limit it is a message as any other.
    let host = scene.start("unlimited", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    assert_eq!(scene.database.number("SELECT count(*) FROM readings")?, 1201);
    Ok(())
}

#[test]
fn no_partition_waits_for_the_others_of_its_lane() -> Result<()> {
    const PARTITIONS: usize = 6;
    // One response of the broker brings some 5,000 of one partition: far more than that, or chance decides.
    const EACH: usize = 40_000;
    let scene = Scene::new("fair", PARTITIONS.try_into()?, Readings::TABLE)?;
    Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?
        .send(PARTITIONS * EACH)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.lanes = 1;
    pipeline.source_lines = "queue_bytes = \"64KiB\"\n".to_owned();
    pipeline.batch_lines = "max_messages = 2000\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    scene.wait_until_drained()?;
    host.drain()?;
    // One lane appends, so rows lie in the table in the order in which they were read.
    let half = PARTITIONS * EACH / 2;
    let shares = (0..PARTITIONS).map(|partition| {
        scene.database.number(&format!(
            "SELECT count(*) FROM (SELECT device_id FROM readings ORDER BY ctid LIMIT {half}) AS half \
             WHERE device_id LIKE 'hems-{partition:02}-%'"
        ))
    });
    let shares = shares.collect::<Result<Vec<_>>>()?;
    let share_min = i64::try_from(EACH / 4)?;
    assert!(shares.iter().all(|share| *share > share_min), "rows of the first half: {shares:?}");
    Ok(())
}
