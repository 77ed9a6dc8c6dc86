//! Hostile plugins under `sluice run`: what each crime becomes, what the operator reads, and that nobody else
//! suffers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sluice_tests::checker::{Check, Readings};
use sluice_tests::child::cpu_seconds;
use sluice_tests::counts::{long, scaled};
use sluice_tests::crimes::{CRIMES, Crimes, TABLE, dead_letters, message};
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::kafka::Topic;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::plugins::plugin;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// Memory that the host may have with some pipelines, of which some ask for all they can get.
const RESIDENT_BYTES_MAX: u64 = 1 << 30;

/// Messages a second of the pipeline that has done nothing wrong.
const PACE: u32 = 10_000;

/// How many crimes must be committed beside it, and how often it must have written all that was sent in the meantime.
const CRIMES_SEEN: i64 = 20;
const ROUNDS_MIN: u32 = 20;

#[test]
fn each_crime_costs_its_message_and_nothing_else() -> Result<()> {
    let scene = Scene::alone("hostile", 1, TABLE)?;
    let pipeline = criminal(&scene, "hostile", "told = true")?;
    let host = scene.start("host", &pipeline)?;
    Load::new(&scene.topic, Mix::default())?.send_made(&traffic(scaled(50_000), scaled(10)))?;
    let mut resident = 0;
    let drained = || Ok(scene.positions("hostile")? == [Some(scene.topic.ends(0)?.1)]);
    until_true("all crimes are committed", SOON * 2, || {
        resident = resident.max(host.resident_bytes()?);
        drained()
    })
    .with_context(|| host.tail())?;
    assert!(resident < RESIDENT_BYTES_MAX, "{} MiB", resident >> 20);
    host.drain()?;

    let dead_letters = dead_letters(&scene.database)?;
    for (crime, code) in CRIMES.iter().filter(|(_, code)| !code.is_empty()) {
        let codes: Vec<_> =
            dead_letters.get(*crime).into_iter().flatten().map(|(code, _)| code).collect();
        assert_eq!(codes, [code], "{crime}");
    }
    let read: Vec<String> = dead_letters
        .iter()
        .flat_map(|(crime, dead_letters)| {
            dead_letters.iter().map(move |(_, reason)| (crime, reason))
        })
        .map(|(crime, reason)| format!("{crime:<21}{}", steady(reason)))
        .collect();
    insta::assert_snapshot!(read.join("\n"), @"
    boolean-of-two       plugin broke the contract: output `hostile`, column `long`: row 0: 2 is neither 0 nor 1
    code-with-spaces     plugin broke the contract: rejection of message 0: code `not a code` is not one word of at most 64 ASCII characters
    deep-recursion       plugin overflowed its stack in process (at hostile::crime::recurse)
    endless-loop         plugin took longer than 250ms in process (at hostile::crime::endless_loop)
    ends-descend         plugin broke the contract: output `hostile`, column `note`: its last value ends at 4294967295, its data at 0
    ends-pass-the-data   plugin broke the contract: output `hostile`, column `note`: its last value ends at 1000, its data at 0
    error-result         plugin failed: lookup table is empty second line
    extra-column         plugin broke the contract: output `hostile`, 5 columns for 4 computed fields
    giant-output         plugin broke the contract: output `hostile`, 15 columns for 4 computed fields
    invalid-utf8         plugin broke the contract: output `hostile`, column `note`: row 0: not UTF-8
    large-output         plugin broke the contract: output `hostile`, 9 columns for 4 computed fields
    lengths-differ       plugin broke the contract: output `hostile`, column `length`: 2 values for 1 rows
    memory-hog           plugin wants more than the 64 MiB of memory it may have in process (at hostile::crime::hog_memory)
    message-out-of-range plugin broke the contract: output `hostile`, row 0: message 1, of a batch of 1
    messages-descend     plugin broke the contract: output `hostile`, row 1: message 0 after message 1
    missing-output       plugin broke the contract: returned rows for 0 outputs, described 1
    not-json             plugin broke the contract: output `hostile`, column `detail`: row 0: not JSON
    null-in-required     plugin broke the contract: output `hostile`, column `length`: row 0: no value, though the field is not nullable
    null-of-two          plugin broke the contract: output `hostile`, column `note`: nulls: row 0: 2 is neither 0 nor 1
    out-of-bounds        plugin trapped in process: out of bounds memory access (at hostile::crime::read_out_of_bounds)
    panic                plugin trapped in process: panicked at FILE:LINE:COLUMN: cannot divide 1 by nothing
    reject-and-keep      plugin broke the contract: output `hostile`, row 0: message 0 was rejected
    reject-out-of-range  plugin broke the contract: rejection 0: message 1, of a batch of 1
    reject-twice         plugin broke the contract: rejection 1: message 0 rejected twice
    rows-without-end     plugin returned 5000000 rows, allowed are 4000000 rows
    split-character      plugin broke the contract: output `hostile`, column `note`: its last value ends at 1, its data at 2
    trap                 plugin trapped in process: wasm `unreachable` instruction executed (at hostile::crime::trap)
    wrong-kind           plugin broke the contract: output `hostile`, column `length`: is boolean, described as int64
    ");
    scene.check(&Crimes)
}

#[test]
fn a_plugin_that_fails_on_all_blocks_its_own_pipeline() -> Result<()> {
    let scene = Scene::new("hopeless", 1, &format!("{TABLE}; {}", Readings::TABLE))?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(100)?;
    let mut files = vec![honest("honest", &scene)?.write(&scene.folder)?];
    for crime in ["panic", "endless-loop", "error-result", "wrong-kind"] {
        files.push(hopeless(&scene, crime)?);
    }
    let host = Host::start("host", &scene.folder, &files)?;
    until_true("all criminals are caught", SOON, || Ok(host.events("pipeline blocked").len() == 4))
        .with_context(|| host.tail())?;
    load.send(100)?;
    scene.wait_until_drained_as("honest")?;
    let (code, events) = host.terminate()?;
    assert_eq!(code, 1);
    let mut texts = BTreeMap::new();
    for event in events.iter().filter(|event| event.is("pipeline blocked")) {
        let pipeline = event.text("pipeline").unwrap_or_default();
        assert_eq!(scene.positions(&pipeline)?[0].unwrap_or(0), 0, "{pipeline}");
        texts.insert(
            pipeline,
            format!("{} {}", event.text("code").unwrap_or_default(), event.message),
        );
    }
    Check::new("honest", &Readings::all()).passes(&scene.topic, &scene.database)?;
    assert_eq!(scene.database.number("SELECT count(*) FROM sluice.dead_letters")?, 0);
    let read: Vec<String> = texts.into_values().map(|text| steady(&text)).collect();
    insta::assert_snapshot!(read.join("\n"), @"
    SL-G018 pipeline blocked: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin failed on 6 messages in a row, each alone; on the last one: plugin took longer than 250ms in process (at hostile::crime::endless_loop)
    SL-G018 pipeline blocked: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin failed on 6 messages in a row, each alone; on the last one: plugin failed: lookup table is empty second line
    SL-G018 pipeline blocked: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin failed on 6 messages in a row, each alone; on the last one: plugin trapped in process: panicked at FILE:LINE:COLUMN: cannot divide 1 by nothing
    SL-G018 pipeline blocked: plugin hostile 0.1.0 (DIGEST) failed on partition offsets 0: 0..100: plugin failed on 6 messages in a row, each alone; on the last one: plugin broke the contract: output `hostile`, column `length`: is boolean, described as int64
    ");
    Ok(())
}

#[test]
fn another_pipeline_keeps_its_pace_beside_a_criminal() -> Result<()> {
    let scene = Scene::alone("pace", 2, &format!("{TABLE}; {}", Readings::TABLE))?;
    let dock = Topic::create("pace_criminal", 1)?;
    let files = [
        honest("pace", &scene)?.write(&scene.folder)?,
        Pipeline { topic: dock.name.clone(), ..criminal(&scene, "criminal", "told = true")? }
            .write(&scene.folder)?,
    ];
    let host = Host::start("host", &scene.folder, &files)?;
    host.wait_for_nth("partitions claimed", 2, SOON)?;
    let stream = Load::new(&scene.topic, Mix::default())?.stream(PACE);
    // While one crime after the other is committed, the other pipeline writes what is sent in the meantime.
    let crimes = || {
        scene
            .database
            .number("SELECT count(*) FROM sluice.dead_letters WHERE pipeline = 'criminal'")
    };
    Load::new(&dock, Mix::default())?.send_made(&traffic(20_000, 10))?;
    let mut rounds = 0;
    while crimes()? < CRIMES_SEEN || rounds < ROUNDS_MIN {
        let sent = i64::try_from(stream.acknowledged())?;
        let written = || Ok(scene.positions("pace")?.into_iter().flatten().sum::<i64>() >= sent);
        until_true("what was sent is written", SOON, written)?;
        rounds += 1;
    }
    let done = scene.positions("criminal")?[0].unwrap_or(0);
    println!("{rounds} rounds beside {} crimes", crimes()?);
    assert!(done < dock.ends(0)?.1, "crimes ended too soon to tell");
    stream.stop()?;
    scene.wait_until_drained()?;
    until_true("all crimes are committed", SOON * 2, || {
        Ok(scene.database.number("SELECT coalesce(sum(next_offset), 0) FROM sluice.positions WHERE pipeline = 'criminal'")?
            == dock.ends(0)?.1)
    })?;
    host.drain()?;
    Check::new("pace", &Readings::all()).passes(&scene.topic, &scene.database)?;
    Check::new("criminal", &Crimes).passes(&dock, &scene.database)
}

/// A component of one function, with so many blocks in one another: compiling it takes minutes. `mark` makes a digest of
/// its own.
fn bomb(depth: usize, mark: u8) -> Vec<u8> {
    fn number(bytes: &mut Vec<u8>, mut number: usize) {
        while number > 0x7f {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
    }
    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![id];
        number(&mut bytes, content.len());
        [bytes, content.to_vec()].concat()
    }
    let code = [vec![0], [0x02, 0x40].repeat(depth), vec![0x0b; depth], vec![0x0b]].concat();
    let mut functions = vec![1];
    number(&mut functions, code.len());
    functions.extend(code);
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(10, &functions),
    ];
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module.concat()), section(0, &[1, b'm', mark])]
        .concat()
}

