//! Hosts that come and go under load.

use std::time::Duration;

use anyhow::{Error, Result};
use sluice_tests::checker::Readings;
use sluice_tests::counts::scaled;
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

#[test]
fn hosts_come_and_go_without_loss_with_the_eager_assignor() -> Result<()> {
    storm("storm_eager", "range")
}

#[test]
fn hosts_come_and_go_without_loss_with_the_cooperative_assignor() -> Result<()> {
    storm("storm_cooperative", "cooperative-sticky")
}

fn storm(name: &str, assignor: &str) -> Result<()> {
    let scene = Scene::readings(name)?;
    // Each host writes at another pace.
    let pipeline = |number: usize| {
        let pipeline = scene.pipeline()?.impatient().paced(number);
        Ok::<_, Error>(pipeline.property("partition.assignment.strategy", assignor))
    };
    let stream = Load::new(&scene.topic, Mix::default())?.stream(2000);
    let mut hosts = vec![scene.start("host-0", &pipeline(0)?)?];
    let (mut joined, mut claims) = (0, 0);
    let rounds = scaled(100);
    while joined < rounds {
        if hosts.len() < 2 || (hosts.len() < 4 && fastrand::bool()) {
            joined += 1;
            let host = scene.start(&format!("host-{joined}"), &pipeline(joined)?)?;
            host.wait_until_started()?;
            hosts.push(host);
        } else {
            let host = hosts.swap_remove(fastrand::usize(0..hosts.len()));
            host.wait_for("partitions claimed", SOON)?;
            claims += host.events("partitions claimed").len();
            host.drain()?;
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..500)));
    }
    stream.stop()?;
    scene.wait_until_drained()?;
    for host in hosts {
        claims += host.drain()?.iter().filter(|event| event.is("partitions claimed")).count();
    }
    assert!(claims > rounds, "{claims} claims in {rounds} rounds");
    scene.check(&Readings::all())
}
