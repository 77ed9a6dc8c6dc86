//! A message each 50 ms, as a few devices send them: for 20 s, or for ten minutes with `SLUICE_LONG=1`. Postgres notes
//! the time of each commit, so that nobody has to look while it goes on.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use sluice_tests::counts::long;
use sluice_tests::load::{Load, Mix};
use sluice_tests::postgres::own_server_with;
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

use crate::pace::{BEGUN_AT, Visible, sent_now};

/// The default of the host.
const PACE_MS: f64 = 100.0;
/// Beyond the pace: for a commit, with room for a machine that does other things.
const COMMIT_MS: f64 = 900.0;
const ARRIVAL_MS: u32 = 50;
const PER_SECOND: u32 = 20;

#[test]
fn each_message_of_a_trickle_is_visible_within_the_pace_and_a_commit() -> Result<()> {
    let server = own_server_with(&[("track_commit_timestamp", "on")])?;
    let scene = Scene::on_server("steady-trickle", 3, &server)?;
    scene.database.execute(BEGUN_AT)?;
    let mut pipeline = scene.pipeline()?;
    // One lane gets all 20 messages a second: without a pace it would commit as often.
    pipeline.lanes = 1;
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let mut load = Load::new(&scene.topic, Mix::default())?.making(sent_now);
    // Connections are made and statements planned before it counts.
    load.send(12)?;
    scene.wait_until_drained()?;

    let begin = Timestamp::now();
    let time = Duration::from_secs(if long() { 600 } else { 20 });
    let stream = load.stream(PER_SECOND);
    std::thread::sleep(time);
    stream.stop()?;
    scene.wait_until_drained()?;

    let visible = Visible::since(&scene, begin, ARRIVAL_MS)?;
    assert!(visible.rows >= f64::from(PER_SECOND) * time.as_secs_f64() * 0.5, "{visible:?}");
    // All writes begin within these seconds, and the pace lies between their beginnings.
    let commits_max = visible.seconds * 1000.0 / PACE_MS + 1.0;
    assert!(visible.commits <= commits_max, "{visible:?}");
    assert!(visible.passed_by < 0.05, "{visible:?}");
    assert!(visible.p50_ms <= PACE_MS + COMMIT_MS, "{visible:?}");
    // Beside other tests any message may meet a machine that is busy.
    assert!(!long() || visible.max_ms <= PACE_MS + COMMIT_MS, "{visible:?}");
    host.drain()?;
    Ok(())
}