/// True while `process` has another process at work for it.
fn has_child(process: u32) -> Result<bool> {
    let parents = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // Behind the name: state, and the parent.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    });
    Ok(parents.into_iter().any(|parent| parent == process))
}

#[test]
fn a_plugin_that_keeps_the_compiler_busy_delays_neither_messages_nor_the_end() -> Result<()> {
    let scene = Scene::readings("bomb")?;
    let mut pipeline = scene.pipeline()?;
    pipeline.plugin = scene.folder.join("plugin.wasm");
    std::fs::copy(plugin("readings")?, &pipeline.plugin)?;
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let file = scene.folder.join("bomb.wasm");
    if long() {
        std::fs::write(&file, bomb(1_000_000, 1))?;
        scene.replace_plugin(&pipeline.plugin, &file)?;
        let refused = host.wait_for("plugin refused", SOON * 5)?;
        assert_eq!(refused.text("code").as_deref(), Some("SL-G019"), "{}", refused.line);
        assert!(host.resident_bytes()? < RESIDENT_BYTES_MAX);
    }
    std::fs::write(&file, bomb(1_000_000, 2))?;
    scene.replace_plugin(&pipeline.plugin, &file)?;
    until_true("it is compiled", SOON, || has_child(host.pid()))?;
    Load::new(&scene.topic, Mix::default())?.send(2000)?;
    scene.wait_until_drained()?;
    assert!(has_child(host.pid())?, "it was compiled too soon to tell");
    // Ends at once, and leaves nobody behind.
    let process = host.pid();
    let told = Instant::now();
    host.drain()?;
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert!(!has_child(process)?);
    scene.check(&Readings::all())
}

