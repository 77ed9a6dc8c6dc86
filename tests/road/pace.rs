//! How often lanes write: a message after silence at once, a trickle at the pace, and what does not wait for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use sluice_tests::checker::Readings;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// A pace that no test can wait for.
const ENDLESS: &str = "pace = \"60s\"";
/// Far less than that, and enough for a slow machine.
const PROMPT: Duration = Duration::from_secs(20);

/// A reading that says when it was sent.
pub fn sent_now(_: Mix, partition: i32, number: u64) -> Made {
    let now = Timestamp::now();
    let device_id = format!("hems-{partition:02}-{number}");
    let reading = serde_json::json!({
        "device_id": device_id, "measured_at": format!("{now:.3}"), "seq": number, "power_w": 1.5, "voltage_v": 230.0,
        "current_a": 0.5, "energy_wh": number, "temperature_c": 20.5, "status": "ok",
    });
    let timestamp_ms = now.as_millisecond();
    Made { timestamp_ms, ..Made::raw("row", &device_id, &reading.to_string()) }
}

#[test]
fn a_message_after_silence_is_written_at_once_and_a_trickle_at_the_pace() -> Result<()> {
    const PACE: Duration = Duration::from_secs(1);
    let scene = Scene::new("pace_trickle", 3, Readings::TABLE)?;
    scene.database.execute(
        "ALTER TABLE readings ADD COLUMN written_at timestamptz NOT NULL DEFAULT clock_timestamp()",
    )?;
    let mut pipeline = scene.pipeline()?;
    pipeline.lanes = 1;
    "pace = \"1s\"".clone_into(&mut pipeline.batch_lines);
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let mut load = Load::new(&scene.topic, Mix::default())?.making(sent_now);
    load.send(3)?;
    scene.wait_until_drained()?;
    let mut delays = Vec::new();
    for _ in 0..5 {
        // The silence that the next message comes after.
        std::thread::sleep(PACE * 3 / 2);
        let rows = scene.database.number("SELECT count(*) FROM readings")?;
        load.send(1)?;
        let arrived = || Ok(scene.database.number("SELECT count(*) FROM readings")? > rows);
        until_true("the message is a row", SOON, arrived)?;
        delays.push(scene.database.number(
            "SELECT (extract(epoch FROM max(written_at - measured_at)) * 1000)::bigint FROM readings
             WHERE measured_at = (SELECT max(measured_at) FROM readings)",
        )?);
    }
    // One of them may meet a machine that is busy with something else.
    delays.sort_unstable();
    assert!(delays[2] < 250, "ms until messages after silence were written: {delays:?}");

    std::thread::sleep(PACE * 3 / 2);
    let before = Timestamp::now();
    let stream = load.stream(40);
    std::thread::sleep(PACE * 6);
    stream.stop()?;
    let after = Timestamp::now();
    scene.wait_until_drained()?;
    let trickle = format!("FROM readings WHERE measured_at >= timestamptz '{before:.3}'");
    let number = |what: &str| scene.database.number(&format!("SELECT {what} {trickle}"));
    let (rows, commits) = (number("count(*)")?, number("count(DISTINCT xmin::text)")?);
    let seconds = (after.as_millisecond() - before.as_millisecond()) / 1000;
    assert!(rows > 150, "{rows} rows of the trickle");
    assert!((4..=seconds + 2).contains(&commits), "{commits} commits in {seconds} s");
    let slowest = number("(extract(epoch FROM max(written_at - measured_at)) * 1000)::bigint")?;
    assert!((500..2000).contains(&slowest), "{slowest} ms from sent to written at most");
    host.drain()?;
    Ok(())
}

#[test]
fn neither_full_batches_nor_the_end_of_a_host_wait_for_the_pace() -> Result<()> {
    let scene = Scene::readings("pace_full")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.batch_lines = format!("max_messages = 500\n{ENDLESS}\n");
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let begin = Instant::now();
    Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?.send(20_000)?;
    let lanes = i64::try_from(pipeline.lanes)?;
    let full = format!("SELECT count(*) >= 20000 - {lanes} * 500 FROM readings");
    until_true("full batches are written", PROMPT, || scene.database.holds(&full))?;
    host.drain()?;
    assert!(begin.elapsed() < PROMPT * 2, "{:?} until the host had ended", begin.elapsed());
    scene.check(&Readings::all())
}

/// A lane that sleeps until something happens is told to finish.
#[test]
fn a_host_without_messages_ends_at_once() -> Result<()> {
    let scene = Scene::new("pace_idle_end", 3, Readings::TABLE)?;
    Load::new(&scene.topic, Mix::default())?.send(30)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    // The silence after which lanes expect nothing any more.
    std::thread::sleep(Duration::from_secs(2));
    let told = Instant::now();
    host.drain()?;
    assert!(told.elapsed() < Duration::from_secs(6), "{:?}", told.elapsed());
    scene.check(&Readings::all())
}

#[test]
fn partitions_are_released_without_waiting_for_the_pace() -> Result<()> {
    let scene = Scene::readings("pace_release")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.lanes = 1;
    ENDLESS.clone_into(&mut pipeline.batch_lines);
    let first = scene.start("first", &pipeline)?;
    first.wait_for("partitions claimed", SOON)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    // The first write, and then messages that wait for the next one.
    load.send(10)?;
    until_true("the first write", PROMPT, || {
        scene.database.holds("SELECT count(*) > 0 FROM readings")
    })?;
    load.send(1000)?;
    let second = scene.start("second", &pipeline)?;
    second.wait_for("partitions claimed", SOON)?;
    scene
        .wait_until_drained_within(PROMPT)
        .with_context(|| format!("{}\n{}", first.tail(), second.tail()))?;
    first.drain()?;
    second.drain()?;
    scene.check(&Readings::all())
}
