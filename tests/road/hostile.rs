//! Each hostile guest under `sluice run`: what the operator reads, and that nobody else suffers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use sluice_tests::checker::{Check, Readings};
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::load::{Load, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

const TABLE: &str = "CREATE TABLE hostile (device_id text NOT NULL, seq bigint NOT NULL, length bigint NOT NULL, \
    note text, detail jsonb, long boolean NOT NULL)";

/// Memory that the host may have with two dozen pipelines, of which some ask for all they can get.
const RESIDENT_BYTES_MAX: u64 = 1 << 30;

const CRIMES: [&str; 14] = [
    "deep-recursion",
    "endless-loop",
    "ends-descend",
    "ends-pass-the-data",
    "error-result",
    "giant-output",
    "invalid-utf8",
    "lengths-differ",
    "log-flood",
    "memory-hog",
    "message-out-of-range",
    "panic",
    "trap",
    "wrong-kind",
];

#[test]
fn a_hostile_guest_holds_its_own_pipeline_and_nothing_else() -> Result<()> {
    let scene = Scene::alone("hostile", 1, &format!("{TABLE}; {}", Readings::TABLE))?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(100)?;
    let mut files = vec![honest(&scene)?.write(&scene.folder)?];
    files
        .extend(CRIMES.iter().map(|crime| write(&scene, crime)).collect::<Result<Vec<PathBuf>>>()?);
    let host = Host::start("host", &scene.folder, &files)?;
    let mut resident = 0;
    until_true("all criminals are caught", SOON * 2, || {
        resident = resident.max(host.resident_bytes()?);
        Ok(host.events("pipeline held").len() >= CRIMES.len() - 1)
    })
    .with_context(|| host.tail())?;
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB", resident >> 20);

    load.send(100)?;
    scene.wait_until_drained_as("honest")?;
    let (code, events) = host.terminate()?;
    assert_eq!(code, 1);
    let mut texts = BTreeMap::new();
    for event in events.iter().filter(|event| event.is("pipeline held")) {
        texts.insert(
            event.text("pipeline"),
            format!("{} {}", event.text("code").unwrap_or_default(), event.message),
        );
    }
    for crime in CRIMES.iter().filter(|crime| **crime != "log-flood") {
        assert_eq!(scene.positions(crime)?[0].unwrap_or(0), 0, "{crime}");
    }
    Check::new("honest", &Readings::all()).passes(&scene.topic, &scene.database)?;
    let read: Vec<String> = texts.into_values().map(|text| steady(&text)).collect();
    insta::assert_snapshot!(read.join("\n"), @"
    SL-G014 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin overflowed its stack in process (at hostile::crime::recurse)
    SL-G012 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin took longer than 1s in process (at hostile::crime::endless_loop)
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, column `note`: row 1: ends at 0, before row 0 does
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, column `note`: its last value ends at 1000, its data at 0
    SL-G017 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin failed: lookup table is empty second line
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, 15 columns for 4 computed fields
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, column `note`: row 0: not UTF-8
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, column `length`: 101 values for 100 rows
    SL-G013 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin wants more than the 64 MiB of memory it may have in process (at hostile::crime::hog_memory)
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, row 99: message 100, of a batch of 100
    SL-G011 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin trapped in process: panicked at FILE:LINE:COLUMN: cannot divide 100 by nothing
    SL-G011 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin trapped in process: wasm `unreachable` instruction executed (at hostile::crime::trap)
    SL-G016 pipeline held: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin broke the contract: output `hostile`, column `length`: holds boolean, described as int64
    ");
    Ok(())
}

fn honest(scene: &Scene) -> Result<Pipeline> {
    Pipeline::new("honest", &scene.topic.name, scene.database.url(), &plugin("readings")?)
}

fn write(scene: &Scene, crime: &str) -> Result<PathBuf> {
    let mut pipeline =
        Pipeline::new(crime, &scene.topic.name, scene.database.url(), &plugin("hostile")?)?;
    pipeline.lanes = 1;
    "table = \"hostile\"\n".clone_into(&mut pipeline.sink_lines);
    pipeline.plugin_lines = format!(
        "timeout = \"1s\"\nmemory_bytes = \"64MiB\"\nsettings = {{ crime = \"{crime}\" }}\n"
    );
    pipeline.write(&scene.folder)
}

/// Replaces what changes with every build: digests, and places in the guest's source.
fn steady(text: &str) -> String {
    let is_digest = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let is_place = |word: &str| word.contains(".rs:");
    let steady = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        match (is_digest(bare), is_place(bare)) {
            (true, _) => word.replace(bare, "DIGEST"),
            (_, true) => word.replace(bare, "FILE:LINE:COLUMN"),
            _ => word.to_owned(),
        }
    };
    text.split(' ').map(steady).collect::<Vec<_>>().join(" ")
}