/// By its own limit it would go on for a minute.
#[test]
fn a_call_that_never_ends_does_not_keep_the_host_from_ending() -> Result<()> {
    let scene = Scene::new("endless", 1, TABLE)?;
    let mut pipeline = criminal(&scene, "endless", "crime = \"endless-loop\"")?;
    pipeline.plugin_lines = pipeline.plugin_lines.replace("500ms", "60s");
    let host = scene.start("host", &pipeline)?;
    host.wait_for("partitions claimed", SOON)?;
    let before = cpu_seconds(host.pid())?;
    Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?.send(10)?;
    until_true("the call is under way", SOON, || Ok(cpu_seconds(host.pid())? > before + 1.0))?;
    let told = Instant::now();
    let (code, _) = host.terminate()?;
    assert!(told.elapsed() < Duration::from_secs(20), "{:?}", told.elapsed());
    assert_eq!((code, scene.positions("endless")?[0]), (0, Some(0)));
    assert_eq!(scene.database.number("SELECT count(*) FROM sluice.dead_letters")?, 0);
    Ok(())
}

/// `count` messages, among them each crime `times` times, far enough from each other to be in several batches.
fn traffic(count: usize, times: usize) -> Vec<(i32, Made)> {
    let every = count / (CRIMES.len() * times);
    let crime = |number: usize| {
        let is_due = number % every == every / 2;
        is_due.then(|| CRIMES[number / every % CRIMES.len()])
    };
    (0..count).map(|number| (0, message(number, crime(number)))).collect()
}

fn honest(name: &str, scene: &Scene) -> Result<Pipeline> {
    Pipeline::new(name, &scene.topic.name, scene.database.url(), &plugin("readings")?)
}

/// A pipeline of the hostile plugin.
fn criminal(scene: &Scene, name: &str, settings: &str) -> Result<Pipeline> {
    let mut pipeline =
        Pipeline::new(name, &scene.topic.name, scene.database.url(), &plugin("hostile")?)?;
    pipeline.lanes = 1;
    "table = \"hostile\"\n".clone_into(&mut pipeline.sink_lines);
    "max_messages = 500".clone_into(&mut pipeline.batch_lines);
    pipeline.plugin_lines =
        format!("timeout = \"500ms\"\nmemory_bytes = \"64MiB\"\nsettings = {{ {settings} }}\n");
    Ok(pipeline)
}

fn hopeless(scene: &Scene, crime: &str) -> Result<PathBuf> {
    let mut pipeline = criminal(scene, crime, &format!("crime = \"{crime}\""))?;
    pipeline.plugin_lines += "poison_limit = 5\n";
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
