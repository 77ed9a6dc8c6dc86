//! How often lanes write: a message after silence at once, a trickle at the pace, and what does not wait for it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use sluice_tests::checker::Readings;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::postgres::own_server_with;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// A pace that no test can wait for.
const ENDLESS: &str = "pace = \"60s\"";
/// Less than that, and enough for a machine that does other things.
const PROMPT: Duration = Duration::from_secs(40);

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

/// How messages have become visible, by the transactions that wrote them.
#[derive(Debug)]
pub struct Visible {
    pub rows: f64,
    pub commits: f64,
    /// From the first message to the last commit.
    pub seconds: f64,
    /// From sent to committed.
    pub p50_ms: f64,
    pub max_ms: f64,
    /// Messages that were not written by the first transaction that began after they must have arrived, nor by the
    /// second, as a share of all. However slow a machine is, it slows transactions and messages alike.
    pub passed_by: f64,
}

/// Makes rows of `readings` know when their transaction began. The server has to track times of commits.
pub const BEGUN_AT: &str =
    "ALTER TABLE readings ADD COLUMN begun_at timestamptz NOT NULL DEFAULT now()";

impl Visible {
    /// Of the messages sent `since`; they take less than `arrival_ms` to arrive.
    pub fn since(scene: &Scene, since: Timestamp, arrival_ms: u32) -> Result<Self> {
        let figures = scene.database.text(&format!(
            "WITH rows AS (
                 SELECT xmin::text AS transaction, begun_at, pg_xact_commit_timestamp(xmin) AS committed_at,
                     measured_at FROM readings WHERE measured_at >= timestamptz '{since:.3}'
             ), latency AS (
                 SELECT percentile_disc(ARRAY[0.5, 1]) WITHIN GROUP (
                     ORDER BY (1000 * extract(epoch FROM committed_at - measured_at))::float8) AS ms FROM rows
             ), transactions AS (
                 SELECT DISTINCT transaction, begun_at FROM rows
             ), passed AS (
                 SELECT (SELECT count(*) FROM transactions AS other
                     WHERE other.begun_at > measured_at + interval '{arrival_ms} ms'
                     AND other.begun_at < rows.begun_at) AS times FROM rows
             )
             SELECT concat_ws(' ', count(*), count(DISTINCT transaction),
                 extract(epoch FROM max(committed_at) - min(measured_at)),
                 (SELECT array_to_string(ms, ' ') FROM latency),
                 (SELECT avg((times > 1)::int)::float8 FROM passed))
             FROM rows"
        ))?;
        let figures = figures.context("no row")?;
        let figures: Vec<f64> = figures.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [rows, commits, seconds, p50_ms, max_ms, passed_by] = figures[..] else {
            anyhow::bail!("{figures:?}")
        };
        let visible = Self { rows, commits, seconds, p50_ms, max_ms, passed_by };
        eprintln!("{visible:?}");
        Ok(visible)
    }
}

#[test]
fn a_message_after_silence_is_written_at_once_and_a_trickle_at_the_pace() -> Result<()> {
    const PACE: Duration = Duration::from_secs(1);
    let server = own_server_with(&[("track_commit_timestamp", "on")])?;
    let scene = Scene::on_server("pace_trickle", 3, &server)?;
    scene.database.execute(BEGUN_AT)?;
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
        let before = Timestamp::now();
        load.send(1)?;
        scene.wait_until_drained()?;
        delays.push(Visible::since(&scene, before, 0)?.max_ms);
    }
    // Others may keep the machine busy, but not each time.
    let least = delays.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(least < 250.0, "ms until messages after silence were written: {delays:?}");

    std::thread::sleep(PACE * 3 / 2);
    let before = Timestamp::now();
    let stream = load.stream(40);
    std::thread::sleep(PACE * 8);
    stream.stop()?;
    scene.wait_until_drained()?;
    let visible = Visible::since(&scene, before, 100)?;
    assert!(visible.rows > 150.0, "{visible:?}");
    assert!(visible.commits <= visible.seconds + 1.0, "the pace lies between commits: {visible:?}");
    assert!(visible.max_ms > 500.0, "nothing waits: {visible:?}");
    assert!(visible.p50_ms < 1500.0, "{visible:?}");
    assert!(visible.passed_by < 0.05, "{visible:?}");
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
    Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?.send(20_000)?;
    let lanes = i64::try_from(pipeline.lanes)?;
    let full = format!("SELECT count(*) >= 20000 - {lanes} * 500 FROM readings");
    until_true("full batches are written", PROMPT, || scene.database.is_true(&full))?;
    host.drain()?;
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
    // A lane that looks once more sleeps for 10 s first.
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
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
        scene.database.is_true("SELECT count(*) > 0 FROM readings")
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

/// Each lane commits at its own pace, so that one with all partitions costs Postgres half of what two cost.
#[test]
fn one_lane_gets_all_partitions_while_there_is_little_to_do_and_shares_them_when_there_is_much()
-> Result<()> {
    const CHANGE: &str = "partitions change lanes";
    let server = own_server_with(&[("track_commit_timestamp", "on")])?;
    let scene = Scene::on_server("pace_lanes", 4, &server)?;
    scene.database.execute(BEGUN_AT)?;
    let mut pipeline = scene.pipeline()?.impatient();
    pipeline.batch_lines = "max_messages = 2000\n".to_owned();
    let mix = Mix { bad_per_mille: 0, long_per_mille: 0 };
    let stream = Load::new(&scene.topic, mix)?.making(sent_now).stream(400);
    // Hosts that die while partitions are on their way from one lane to the other.
    for round in 0..2 {
        let host = scene.start(&format!("dies-{round}"), &pipeline)?;
        host.wait_for(CHANGE, SOON)?;
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..50)));
        host.kill()?;
    }
    let host = scene.start("host", &pipeline)?;
    let change = host.wait_for(CHANGE, SOON)?;
    assert_eq!((change.number("lanes"), change.text("partitions")), (Some(1), Some("1,3".into())));
    host.wait_for_nth("partitions claimed", 2, SOON)?;
    // What lanes had begun before is written.
    std::thread::sleep(Duration::from_secs(1));
    let before = Timestamp::now();
    std::thread::sleep(Duration::from_secs(5));
    let mut load = stream.stop()?;
    scene.wait_until_drained()?;
    let visible = Visible::since(&scene, before, 100)?;
    assert!(visible.commits <= visible.seconds * 10.0 + 1.0, "two lanes commit: {visible:?}");
    load.send(200_000)?;
    let change = host.wait_for_nth(CHANGE, 2, SOON)?;
    assert_eq!((change.number("lanes"), change.text("partitions")), (Some(2), Some("2,3".into())));
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}
