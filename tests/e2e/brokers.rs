//! Brokers of a cluster that go away, one by one and all at once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sluice_tests::child::{Signal, signal};
use sluice_tests::counts::scaled;
use sluice_tests::kafka::{Cluster, QUICK, Tuning};
use sluice_tests::scene::Scene;
use sluice_tests::work::Work;

/// Of a broker with its controller.
const SHORT_SESSION: &str = "broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=1500\n";
/// A broker that is silent for so long is dead for its controller.
const LONGER_THAN_A_SESSION: Duration = Duration::from_secs(5);

/// With the properties that an operator has who sets none.
fn begin(name: &str) -> Result<(Cluster, Work)> {
    let (cluster, scene) = Scene::on_cluster(name, 6)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.properties.clear();
    let work = Work::begin_with(scene, &pipeline)?;
    Ok((cluster, work))
}

#[test]
fn brokers_killed_and_frozen_one_by_one_cost_nothing_but_time() -> Result<()> {
    let (mut cluster, work) = begin("brokers")?;
    for round in 0..=scaled(30) {
        cluster.wait_until_whole()?;
        let coordinator = cluster.coordinator()?;
        // Every other time the one that the group depends on.
        let victim = if round % 4 < 2 { coordinator } else { (coordinator + 1) % cluster.size() };
        if round % 2 == 0 {
            cluster.kill(victim)?;
        } else {
            cluster.signal(victim, Signal::Stop)?;
        }
        let place = || format!("round {round}, broker {victim}");
        work.goes_on().with_context(place)?;
        if round % 2 == 0 {
            cluster.start_missing().with_context(place)?;
        } else {
            cluster.signal(victim, Signal::Continue)?;
        }
    }
    cluster.wait_until_whole()?;
    work.end()
}

#[test]
fn all_brokers_may_be_away_for_a_while() -> Result<()> {
    let (mut cluster, work) = begin("no_brokers")?;
    for _ in 0..scaled(20) {
        cluster.wait_until_whole()?;
        for index in 0..cluster.size() {
            cluster.kill(index)?;
        }
        std::thread::sleep(Duration::from_secs(5));
        cluster.start_missing()?;
        work.goes_on()?;
    }
    work.end()
}

/// A controller that goes on together with its only broker takes that one for dead at first: for a moment the cluster
/// has no broker, and says so to whoever asks.
#[test]
fn a_cluster_that_has_no_broker_for_a_moment_is_asked_again() -> Result<()> {
    let tuning = Tuning { properties: SHORT_SESSION, ..QUICK };
    let (broker, scene) = Scene::on_broker("no_broker", 6, &tuning)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.properties.clear();
    let work = Work::begin_with(scene, &pipeline)?;
    for _ in 0..=scaled(20) {
        signal(broker.pid(), Signal::Stop)?;
        std::thread::sleep(LONGER_THAN_A_SESSION);
        signal(broker.pid(), Signal::Continue)?;
        work.goes_on()?;
    }
    work.end()
}
