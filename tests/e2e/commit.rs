//! Commits whose outcome nobody heard of.

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::counts::scaled;
use sluice_tests::host::Pipeline;
use sluice_tests::load::{Load, Mix};
use sluice_tests::proxy::{Cut, Proxy};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

fn pipeline_through(proxy: &Proxy, scene: &Scene) -> Result<Pipeline> {
    let mut pipeline = scene.pipeline()?;
    pipeline.url = proxy.url(scene.database.url(), scene.database.port()?);
    Ok(pipeline)
}

#[test]
fn a_lost_commit_reply_is_resolved_by_reading_the_position() -> Result<()> {
    let scene = Scene::readings("lost_commit")?;
    let proxy = Proxy::start(scene.database.port()?)?;
    let host = scene.start("host", &pipeline_through(&proxy, &scene)?)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(1000)?;
    scene.wait_until_drained()?;
    for (turn, (cut, committed)) in
        [(Cut::AfterCommit, "true"), (Cut::BeforeCommit, "false")].into_iter().enumerate()
    {
        proxy.arm(cut);
        load.send(1000)?;
        until_true("a connection was cut", SOON, || Ok(!proxy.armed()))?;
        scene.wait_until_drained()?;
        let resolved = host.wait_for_nth("commit outcome resolved", turn + 1, SOON)?;
        assert_eq!(resolved.text("committed").as_deref(), Some(committed), "{}", resolved.line);
    }
    assert_eq!(proxy.cuts(), (1, 1));
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn commits_lost_at_random_lose_and_repeat_nothing() -> Result<()> {
    let scene = Scene::readings("lost_commits")?;
    let proxy = Proxy::start(scene.database.port()?)?;
    let host = scene.start("host", &pipeline_through(&proxy, &scene)?)?;
    host.wait_for("partitions claimed", SOON)?;
    let stream = Load::new(&scene.topic, Mix::default())?.stream(3000);
    proxy.cut_at_random(300);
    let wanted = scaled(100);
    let limit = SOON * u32::try_from(2 + wanted / 10)?;
    until_true("connections were cut on both sides of COMMIT", limit, || {
        let (before, after) = proxy.cuts();
        Ok(before >= wanted && after >= wanted)
    })?;
    proxy.cut_at_random(0);
    stream.stop()?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}
