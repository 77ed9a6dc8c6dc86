//! Partitions that need a decision of an operator: `sluice resolve`, as an operator calls it.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_tests::checker::{Check, Log, Readings};
use sluice_tests::gate::Gate;
use sluice_tests::kafka::Topic;
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::sluice;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// Calls `sluice resolve`; answers its exit code, what it printed, and what it complained of.
fn call(scene: &Scene, words: &str) -> Result<(Option<i32>, Value, String)> {
    let file = scene.pipeline()?.write(&scene.folder)?;
    let mut command = Command::new(sluice()?);
    command.args(["--format", "json", "resolve"]).arg(file).args(words.split_whitespace());
    let output = command.args(["--reason", "decided in a test"]).env_remove("RUST_LOG").output()?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok((output.status.code(), printed, complaint))
}

fn resolve(scene: &Scene, words: &str) -> Result<Value> {
    let (code, printed, complaint) = call(scene, words)?;
    assert_eq!(code, Some(0), "{words}: {complaint}");
    Ok(printed)
}

/// `sluice.gaps` in short.
fn gaps(scene: &Scene) -> Result<String> {
    let sql = "SELECT string_agg(concat_ws(' ', partition, code, position_before, position_after, from_offset, \
               to_offset, reason), '; ' ORDER BY id) FROM sluice.gaps";
    Ok(scene.database.text(sql)?.unwrap_or_default())
}

