//! Informational offsets, which the consumer group has for lag tools, are never ahead of Postgres.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::gate::Gate;
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// More than twice the time after which the group is told.
const WATCH: Duration = Duration::from_millis(2500);

#[test]
fn the_group_is_told_what_postgres_has_and_never_more() -> Result<()> {
    let scene = Scene::new("informational", 3, Readings::TABLE)?;
    Gate::build(&scene.database, "readings")?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    let host = scene.start("host", &scene.pipeline()?)?;
    load.send(300)?;
    scene.wait_until_drained()?;
    let gate = Gate::close(&scene.database)?;
    load.send(300)?;
    gate.wait_for_session(&[])?;
    let start = Instant::now();
    while start.elapsed() < WATCH {
        // Asked first, so that what Postgres gets in between cannot hide an offset that was ahead.
        let committed = scene.topic.committed("informational")?;
        let positions = scene.positions("informational")?;
        for (committed, position) in committed.iter().zip(&positions) {
            assert!(committed <= position, "the group has {committed:?}, Postgres {position:?}");
        }
    }
    gate.open()?;
    scene.wait_until_drained()?;
    until_true("the group has heard of the end", SOON, || {
        Ok(scene.topic.committed("informational")? == scene.positions("informational")?)
    })?;
    load.send(300)?;
    scene.wait_until_drained()?;
    host.drain()?;
    assert_eq!(
        scene.topic.committed("informational")?,
        scene.positions("informational")?,
        "a drained host has told the group"
    );
    scene.check(&Readings::all())
}
