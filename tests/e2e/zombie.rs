//! Owners that sleep through their own funeral.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::child::Signal;
use sluice_tests::counts::scaled;
use sluice_tests::gate::Gate;
use sluice_tests::host::{Event, Host};
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// The successor must go on within this time, counted from the moment at which the owner stopped.
const SUCCESSION_MAX: Duration = Duration::from_secs(30);

fn scene(name: &str) -> Result<(Scene, Load)> {
    let scene = Scene::new(name, 4, Readings::TABLE)?;
    Gate::build(&scene.database, "readings")?;
    let load = Load::new(&scene.topic, Mix::default())?;
    Ok((scene, load))
}

fn start(scene: &Scene, name: &str) -> Result<Host> {
    let mut pipeline = scene.pipeline()?.impatient();
    pipeline.lanes = 1;
    let host = scene.start(name, &pipeline)?;
    Ok(host)
}

fn fenced(events: &[Event]) -> i64 {
    events
        .iter()
        .rev()
        .find_map(|event| event.is("summary").then(|| event.number("fenced")))
        .flatten()
        .unwrap_or(-1)
}

fn epochs(scene: &Scene) -> Result<i64> {
    scene.database.number("SELECT coalesce(sum(epoch), 0) FROM sluice.positions")
}

#[test]
fn an_owner_stopped_inside_of_its_transaction_neither_blocks_its_successor_nor_writes_when_it_wakes()
-> Result<()> {
    let (scene, mut load) = scene("zombie")?;
    let owner = start(&scene, "owner")?;
    load.send(400)?;
    scene.wait_until_drained()?;
    let gate = Gate::close(&scene.database)?;
    load.send(400)?;
    gate.wait_for_session(&[])?;
    owner.signal(Signal::Stop)?;
    let stopped = Instant::now();
    gate.open()?;

    let successor = start(&scene, "successor")?;
    scene.wait_until_drained()?;
    let succession = stopped.elapsed();
    assert!(succession < SUCCESSION_MAX, "the successor went on after {succession:?}");
    let before = rows(&scene)?;

    owner.signal(Signal::Continue)?;
    owner.wait_for("batch fenced", SOON)?;
    assert_eq!(rows(&scene)?, before);
    let events = owner.drain()?;
    assert!(fenced(&events) >= 1, "the attempt is counted");
    load.send(400)?;
    scene.wait_until_drained()?;
    successor.drain()?;
    scene.check(&Readings::all())
}

/// The successor has claimed but not yet written when the owner wakes: nothing but the epoch can stop it.
#[test]
fn a_claim_alone_stops_an_owner_that_wakes_before_its_successor_wrote() -> Result<()> {
    let (scene, mut load) = scene("zombie_epoch")?;
    let owner = start(&scene, "owner")?;
    load.send(400)?;
    scene.wait_until_drained()?;
    let gate = Gate::close(&scene.database)?;
    load.send(400)?;
    let of_owner = gate.wait_for_session(&[])?;
    owner.signal(Signal::Stop)?;
    let before = epochs(&scene)?;

    let successor = start(&scene, "successor")?;
    until_true("the successor has claimed", SOON, || Ok(epochs(&scene)? >= before + 4))?;
    gate.wait_for_session(&of_owner)?;
    successor.signal(Signal::Stop)?;
    let positions = scene.positions(&scene.name)?;
    owner.signal(Signal::Continue)?;
    gate.open()?;
    owner.wait_for("batch fenced", SOON)?;
    assert_eq!(scene.positions(&scene.name)?, positions, "the woken owner moved a position");

    successor.signal(Signal::Continue)?;
    scene.wait_until_drained()?;
    assert!(fenced(&owner.drain()?) >= 1, "the attempt is counted");
    successor.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn hosts_paused_at_random_lose_and_repeat_nothing() -> Result<()> {
    let scene = Scene::readings("pauses")?;
    let pipeline = scene.pipeline()?.impatient();
    let stream = Load::new(&scene.topic, Mix::default())?.stream(3000);
    let hosts: Vec<Host> = ["host-0", "host-1", "host-2"]
        .into_iter()
        .map(|name| scene.start(name, &pipeline))
        .collect::<Result<_>>()?;
    for host in &hosts {
        host.wait_for("partitions claimed", SOON)?;
    }
    for pause in 0..scaled(100) {
        let host = &hosts[fastrand::usize(0..hosts.len())];
        host.signal(Signal::Stop)?;
        // From half of the session's timeout, which nobody notices, to more than twice of it.
        let length = if pause % 3 == 0 { 750 } else { fastrand::u64(1600..3500) };
        std::thread::sleep(Duration::from_millis(length));
        host.signal(Signal::Continue)?;
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..1000)));
    }
    let lost = |event: &Event| {
        event.is("partitions released") && event.text("lost").as_deref() == Some("true")
    };
    let losses: usize =
        hosts.iter().map(|host| host.all_events().iter().filter(|it| lost(it)).count()).sum();
    assert!(losses > 0, "no host was paused long enough to lose its partitions");
    stream.stop()?;
    scene.wait_until_drained()?;
    hosts.into_iter().try_for_each(|host| host.drain().map(drop))?;
    scene.check(&Readings::all())
}

fn rows(scene: &Scene) -> Result<i64> {
    scene.database.number("SELECT count(*) FROM readings")
}
