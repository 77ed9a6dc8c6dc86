//! Postgres that goes away and comes back.

use anyhow::Result;
use sluice_tests::checker::{Check, Readings};
use sluice_tests::counts::scaled;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::kafka::Topic;
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::postgres::{Database, own_server};
use sluice_tests::wait::{SOON, until_true};

#[test]
fn a_server_that_crashes_and_returns_costs_nothing_but_time() -> Result<()> {
    let topic = Topic::create("outage", 6)?;
    let mut server = own_server()?;
    let database = Database::create_on(&server, "outage")?;
    database.execute(Readings::TABLE)?;
    let folder = sluice_tests::folders::scratch_for("outage")?;
    let pipeline = Pipeline::new("outage", "outage", database.url(), &plugin("readings")?)?;
    let host = Host::start("host", &folder, &[pipeline.write(&folder)?])?;
    host.wait_for("partitions claimed", SOON)?;
    let stream = Load::new(&topic, Mix::default())?.stream(3000);
    for turn in 0..scaled(30) {
        let sent = stream.acknowledged();
        if turn % 2 == 0 {
            server.stop_immediate()?;
        } else {
            server.stop()?;
        }
        until_true("messages wait for the server", SOON, || {
            Ok(stream.acknowledged() > sent + 2000)
        })?;
        server.start_again()?;
        let database = Database::open(server.url_of("outage"))?;
        let rows = database.number("SELECT count(*) FROM readings")?;
        until_true("rows are written again", SOON, || {
            Ok(database.number("SELECT count(*) FROM readings")? > rows)
        })?;
    }
    stream.stop()?;
    let database = Database::open(server.url_of("outage"))?;
    until_true("the pipeline has drained", SOON, || {
        let ends: i64 = topic.log_ends()?.iter().sum();
        Ok(database.number("SELECT sum(next_offset) FROM sluice.positions")? == ends)
    })?;
    host.drain()?;
    Check::new("outage", &Readings::all()).passes(&topic, &database)
}
