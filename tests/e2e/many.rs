//! Many pipelines in one process and database: they share connections, and none of them notices what ails another.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sluice_tests::checker::{Check, Readings};
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

const PIPELINES: usize = 12;
/// Far fewer than there are lanes.
const CONNECTIONS_MAX: i64 = 8;
/// What a process has beyond them: one for heartbeats, two for errands, three for claims.
const BEYOND: i64 = 6;
/// Sessions that were given up take the server a moment to end, and the next ones are there already.
const ENDING: i64 = 6;

/// All sessions of hosts with the database.
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name LIKE 'sluice/%'";

fn table(number: usize) -> String {
    if number == 0 { "readings".to_owned() } else { format!("readings_{number}") }
}

fn name(number: usize) -> String {
    format!("many-{number}")
}

/// Twelve pipelines that read the same topic into tables of their own, one whose table is missing, and one whose
/// database takes connections and says nothing.
fn pipelines(scene: &Scene, away: &TcpListener) -> Result<Vec<Pipeline>> {
    let plugin = plugin("readings")?;
    let to_table = |name: &str, url: &str, table: &str| -> Result<Pipeline> {
        let mut pipeline = Pipeline::new(name, &scene.topic.name, url, &plugin)?;
        pipeline = pipeline.property("session.timeout.ms", "5000");
        pipeline.sink_lines = format!("table = \"{table}\"\nconnections_max = {CONNECTIONS_MAX}\n");
        Ok(pipeline)
    };
    let url = scene.database.url();
    let mut pipelines = Vec::new();
    for number in 0..PIPELINES {
        if number > 0 {
            let copy = format!("CREATE TABLE {} (LIKE readings INCLUDING ALL)", table(number));
            scene.database.execute(&copy)?;
        }
        pipelines.push(to_table(&name(number), url, &table(number))?);
    }
    pipelines.push(to_table("many-broken", url, "missing")?);
    let nowhere = format!("postgres://postgres@127.0.0.1:{}/nowhere", away.local_addr()?.port());
    pipelines.push(to_table("many-away", &nowhere, "readings")?);
    Ok(pipelines)
}

/// The most sessions there were while `done` was waited for.
fn most_sessions(scene: &Scene, mut done: impl FnMut() -> Result<bool>) -> Result<i64> {
    let (mut most, end) = (0, Instant::now() + SOON);
    while !done()? {
        most = most.max(scene.database.number(SESSIONS)?);
        anyhow::ensure!(Instant::now() < end, "it never came true");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(most)
}

fn rows(scene: &Scene, number: usize) -> Result<i64> {
    scene.database.number(&format!("SELECT count(*) FROM {}", table(number)))
}

#[test]
fn twelve_pipelines_share_connections_and_two_that_fail_slow_no_other() -> Result<()> {
    let scene = Scene::alone("many", 3, Readings::TABLE)?;
    let away = TcpListener::bind("127.0.0.1:0")?;
    let pipelines = pipelines(&scene, &away)?;
    let files = pipelines.iter().map(|it| it.write(&scene.folder)).collect::<Result<Vec<_>>>()?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(300)?;

    let begun = Instant::now();
    let first = Host::start("first", &scene.folder, &files)?;
    let all_have = |count: i64| -> Result<bool> {
        for number in 0..PIPELINES {
            if rows(&scene, number)? < count {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let mut most = most_sessions(&scene, || all_have(300)).with_context(|| first.tail())?;
    let at_work = begun.elapsed();

    let stream = load.stream(600);
    let end = Instant::now() + Duration::from_secs(6);
    most = most.max(most_sessions(&scene, || Ok(Instant::now() > end))?);
    first.kill()?;
    let second = Host::start("second", &scene.folder, &files)?;
    let end = Instant::now() + Duration::from_secs(10);
    most = most.max(most_sessions(&scene, || Ok(Instant::now() > end))?);
    stream.stop()?;
    let caught_up = Instant::now();
    for number in 0..PIPELINES {
        scene.wait_until_drained_as(&name(number)).with_context(|| second.tail())?;
    }
    let caught_up = caught_up.elapsed();
    eprintln!("at work after {at_work:?}, drained after {caught_up:?}, at most {most} sessions");
    assert!(most <= CONNECTIONS_MAX + BEYOND + ENDING, "{most} sessions");

    Check::new(&name(0), &Readings::all()).passes(&scene.topic, &scene.database)?;
    let columns = "device_id, measured_at, seq, power_w, voltage_v, current_a, energy_wh, temperature_c, status";
    for number in 1..PIPELINES {
        let table = table(number);
        let differ = format!(
            "SELECT count(*) FROM (SELECT {columns} FROM {table} EXCEPT ALL SELECT {columns} FROM readings) AS d"
        );
        assert_eq!(scene.database.number(&differ)?, 0, "rows of {table} that are not in readings");
        assert_eq!(rows(&scene, number)?, rows(&scene, 0)?, "rows of {table}");
    }
    // One at once, one when its server has not answered for long enough.
    second.wait_for_nth("pipeline blocked", 2, SOON)?;
    let blocked = second.events("pipeline blocked");
    let of = |name: &str| {
        blocked.iter().filter(|it| it.text("pipeline").as_deref() == Some(name)).count()
    };
    assert_eq!((of("many-broken"), of("many-away"), blocked.len()), (1, 1, 2));

    second.terminate()?;
    until_true("no session is left", SOON, || Ok(scene.database.number(SESSIONS)? == 0))
}
