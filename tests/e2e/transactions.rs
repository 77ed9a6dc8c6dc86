//! Topics with transactions: markers and messages of aborted ones are skipped, and nothing waits for them.

use std::str::FromStr as _;
use std::time::Instant;

use anyhow::Result;
use jiff::Timestamp;
use sluice_tests::checker::{Check, Log, Readings};
use sluice_tests::host::Host;
use sluice_tests::load::{Load, Mix, message};
use sluice_tests::operator;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

const PARTITIONS: i32 = 3;
const EACH: usize = 30;
const LANES: i64 = 2;

/// Notes each transaction that moves positions.
const COUNT_WRITES: &str = "\
    CREATE TABLE writes (at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.writes DEFAULT VALUES; RETURN NULL; END $$;
    CREATE TRIGGER note_write AFTER UPDATE ON sluice.positions FOR EACH STATEMENT EXECUTE FUNCTION note_write()";

fn scene(name: &str) -> Result<(Scene, Load)> {
    let scene = Scene::new(name, PARTITIONS, Readings::TABLE)?;
    let load = Load::new(&scene.topic, Mix::default())?.in_transactions(name)?;
    Ok((scene, load))
}

fn committed(load: &mut Load) -> Result<()> {
    load.begin()?;
    load.send(EACH)?;
    load.commit()?;
    load.topic().wait_for_markers()
}

fn aborted(load: &mut Load) -> Result<()> {
    load.begin()?;
    load.send(EACH)?;
    load.abort()?;
    load.topic().wait_for_markers()
}

fn lag(scene: &Scene) -> Result<Option<i64>> {
    let file = scene.pipeline()?.write(&scene.folder)?;
    Ok(operator::lag(&file)?["total"].as_i64())
}

#[test]
fn positions_stand_at_the_end_behind_markers_and_aborted_messages() -> Result<()> {
    let (scene, mut load) = scene("markers")?;
    let host = scene.start("first", &scene.pipeline()?)?;
    for end in [committed, aborted, committed] {
        end(&mut load)?;
        scene.wait_until_drained()?;
        assert_eq!(lag(&scene)?, Some(0));
    }
    aborted(&mut load)?;
    committed(&mut load)?;
    aborted(&mut load)?;
    aborted(&mut load)?;
    scene.wait_until_drained()?;
    assert_eq!(lag(&scene)?, Some(0));
    host.drain()?;
    scene.check(&Readings::all())?;

    // As retention does after a quiet week.
    let before = Log::read(&scene.topic)?;
    for (partition, end) in (0..).zip(scene.topic.log_ends()?) {
        scene.topic.delete_records(partition, end)?;
    }
    let host = scene.start("second", &scene.pipeline()?)?;
    committed(&mut load)?;
    scene.wait_until_drained()?;
    assert!(host.events("partition blocked").is_empty());
    host.drain()?;
    let log = before.extended_by(Log::read(&scene.topic)?);
    Check::new(&scene.name, &Readings::all()).passes_with(&log, &scene.name, &scene.database)
}

/// Markers alone make no batch for each of them, and none that the plugin sees.
#[test]
fn what_is_no_message_is_written_down_once_a_second_at_most() -> Result<()> {
    let (scene, mut load) = scene("only_markers")?;
    let host = scene.start("host", &scene.pipeline()?)?;
    committed(&mut load)?;
    scene.wait_until_drained()?;
    scene.database.execute(COUNT_WRITES)?;
    let begin = Instant::now();
    for _ in 0..40 {
        aborted(&mut load)?;
    }
    scene.wait_until_drained()?;
    host.drain()?;
    let seconds = i64::try_from(begin.elapsed().as_secs())?;
    let writes = scene.database.number("SELECT count(*) FROM writes")?;
    assert!((1..=LANES * (seconds + 2)).contains(&writes), "{writes} in {seconds} s");
    scene.check(&Readings::all())
}

#[test]
fn hosts_that_crash_behind_a_marker_quarantine_no_partition() -> Result<()> {
    let (scene, mut load) = scene("marker_deaths")?;
    let pipeline = scene.pipeline()?;
    committed(&mut load)?;
    let host = scene.start("first", &pipeline)?;
    scene.wait_until_drained()?;
    host.kill()?;
    for name in ["second", "third", "fourth"] {
        let host = scene.start(name, &pipeline)?;
        wait_until_claimed(&host)?;
        host.kill()?;
    }
    let host = scene.start("last", &pipeline)?;
    wait_until_claimed(&host)?;
    let deaths = "SELECT max(CASE WHEN vanished_at = next_offset THEN vanished ELSE 0 END) FROM sluice.positions";
    assert_eq!(scene.database.number(deaths)?, 0, "hosts died where there was nothing to read");
    committed(&mut load)?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}

fn wait_until_claimed(host: &Host) -> Result<()> {
    until_true("all partitions are claimed", SOON, || {
        let claims = host.events("partitions claimed");
        let numbers = claims.iter().filter_map(|event| event.text("partitions"));
        let numbers = numbers.collect::<Vec<_>>().join(",");
        Ok((0..PARTITIONS).all(|it| numbers.contains(&it.to_string())))
    })
}

/// What is behind the first message of an open transaction is read when it ends, and not counted as lag.
#[test]
fn an_open_transaction_keeps_what_comes_after_it_from_being_read() -> Result<()> {
    let (scene, mut load) = scene("open_transaction")?;
    let mut others = Load::new(&scene.topic, Mix::default())?.counting_from(1000);
    let host = scene.start("host", &scene.pipeline()?)?;
    committed(&mut load)?;
    load.begin()?;
    load.send_to(0, 1)?;
    others.send(EACH)?;
    scene.wait_until_drained()?;
    let file = scene.pipeline()?.write(&scene.folder)?;
    let lag = operator::lag(&file)?;
    assert_eq!(lag["total"], 0, "{lag}");
    let [not_readable, free] = [&lag["partitions"][0], &lag["partitions"][1]];
    assert_eq!(
        (&not_readable["not_readable"], &free["not_readable"]),
        (&(1 + 10).into(), &0.into()),
        "{lag}"
    );
    let first =
        Timestamp::from_str(not_readable["not_readable_since"].as_str().unwrap_or_default())?;
    assert_eq!(first.as_millisecond(), message::make(Mix::default(), 0, 10).timestamp_ms);
    assert!(free["not_readable_since"].is_null(), "{lag}");
    let told = host.wait_for("an open transaction keeps messages from being read", SOON * 2)?;
    assert_eq!(
        (told.number("partition"), told.number("messages")),
        (Some(0), Some(11)),
        "{}",
        told.line
    );
    load.commit()?;
    scene.topic.wait_for_markers()?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}
