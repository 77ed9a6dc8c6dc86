//! Plugins that are replaced under load.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_tests::checker::{Check, Readings};
use sluice_tests::counts::scaled;
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

const MARKED: Readings = Readings { keep: None, newer: false, marked: true };

fn scene(name: &str) -> Result<Scene> {
    let scene = Scene::readings(name)?;
    scene.database.execute("ALTER TABLE readings ADD COLUMN marker text")?;
    Ok(scene)
}

/// Which mark the version with a digest leaves.
fn markers(database: &Database) -> Result<BTreeMap<String, String>> {
    let mut markers = BTreeMap::new();
    for mark in ["a", "b"] {
        markers.insert(
            digest(database, &plugin(&format!("hostile-marker-{mark}"))?)?,
            mark.to_owned(),
        );
    }
    Ok(markers)
}

/// SHA-256 of a file, reckoned by Postgres.
fn digest(database: &Database, component: &Path) -> Result<String> {
    let bytes = std::fs::read(component)?;
    let rows = database.query("SELECT encode(sha256($1), 'hex')", &[&bytes])?;
    Ok(rows.first().context("no row")?.get(0))
}

#[test]
fn every_range_has_one_version_however_often_the_plugin_is_replaced() -> Result<()> {
    let scene = scene("swap")?;
    let mut pipeline = scene.pipeline_of("hostile-marker-a")?;
    pipeline.plugin = scene.own_plugin("hostile-marker-a")?;
    pipeline.batch_lines = "max_messages = 500".to_owned();
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let stream = Load::new(&scene.topic, Mix::default())?.stream(4000);
    let versions = [plugin("hostile-marker-b")?, plugin("hostile-marker-a")?];
    let digests = [digest(&scene.database, &versions[0])?, digest(&scene.database, &versions[1])?];
    let swaps = scaled(200);
    for swap in 0..swaps {
        let (version, expected) = (&versions[swap % 2], &digests[swap % 2]);
        let before = host.swaps_to(expected);
        scene.replace_plugin(&pipeline.plugin, version)?;
        // Of any lane: one without partitions, which are moved while there is little to do, swaps when it gets some.
        until_true("a lane has swapped to the version", SOON, || {
            Ok(host.swaps_to(expected) > before)
        })
        .with_context(|| host.tail())?;
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..200)));
    }
    stream.stop()?;
    scene.wait_until_drained()?;
    host.drain()?;
    let check = Check { markers: markers(&scene.database)?, ..Check::new("swap", &MARKED) };
    check.passes(&scene.topic, &scene.database)?;
    let versions = "SELECT count(*) FROM (SELECT DISTINCT digest, partition, from_offset FROM sluice.lineage) AS ranges";
    let ranges = usize::try_from(scene.database.number(versions)?)?;
    assert!(ranges > swaps * 6, "{ranges} ranges in 12 partitions after {swaps} swaps");
    Ok(())
}

#[test]
fn a_version_that_does_not_fit_is_refused_and_the_old_one_goes_on() -> Result<()> {
    let scene = scene("swap_refused")?;
    let mut pipeline = scene.pipeline_of("hostile-marker-a")?;
    pipeline.plugin = scene.own_plugin("hostile-marker-a")?;
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(1200)?;
    scene.wait_until_drained()?;
    let text = scene.folder.join("not.wasm");
    std::fs::write(&text, "not a component")?;
    let refused = [
        (text, "SL-G001"),
        (plugin("hostile-wrong-world")?, "SL-G004"),
        (plugin("hostile-forbidden-import")?, "SL-G003"),
        (plugin("orders")?, "SL-P"),
        (plugin("hostile")?, "SL-P"),
    ];
    let mut messages = Vec::new();
    for (count, (component, code)) in refused.iter().enumerate() {
        scene.replace_plugin(&pipeline.plugin, component)?;
        let event = host.wait_for_nth("plugin refused", count + 1, SOON)?;
        let found = event.text("code").unwrap_or_default();
        assert!(found.starts_with(code), "{}: {}", component.display(), event.line);
        messages.push(event.message);
        load.send(120)?;
        scene.wait_until_drained()?;
    }
    assert_eq!(host.events("plugin swapped").len(), 0);
    host.drain()?;
    let only_a = markers(&scene.database)?.into_iter().filter(|(_, mark)| mark == "a").collect();
    let check = Check { markers: only_a, ..Check::new("swap_refused", &MARKED) };
    check.passes(&scene.topic, &scene.database)?;
    insta::assert_snapshot!(messages.join("\n"), @r#"
    plugin refused: the running version stays in use: plugin is not a WebAssembly component: it does not start like a WebAssembly file
    plugin refused: the running version stays in use: plugin does not export sluice:plugin/transform@0.1.0, but hostile:other/run@1.0.0
    plugin refused: the running version stays in use: plugin imports what sluice does not offer: hostile:greedy/network@1.0.0
    plugin refused: the running version stays in use: schema mismatch between the plugin's outputs and the tables:
      - table "readings": `table` is for plugins with one output; this one has 2
      - output "orders": no table is set for it
      - output "order_lines": no table is set for it
    plugin refused: the running version stays in use: schema mismatch between the plugin's outputs and the tables:
      - output "hostile", table "readings": there is no column "length"
      - output "hostile", table "readings": there is no column "note"
      - output "hostile", table "readings": there is no column "detail"
      - output "hostile", table "readings": there is no column "long"
      - output "hostile", table "readings": column "measured_at" is NOT NULL and has no default, but no field fills it
    "#);
    Ok(())
}
