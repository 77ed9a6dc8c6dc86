//! Hosts that are killed at random.

use std::time::Duration;

use anyhow::{Error, Result};
use sluice_tests::checker::Readings;
use sluice_tests::counts::scaled;
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

#[test]
fn hosts_killed_at_random_lose_and_repeat_nothing() -> Result<()> {
    let scene = Scene::readings("kill")?;
    // Each host writes at another pace.
    let pipeline = |number: usize| Ok::<_, Error>(scene.pipeline()?.impatient().paced(number));
    let stream = Load::new(&scene.topic, Mix::default())?.stream(3000);
    let mut hosts =
        vec![scene.start("host-0", &pipeline(0)?)?, scene.start("host-1", &pipeline(1)?)?];
    let kills = scaled(200);
    let mut progress = 0;
    for kill in 0..kills {
        let before = scene.positions(&scene.name)?;
        let host = hosts.swap_remove(fastrand::usize(0..hosts.len()));
        // Most kills hit hosts at work, some those that are starting, claiming or rebalancing.
        if kill % 4 != 0 {
            host.wait_for("partitions claimed", SOON)?;
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..1500)));
        // A third death where a position stands is one too many; on a busy machine none may move for seconds.
        let may_kill = || {
            scene.database.is_true(
                "SELECT count(*) = 0 FROM sluice.positions WHERE vanished >= 2 AND vanished_at = next_offset",
            )
        };
        if kill > 0 {
            until_true("no partition is one death away from being blocked", 2 * SOON, may_kill)?;
        }
        host.kill()?;
        progress += usize::from(scene.positions(&scene.name)? != before);
        hosts.push(scene.start(&format!("host-{}", kill + 2), &pipeline(kill + 2)?)?);
    }
    assert!(
        progress * 2 > kills,
        "only {progress} of {kills} kills found work done since the one before"
    );
    stream.stop()?;
    scene.wait_until_drained()?;
    hosts.into_iter().try_for_each(|host| host.drain().map(drop))?;
    scene.check(&Readings::all())
}
