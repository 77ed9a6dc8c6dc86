//! A message each 50 ms, as a few devices send them: for 20 s, or for ten minutes with `SLUICE_LONG=1`. Postgres notes
//! the time of each commit, so that nobody has to look while it goes on.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sluice_tests::counts::long;
use sluice_tests::load::{Load, Mix};
use sluice_tests::postgres::own_server_with;
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

use crate::pace::sent_now;

/// The default of the host.
const PACE_MS: f64 = 100.0;
/// Beyond the pace: for a commit, on a machine that is busy with other tests.
const COMMIT_MS: f64 = 1000.0;
const PER_SECOND: u32 = 20;

#[test]
fn each_message_of_a_trickle_is_visible_within_the_pace_and_a_commit() -> Result<()> {
    let server = own_server_with(&[("track_commit_timestamp", "on")])?;
    let scene = Scene::on_server("steady-trickle", 3, &server)?;
    let mut pipeline = scene.pipeline()?;
    // One lane gets all 20 messages a second: without a pace it would commit as often.
    pipeline.lanes = 1;
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let mut load = Load::new(&scene.topic, Mix::default())?.making(sent_now);
    // Connections are made and statements planned before it counts.
    load.send(12)?;
    scene.wait_until_drained()?;
    scene.database.execute("TRUNCATE readings")?;

    let time = Duration::from_secs(if long() { 600 } else { 20 });
    let stream = load.stream(PER_SECOND);
    std::thread::sleep(time);
    stream.stop()?;
    scene.wait_until_drained()?;

    let figures = scene.database.text(
        "WITH rows AS (
             SELECT xmin::text AS transaction, pg_xact_commit_timestamp(xmin) AS committed_at, measured_at FROM readings
         ), latency AS (
             SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
                 ORDER BY (1000 * extract(epoch FROM committed_at - measured_at))::float8) AS ms FROM rows
         )
         SELECT concat_ws(' ', count(*), count(DISTINCT transaction),
             extract(epoch FROM max(committed_at) - min(measured_at)), (SELECT array_to_string(ms, ' ') FROM latency))
         FROM rows",
    )?;
    let figures = figures.context("no row")?;
    let figures: Vec<f64> = figures.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [rows, commits, seconds, p50, p99, most] = figures[..] else { panic!("{figures:?}") };
    eprintln!("{rows} rows in {commits} commits; visible after ms: p50 {p50} p99 {p99} max {most}");
    assert!(rows >= f64::from(PER_SECOND) * time.as_secs_f64() * 0.9, "{rows} rows");
    assert!(most <= PACE_MS + COMMIT_MS, "visible after {most} ms at most");
    // All writes begin within these seconds, and the pace lies between their beginnings.
    let commits_max = seconds * 1000.0 / PACE_MS + 1.0;
    assert!(commits <= commits_max, "{commits} commits in {seconds} s");
    host.drain()?;
    Ok(())
}