#[test]
fn a_partition_that_retention_overtook_goes_on_with_its_loss_on_record() -> Result<()> {
    let scene = Scene::new("resolve_retention", 3, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(300)?;
    let host = scene.start("first", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    load.send(600)?;
    let log = Log::read(&scene.topic)?;
    scene.topic.delete_records(1, 150)?;
    let host = scene.start("second", &scene.pipeline()?)?;
    host.wait_for("partition blocked", SOON)?;
    until_true("what is blocked can be seen from elsewhere", SOON, || {
        scene.database.is_true(
            "SELECT code = 'SL-K010' AND host <> '' FROM sluice.blocks WHERE partition = 1",
        )
    })?;

    let shown = resolve(&scene, "--earliest --dry-run")?;
    assert_eq!(shown["resolved"].as_array().map(Vec::len), Some(1), "{shown}");
    let one = &shown["resolved"][0];
    let figures =
        ["partition", "position_before", "position_after", "lost", "skipped", "read_again"];
    assert_eq!(figures.map(|name| one[name].as_i64()), [1, 100, 150, 50, 50, 0].map(Some), "{one}");
    assert_eq!((scene.positions(&scene.name)?[1], gaps(&scene)?), (Some(100), String::new()));

    resolve(&scene, "--earliest")?;
    host.wait_for("partition resumed", SOON)?;
    load.send(300)?;
    scene.wait_until_drained()?;
    assert_eq!(gaps(&scene)?, "1 SL-K010 100 150 100 150 decided in a test");
    assert_eq!(scene.database.number("SELECT count(*) FROM sluice.blocks")?, 0);
    host.drain()?;
    let log = log.extended_by(Log::read(&scene.topic)?);
    let shape = Readings::all();
    let check = Check::new(&scene.name, &shape);
    check.passes_with(&log, &scene.name, &scene.database)?;
    scene.database.execute("UPDATE sluice.gaps SET to_offset = to_offset - 1")?;
    let error = check.passes_with(&log, &scene.name, &scene.database);
    assert!(error.is_err_and(|error| error.to_string().contains("gap in lineage: 1")));
    Ok(())
}

#[test]
fn a_topic_that_was_created_again_is_read_when_a_person_says_so() -> Result<()> {
    let scene = Scene::new("resolve_recreated", 2, Readings::TABLE)?;
    Load::new(&scene.topic, Mix::default())?.send(200)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    scene.topic.delete()?;
    let topic = Topic::create(&scene.name, 2)?;
    Load::new(&topic, Mix::default())?.counting_from(1000).send(1000)?;
    until_true("both partitions are blocked", SOON, || {
        scene.database.is_true("SELECT count(*) = 2 FROM sluice.blocks WHERE code = 'SL-K015'")
    })?;
    let (code, _, complaint) = call(&scene, "--retry --partition 0")?;
    assert_eq!(code, Some(1), "{complaint}");
    assert!(
        complaint.contains("SL-K018") && complaint.contains("the topic is another one"),
        "{complaint}"
    );
    let printed = resolve(&scene, "--earliest")?;
    assert_eq!(printed["resolved"].as_array().map(Vec::len), Some(2), "{printed}");
    assert_eq!(printed["resolved"][0]["other_topic"], true);
    host.wait_for_nth("partition resumed", 2, SOON)?;
    scene.wait_until_drained()?;
    assert_eq!(
        gaps(&scene)?,
        "0 SL-K015 100 0 decided in a test; 1 SL-K015 100 0 decided in a test"
    );
    host.drain()?;
    // What the topic of that name contained before is no message of this one.
    scene.database.execute("DELETE FROM readings WHERE seq < 1000")?;
    scene.check(&Readings::all())
}

/// The batch was read before two decisions that lead back to where it began: nothing but the epoch tells.
#[test]
fn a_batch_under_way_does_not_get_past_a_decision() -> Result<()> {
    let scene = Scene::new("resolve_fence", 1, Readings::TABLE)?;
    Gate::build(&scene.database, "readings")?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(100)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    let gate = Gate::close(&scene.database)?;
    load.send(100)?;
    gate.wait_for_session(&[])?;
    resolve(&scene, "--offset 150 --partition 0 --force")?;
    resolve(&scene, "--offset 100 --partition 0 --force")?;
    gate.open()?;
    host.wait_for("batch fenced", SOON)?;
    scene.wait_until_drained()?;
    host.drain()?;
    assert_eq!(scene.database.number("SELECT count(*) FROM readings")?, 200);
    assert_eq!(gaps(&scene)?, "0 100 150 100 150 decided in a test; 0 150 100 decided in a test");
    // The messages that the first decision skipped were read after the second.
    scene.database.execute("DELETE FROM sluice.gaps")?;
    scene.check(&Readings::all())
}

#[test]
fn an_idle_host_goes_where_its_partition_was_sent() -> Result<()> {
    let scene = Scene::new("resolve_idle", 1, Readings::KEYED_TABLE)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(100)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.sink_lines = "table = \"readings\"\nmode = \"upsert\"\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    scene.wait_until_drained()?;
    let before = scene.database.number("SELECT count(*) FROM readings")?;
    scene.database.execute("DELETE FROM readings")?;
    let (code, _, complaint) = call(&scene, "--offset 0 --partition 0")?;
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("is not blocked"), "{complaint}");
    let printed = resolve(&scene, "--offset 0 --partition 0 --force")?;
    assert_eq!(printed["resolved"][0]["read_again"], 100, "{printed}");
    until_true("the messages were read again", SOON, || {
        Ok(scene.database.number("SELECT count(*) FROM readings")? == before)
    })?;
    scene.wait_until_drained()?;
    // Lineage of what was read again is that of the second time; that of the first is kept with the decision.
    let lineage = "SELECT from_offset * 1000 + messages FROM sluice.lineage";
    assert_eq!(scene.database.number(lineage)?, 100);
    let kept = "SELECT (lineage -> 0 ->> 'messages')::bigint FROM sluice.gaps";
    assert_eq!(scene.database.number(kept)?, 100);
    host.drain()?;
    Ok(())
}

#[test]
fn nothing_blocked_is_nothing_to_resolve() -> Result<()> {
    let scene = Scene::new("resolve_nothing", 1, Readings::TABLE)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    host.wait_for("partitions claimed", SOON)?;
    let printed = resolve(&scene, "--latest")?;
    let resolved = printed["resolved"].as_array().context("no list")?;
    assert!(resolved.is_empty(), "{printed}");
    host.drain()?;
    Ok(())
}
