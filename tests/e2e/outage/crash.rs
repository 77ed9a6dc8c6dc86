//! The server ends, one way or the other, and is started again.

use super::*;

use sluice_tests::counts::scaled;
use sluice_tests::plugins::plugin;
use sluice_tests::postgres::own_server;

#[test]
fn a_server_that_crashes_and_returns_costs_nothing_but_time() -> Result<()> {
    let mut server = own_server()?;
    let mut work = Work::begin(Scene::on_server("outage", 6, &server)?)?;
    for turn in 0..scaled(60) {
        let vigil = work.vigil()?;
        if turn % 2 == 0 {
            server.stop_immediate()?;
        } else {
            server.stop()?;
        }
        work.pile_up(2000)?;
        server.start_again()?;
        work.direct.reconnect()?;
        work.resumes()?;
        vigil.end(&work.host, LANES)?;
    }
    work.end()
}

#[test]
fn a_host_can_be_ended_while_the_server_is_away() -> Result<()> {
    let mut server = own_server()?;
    let Work { mut scene, host, stream, .. } =
        Work::begin(Scene::on_server("outage_end", 6, &server)?)?;
    server.stop_immediate()?;
    stream.stop()?;
    let events = host.drain()?;
    assert!(events.iter().any(|event| event.is("summary")));
    server.start_again()?;
    scene.database.reconnect()?;
    let host = scene.start("next", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}

/// The new version cannot be compared with the tables, which says nothing about it.
#[test]
fn a_plugin_replaced_while_the_server_is_away_is_taken_over_later() -> Result<()> {
    let mut server = own_server()?;
    let scene = Scene::on_server("outage_swap", 6, &server)?;
    scene.database.execute("ALTER TABLE readings ADD COLUMN marker text")?;
    let file = scene.own_plugin("hostile-marker-a")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.plugin.clone_from(&file);
    let mut work = Work::begin_with(scene, &pipeline)?;
    server.stop_immediate()?;
    work.scene.replace_plugin(&file, &plugin("hostile-marker-b")?)?;
    work.host.wait_for("plugin not replaced yet", SOON)?;
    server.start_again()?;
    work.direct.reconnect()?;
    work.resumes()?;
    work.host.wait_for("plugin replaced", SOON)?;
    work.host.wait_for("plugin swapped", SOON)?;
    work.end()
}
