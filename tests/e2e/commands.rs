//! The commands that look at a pipeline, as an operator calls them.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use sluice_tests::child::{command, cpu_seconds, spawn};
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator::call;
use sluice_tests::plugins::sluice;
use sluice_tests::scene::Scene;
use sluice_tests::work::Work;

fn json(arguments: &[&str], file: &Path) -> Result<Value> {
    let output = call(&[&["--format", "json"], arguments].concat(), file)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    assert!(said.is_empty(), "{arguments:?}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Sum of `field` over a list of objects.
fn sum(list: &Value, field: &str) -> i64 {
    list.as_array().into_iter().flatten().filter_map(|object| object[field].as_i64()).sum()
}

fn len(list: &Value) -> Option<usize> {
    list.as_array().map(Vec::len)
}

#[test]
fn what_is_said_before_and_after_a_run_is_what_happened() -> Result<()> {
    let scene = Scene::readings("commands")?;
    let pipeline = scene.pipeline()?;
    let file = pipeline.write(&scene.folder)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 50, long_per_mille: 0 })?;
    load.send(2400)?;

    let missing = call(&["lineage"], &file)?;
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).starts_with("error SL-P012: "));
    assert_eq!(json(&["migrate"], &file)?[0]["version"], json(&["migrate"], &file)?[0]["version"]);

    let valid = &json(&["validate"], &file)?[0];
    assert_eq!(valid["outputs"][0]["table"], "public.readings");
    assert_eq!(len(&valid["outputs"][0]["fields"]), Some(9));
    let before = json(&["lag"], &file)?;
    assert_eq!((before["total"].as_i64(), sum(&before["partitions"], "lag")), (Some(2400), 2400));

    let host = scene.start("host", &pipeline)?;
    scene.wait_until_drained()?;
    host.drain()?;

    let after = json(&["lag"], &file)?;
    assert_eq!(after["total"], 0);
    assert_eq!(len(&after["partitions"]), Some(12));
    let ranges = json(&["lineage"], &file)?;
    assert_eq!((sum(&ranges, "messages"), sum(&ranges, "from")), (2400, 0));
    assert_eq!(sum(&ranges, "rows"), scene.database.number("SELECT count(*) FROM readings")?);
    assert_eq!(
        sum(&ranges, "rejected"),
        scene.database.number("SELECT count(*) FROM sluice.dead_letters")?
    );
    assert_eq!(ranges[0]["digest"], valid["digest"]);
    let one = json(&["lineage", "--partition", "3"], &file)?;
    assert_eq!(
        one,
        ranges
            .as_array()
            .into_iter()
            .flatten()
            .filter(|it| it["partition"] == 3)
            .cloned()
            .collect::<Value>()
    );
    Ok(())
}

#[test]
fn a_partition_at_work_is_not_taken_for_one_that_is_blocked() -> Result<()> {
    let work = Work::begin(Scene::readings("commands_at_work")?)?;
    let file = work.scene.pipeline()?.write(&work.scene.folder)?;
    for _ in 0..10 {
        let lag = json(&["lag"], &file)?;
        for partition in lag["partitions"].as_array().into_iter().flatten() {
            let (next, end) = (partition["next_offset"].as_i64(), partition["end_offset"].as_i64());
            assert!(next.is_some() && next <= end, "{partition}");
        }
        let decision = ["resolve", "--earliest", "--dry-run", "--reason", "seen in a test"];
        let decided = json(&decision, &file)?;
        assert_eq!(
            (len(&decided["resolved"]), len(&decided["left_alone"])),
            (Some(0), Some(0)),
            "{decided}"
        );
    }
    work.end()
}

#[test]
fn what_is_not_reachable_and_what_does_not_fit_have_their_exit_codes() -> Result<()> {
    let scene = Scene::new("codes", 1, "CREATE TABLE readings (device_id bigint)")?;
    let mut pipeline = scene.pipeline()?;
    let misfit = call(&["validate"], &pipeline.write(&scene.folder)?)?;
    let said = String::from_utf8_lossy(&misfit.stderr).into_owned();
    assert_eq!(misfit.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error SL-P010: pipeline codes: ") && said.contains("measured_at"),
        "{said}"
    );

    pipeline.url = "postgres://sluice:hunter2@127.0.0.1:1/nowhere".into();
    let away = call(&["validate"], &pipeline.write(&scene.folder)?)?;
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert_eq!(away.status.code(), Some(3), "{said}");
    assert!(said.starts_with("error SL-P001: ") && !said.contains("hunter2"), "{said}");

    pipeline.sink_lines = "tabel = \"readings\"\n".into();
    let wrong = call(&["validate"], &pipeline.write(&scene.folder)?)?;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert_eq!(wrong.status.code(), Some(2), "{said}");
    assert!(said.contains("did you mean `table`?") && !said.contains("hunter2"), "{said}");
    assert!(!said.contains('\u{1b}') && wrong.stdout.is_empty());
    Ok(())
}

/// A message that is sent at a rate costs about as much as one that is sent as fast as can be: the producer does not spin.
#[test]
fn messages_at_a_rate_cost_their_sender_little() -> Result<()> {
    const MESSAGES: u64 = 50_000;
    let scene = Scene::readings("commands_rate")?;
    let mut simulate = command(sluice()?);
    simulate
        .args([
            "simulate",
            "devices",
            "--brokers",
            scene.topic.brokers(),
            "--topic",
            &scene.topic.name,
        ])
        .args(["--rate", "8334", "--messages", &MESSAGES.to_string()]);
    let mut child = spawn(simulate)?;
    let mut seconds = 0.0;
    let status = loop {
        seconds = cpu_seconds(child.id()).unwrap_or(seconds);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
    assert_eq!(scene.topic.log_ends()?.iter().sum::<i64>(), MESSAGES as i64);
    let micros = seconds * 1e6 / MESSAGES as f64;
    println!("{micros:.1} us of CPU a message");
    // 91 when it spins.
    assert!(micros < 45.0, "{micros} us of CPU a message");
    Ok(())
}
