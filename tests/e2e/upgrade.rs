//! A rolling upgrade: hosts of the version before and of this one on one pipeline, under load.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::host::Host;
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator::call;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// Path of the program of the version before, which nothing here can build.
const BEFORE: &str = "SLUICE_BEFORE";

#[test]
fn hosts_of_the_version_before_are_replaced_one_by_one_under_load() -> Result<()> {
    let Some(before) = env::var_os(BEFORE).map(PathBuf::from) else {
        eprintln!("skipped: {BEFORE} does not name a `sluice` of the version before");
        return Ok(());
    };
    let scene = Scene::readings("upgrade")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.dead_letter_lines = "max_in_a_row = 0\n".to_owned();
    let files = [pipeline.write(&scene.folder)?];
    let old = |name: &str| Host::start_program(&before, name, &scene.folder, &files);
    let (first, second) = (old("old-1")?, old("old-2")?);
    for host in [&first, &second] {
        host.wait_for("partitions claimed", SOON)?;
    }
    let stream = Load::new(&scene.topic, Mix::default())?.stream(2000);
    let count = |table: &str| scene.database.number(&format!("SELECT count(*) FROM {table}"));
    let more = |table: &str, by: i64| {
        let from = count(table)?;
        until_true(&format!("{table} has {by} more rows"), SOON, || Ok(count(table)? > from + by))
    };
    more("readings", 1000)?;
    let migrated = call(&["migrate"], &files[0])?;
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    // Only hosts of the version before are there.
    more("readings", 4000)?;
    more("sluice.dead_letters", 20)?;
    first.drain()?;
    let first = scene.start("new-1", &pipeline)?;
    first.wait_for("partitions claimed", SOON)?;
    more("readings", 4000)?;
    // One of the version before is blocked, which it writes down under the name that it knows.
    scene.database.execute("ALTER TABLE readings RENAME TO elsewhere")?;
    second.wait_for("pipeline held", SOON)?;
    let by_both = "SELECT count(DISTINCT owner) >= 2 FROM sluice.blocks WHERE partition = -1";
    until_true("both hosts say that they are blocked", SOON, || scene.database.is_true(by_both))?;
    scene.database.execute("ALTER TABLE elsewhere RENAME TO readings")?;
    first.wait_for("pipeline resumed", SOON)?;
    second.kill()?;
    let second = scene.start("new-2", &pipeline)?;
    second.wait_for("partitions claimed", SOON)?;
    more("readings", 4000)?;
    stream.stop()?;
    scene.wait_until_drained()?;
    first.drain()?;
    second.drain()?;
    scene.check(&Readings::all())
}
