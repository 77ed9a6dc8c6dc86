//! Brokers of a cluster that go away, one by one and all at once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sluice_tests::child::Signal;
use sluice_tests::counts::scaled;
use sluice_tests::kafka::Cluster;
use sluice_tests::scene::Scene;
use sluice_tests::work::Work;

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
