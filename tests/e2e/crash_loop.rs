//! Inputs that kill the process itself: met three times at most, then their partition is blocked and the others go on.
//! Restarts, kills with work done in between, and outages are none.

use std::process::Command;

use anyhow::{Result, bail};
use sluice_tests::checker::{Check, Log, Readings};
use sluice_tests::gate::Gate;
use sluice_tests::host::{Event, Host, Pipeline};
use sluice_tests::load::{Load, Mix, bomb};
use sluice_tests::plugins::sluice;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until, until_true};

/// Zeros that compress to a thousandth.
const BOMB_BYTES: usize = 990_000_000;
/// Of its own, as the kernel counts: code, threads' stacks, and less than the bomb.
const DATA_BYTES: u64 = 980_000_000;

fn resolve(scene: &Scene, words: &str) -> Result<()> {
    let file = scene.pipeline()?.write(&scene.folder)?;
    let mut command = Command::new(sluice()?);
    command.arg("resolve").arg(file).args(words.split_whitespace()).args(["--reason", "it kills"]);
    let output = command.env_remove("RUST_LOG").output()?;
    if !output.status.success() {
        bail!("{words}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn deaths(scene: &Scene, partition: i32) -> Result<i64> {
    let sql = "SELECT coalesce(max(CASE WHEN vanished_at = next_offset THEN vanished ELSE 0 END), 0) \
               FROM sluice.positions WHERE partition = ";
    scene.database.number(&format!("{sql}{partition}"))
}

fn claimed(events: &[Event], partition: i32) -> usize {
    let has = |event: &&Event| {
        let numbers = event.text("partitions").unwrap_or_default();
        let mut numbers = numbers.trim_matches(['[', ']']).split(", ");
        event.is("partitions claimed") && numbers.any(|it| it == partition.to_string())
    };
    events.iter().filter(has).count()
}

fn wait_until_claimed(host: &Host, partition: i32) -> Result<()> {
    until_true("the partition is claimed", SOON, || Ok(claimed(&host.all_events(), partition) > 0))
}

/// A real bomb: a message that takes more memory than the host may have.
#[test]
fn a_compression_bomb_is_met_three_times_and_then_blocked() -> Result<()> {
    let scene = Scene::alone("deaths_bomb", 4, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(400)?;
    // One lane: each takes memory of its own.
    let file = Pipeline { lanes: 1, ..scene.pipeline()? }.write(&scene.folder)?;
    let start = |name: &str| {
        Host::start_with_memory(name, &scene.folder, std::slice::from_ref(&file), DATA_BYTES)
    };
    let host = start("before")?;
    scene.wait_until_drained()?;
    host.drain()?;
    let log = Log::read(&scene.topic)?;
    bomb::send(&scene.topic, 1, BOMB_BYTES)?;
    load.send(400)?;

    let mut met = 0;
    let last = until("a host that lives", SOON * 5, || {
        let mut host = start(&format!("host-{met}"))?;
        let blocked = until("the host has crashed, or blocks the partition", SOON, || {
            let blocked = host.events("partition blocked").into_iter().next();
            Ok(if host.is_running()? { blocked.map(Some) } else { Some(None) })
        })?;
        let Some(blocked) = blocked else {
            met += usize::from(claimed(&host.all_events(), 1) > 0);
            return Ok(None);
        };
        assert_eq!(blocked.text("code").as_deref(), Some("SL-K017"), "{}", blocked.line);
        assert_eq!(blocked.text("partitions").as_deref(), Some("1"), "{}", blocked.line);
        Ok(Some(host))
    })?;
    assert_eq!(met, 3, "the bomb was met so many times");
    until_true("the other partitions have drained", SOON, || {
        Ok(scene.positions(&scene.name)? == [200, 100, 200, 200].map(Some))
    })?;
    // Starting again changes nothing.
    last.drain()?;
    let last = start("last")?;
    assert_eq!(last.wait_for("partition blocked", SOON)?.text("code").as_deref(), Some("SL-K017"));

    resolve(&scene, "--partition 1 --offset 101")?;
    scene.wait_until_drained()?;
    last.drain()?;
    scene.topic.delete_records(1, 101)?;
    let log = log.extended_by(Log::read(&scene.topic)?);
    Check::new(&scene.name, &Readings::all()).passes_with(&log, &scene.name, &scene.database)
}

/// Behind every write of a row of partition 1, as long as somebody has the lock.
const WAIT_IN_PARTITION_1: &str = "\
    CREATE FUNCTION wait_in_1() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared(2); RETURN NULL; END $$;
    CREATE TRIGGER wait_in_1 AFTER INSERT ON readings FOR EACH ROW WHEN (NEW.device_id LIKE 'hems-01-%')
        EXECUTE FUNCTION wait_in_1()";

/// All partitions die together twice; the third time names the one that was read alone, and it was not the
/// first to be asked.
#[test]
fn of_partitions_that_crashed_together_only_the_one_with_the_cause_is_blocked() -> Result<()> {
    let scene = Scene::new("deaths_together", 3, Readings::TABLE)?;
    Gate::build(&scene.database, "readings")?;
    scene.database.execute(WAIT_IN_PARTITION_1)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(300)?;
    let pipeline = scene.pipeline()?.impatient();
    let keeper = scene.database.again()?;
    keeper.execute("SELECT pg_advisory_lock(2)")?;
    let gate = Gate::close(&scene.database)?;
    for life in 1..=2 {
        let host = scene.start(&format!("together-{life}"), &pipeline)?;
        gate.wait_for_session(&[])?;
        (0..3).try_for_each(|partition| wait_until_claimed(&host, partition))?;
        host.kill()?;
    }
    gate.open()?;
    let host = scene.start("alone", &pipeline)?;
    host.wait_for("hosts crashed twice at this position", SOON)?;
    wait_until_claimed(&host, 1)?;
    assert_eq!(scene.positions(&scene.name)?, [Some(100), Some(0), Some(0)], "one at a time");
    host.kill()?;

    let host = scene.start("after", &pipeline)?;
    let blocked = host.wait_for("partition blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-K017"), "{}", blocked.line);
    assert_eq!(blocked.text("partitions").as_deref(), Some("1"), "{}", blocked.line);
    until_true("the other partitions have drained", SOON, || {
        Ok(scene.positions(&scene.name)? == [Some(100), Some(0), Some(100)])
    })?;
    keeper.execute("SELECT pg_advisory_unlock(2)")?;
    resolve(&scene, "--partition 1 --retry")?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn restarts_rebalances_and_kills_with_work_done_are_not_counted() -> Result<()> {
    let scene = Scene::new("deaths_none", 2, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(200)?;
    let pipeline = scene.pipeline()?.impatient();
    let host = scene.start("first", &pipeline)?;
    scene.wait_until_drained()?;
    // Partition 1 cannot move, and has much to read: a host that ends there could have died of it.
    load.send(400)?;
    scene.wait_until_drained()?;
    host.drain()?;
    load.send(400)?;
    scene.topic.delete_records(1, 350)?;
    for restart in 0..10 {
        let host = scene.start(&format!("restart-{restart}"), &pipeline)?;
        wait_until_claimed(&host, 1)?;
        host.drain()?;
        assert_eq!(deaths(&scene, 1)?, 0, "restart {restart}");
    }
    // Two hosts that take partitions from each other.
    let mut hosts = vec![scene.start("one", &pipeline)?];
    for turn in 0..5 {
        hosts.push(scene.start(&format!("other-{turn}"), &pipeline)?);
        hosts[1].wait_for("partitions claimed", SOON)?;
        hosts.remove(0).drain()?;
    }
    assert_eq!(deaths(&scene, 1)?, 0);
    // A kill counts where there was something to read and nothing moved, and only there.
    for kill in 1..=4 {
        load.send_to(0, 100)?;
        until_true("partition 0 moves", SOON, || {
            Ok(scene.positions(&scene.name)?[0] == Some(500 + 100 * kill))
        })?;
        hosts.remove(0).kill()?;
        hosts.push(scene.start(&format!("kill-{kill}"), &pipeline)?);
        hosts[0].wait_for("partitions claimed", SOON)?;
        assert_eq!(deaths(&scene, 0)?, 0, "kill {kill}");
    }
    until_true("the kills were counted for partition 1", SOON, || Ok(deaths(&scene, 1)? > 0))?;
    hosts.remove(0).drain()?;
    Ok(())
}
