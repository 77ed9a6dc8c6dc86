//! Hosts that do not mean the same by one pipeline.

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::load::{Load, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

#[test]
fn a_host_with_another_group_waits_until_the_others_have_ended() -> Result<()> {
    let scene = Scene::new("hosts", 4, Readings::TABLE)?;
    let mut load = Load::new(&scene.topic, Mix::default())?;
    load.send(400)?;
    let pipeline = scene.pipeline()?;
    let first = scene.start("first", &pipeline)?;
    scene.wait_until_drained()?;
    let mut other = pipeline.clone();
    other.source_lines.push_str("group = \"another\"\n");
    let second = scene.start("second", &other)?;
    let blocked = second.wait_for("pipeline blocked", SOON)?;
    assert_eq!(blocked.text("code").as_deref(), Some("SL-P024"), "{}", blocked.line);
    let told = "group is \"hosts\" there and \"another\" here";
    assert!(blocked.message.contains(told), "{}", blocked.line);
    load.send(400)?;
    scene.wait_until_drained()?;
    assert!(first.events("batch fenced").is_empty(), "{}", first.tail());
    first.drain()?;
    load.send(400)?;
    scene.wait_until_drained()?;
    second.drain()?;
    let hosts = scene.database.number("SELECT count(*) FROM sluice.hosts")?;
    assert_eq!(hosts, 0, "both have ended");
    scene.check(&Readings::all())
}
