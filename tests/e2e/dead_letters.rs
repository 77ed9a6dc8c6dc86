//! Dead letters in the hands of an operator: listed, shown, replayed with a plugin that takes them, discarded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::checker::{Check, Disposition, Log, Message, Readings, Shape, Table};
use sluice_tests::child;
use sluice_tests::counts::scaled;
use sluice_tests::host::Pipeline;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::plugins::{plugin, sluice};
use sluice_tests::postgres::Database;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until, until_true};

/// All that may be seen of the dead letters.
const DEAD_LETTERS: &str =
    "SELECT md5(string_agg(l::text, '|' ORDER BY id)) FROM sluice.dead_letters AS l";

/// Readings as a plugin sees them that takes up to 100,000 W, and marks its rows.
#[derive(Debug)]
struct Generous;

impl Shape for Generous {
    fn tables(&self) -> Vec<Table> {
        Readings { marked: true, ..Readings::all() }.tables()
    }

    fn disposition(&self, message: &Message) -> Disposition {
        let disposition = Readings::all().disposition(message);
        let takes = |disposition: &Disposition| matches!(disposition, Disposition::DeadLetter(stage) if stage == "plugin");
        if takes(&disposition) && message.json()["power_w"] == 60_000.0 {
            return Readings::all().disposition(&good(message));
        }
        disposition
    }
}

/// The same message with a header that says it becomes a row.
fn good(message: &Message) -> Message {
    let mut message = message.clone();
    message.headers[0].1 = Some(b"row".to_vec());
    message
}

fn scene(name: &str, partitions: i32) -> Result<Scene> {
    let scene = Scene::new(name, partitions, Readings::TABLE)?;
    scene.database.execute("ALTER TABLE readings ADD COLUMN marker text DEFAULT 'none'")?;
    Ok(scene)
}

/// The settings of the pipeline after its plugin was replaced by one that takes more.
fn generous(scene: &Scene) -> Result<Pipeline> {
    let mut pipeline = scene.pipeline_of("hostile-marker-b")?;
    "settings = { max_power_w = 100000.0 }\n".clone_into(&mut pipeline.plugin_lines);
    Ok(pipeline)
}

/// `sluice dlq` on a settings file.
fn call(arguments: &str, file: &Path) -> Result<Output> {
    let mut words = arguments.split_whitespace();
    let mut command = Command::new(sluice()?);
    command.args(["--format", "json", "dlq"]).args(words.next()).arg(file).args(words);
    command.env_remove("RUST_LOG").output().context("call sluice")
}

fn dlq(arguments: &str, file: &Path) -> Result<Value> {
    let output = call(arguments, file)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments}: {said}");
    serde_json::from_slice(&output.stdout).with_context(|| arguments.to_owned())
}

/// A number of the answer.
fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(-1)
}

fn count(database: &Database, what: &str) -> Result<i64> {
    database.number(&format!("SELECT count(*) FROM {what}"))
}

/// SHA-256 of a plugin, reckoned by Postgres.
fn digest(database: &Database, name: &str) -> Result<String> {
    let bytes = std::fs::read(plugin(name)?)?;
    let rows = database.query("SELECT encode(sha256($1), 'hex')", &[&bytes])?;
    Ok(rows.first().context("no row")?.get(0))
}

#[test]
fn dead_letters_are_listed_shown_replayed_and_discarded() -> Result<()> {
    let scene = scene("dead_letters", 3)?;
    let file = scene.pipeline()?.write(&scene.folder)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 400, long_per_mille: 0 })?;
    load.send(scaled(30_000))?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    let database = &scene.database;

    let listed = dlq("list", &file)?;
    let dead_letters = count(database, "sluice.dead_letters")?;
    assert_eq!(number(&listed["dead_letters"]), dead_letters);
    let powerful = group(&listed, "power-out-of-range");
    assert!(powerful > 0 && powerful < dead_letters, "{listed}");
    compare_shown(&scene, &file)?;

    // The plugin is another one now, and the host goes on with the old one in the meantime.
    let file = generous(&scene)?.write(&scene.folder)?;
    let before = database.text(DEAD_LETTERS)?;
    let dry_run = dlq("replay --stage plugin --dry-run", &file)?;
    assert_eq!(
        (number(&dry_run["rows_from"]), number(&dry_run["rows"][0]["rows"])),
        (powerful, powerful)
    );
    assert_eq!(
        number(&dry_run["rejected"][0]["dead_letters"]),
        number(&dry_run["dead_letters"]) - powerful
    );
    assert_eq!(dry_run["rejected"][0]["code"], "out-of-range");
    assert_eq!(database.text(DEAD_LETTERS)?, before);
    assert_eq!(count(database, "readings WHERE marker = 'b'")?, 0);

    let refused = call("replay", &file)?;
    assert_eq!((refused.status.code(), database.text(DEAD_LETTERS)?), (Some(2), before));

    let replayed = dlq("replay --stage plugin --code power-out-of-range", &file)?;
    assert_eq!(
        (number(&replayed["dead_letters"]), number(&replayed["rows_from"])),
        (powerful, powerful)
    );
    assert_eq!(count(database, "readings WHERE marker = 'b'")?, powerful);
    assert_eq!(count(database, "sluice.dead_letters")?, dead_letters - powerful);
    let again = dlq("replay --code power-out-of-range", &file)?;
    assert_eq!(number(&again["dead_letters"]), 0);

    let failing = dlq("replay --stage plugin", &file)?;
    assert_eq!((number(&failing["rows_from"]), number(&failing["left"])), (0, 0));
    let retried = "sluice.dead_letters WHERE attempts = 2 AND code = 'out-of-range' AND last_rejected_at > rejected_at";
    assert_eq!(count(database, retried)?, number(&failing["dead_letters"]));

    discard_malformed(&scene, &file)?;
    load.send(300)?;
    scene.wait_until_drained()?;
    host.drain()?;
    let marks = [("hostile-marker-b", "b"), ("readings", "none")];
    let markers =
        marks.iter().map(|(name, mark)| Ok((digest(database, name)?, (*mark).to_owned())));
    let markers = markers.collect::<Result<BTreeMap<_, _>>>()?;
    // What came after the replay is still with the dead letters.
    dlq("replay --code power-out-of-range", &file)?;
    Check { markers, ..Check::new("dead_letters", &Generous) }.passes(&scene.topic, database)
}

fn group(listed: &Value, code: &str) -> i64 {
    let groups = listed["groups"].as_array().into_iter().flatten();
    groups.filter(|group| group["code"] == code).map(|group| number(&group["dead_letters"])).sum()
}

/// What is shown of each dead letter is what the topic has, to the byte.
fn compare_shown(scene: &Scene, file: &Path) -> Result<()> {
    let log = Log::read(&scene.topic)?;
    // Kafka's client here takes no such names; the host does.
    scene.database.execute(
        "UPDATE sluice.dead_letters SET header_names[2] = '\\xfe74' WHERE partition = 0",
    )?;
    let shown = dlq("show --limit 100000", file)?;
    let shown = shown.as_array().context("not a list")?;
    assert_eq!(shown.len() as i64, count(&scene.database, "sluice.dead_letters")?);
    for dead_letter in shown {
        let (partition, offset) =
            (number(&dead_letter["partition"]), number(&dead_letter["offset"]));
        let messages = &log.partitions[&i32::try_from(partition)?].messages;
        let message =
            messages.iter().find(|message| message.offset == offset).context("no message")?;
        let header = |(index, (name, value)): (usize, &(Vec<u8>, Option<Vec<u8>>))| {
            let torn = partition == 0 && index == 1;
            let name = if torn { json!({ "hex": "fe74" }) } else { bytes(Some(name)) };
            json!({ "name": name, "value": bytes(value.as_ref()) })
        };
        let headers: Vec<Value> = message.headers.iter().enumerate().map(header).collect();
        assert_eq!(dead_letter["headers"], Value::from(headers), "{partition}:{offset}");
        assert_eq!(dead_letter["key"], bytes(message.key.as_ref()), "{partition}:{offset}");
        assert_eq!(dead_letter["payload"], bytes(message.payload.as_ref()), "{partition}:{offset}");
        assert_eq!(number(&dead_letter["timestamp_us"]), message.timestamp_ms * 1000);
    }
    scene.database.execute("UPDATE sluice.dead_letters SET header_names[2] = 'trace'")
}

/// As the command says it is shown: said once more here.
fn bytes(bytes: Option<&Vec<u8>>) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match bytes.map(|bytes| (std::str::from_utf8(bytes), hex(bytes))) {
        None => Value::Null,
        Some((Ok(text), _)) => json!({ "text": text }),
        Some((Err(_), hex)) => json!({ "hex": hex }),
    }
}

fn discard_malformed(scene: &Scene, file: &Path) -> Result<()> {
    let database = &scene.database;
    assert_eq!(call("discard --all", file)?.status.code(), Some(2));
    let malformed = count(database, "sluice.dead_letters WHERE code = 'malformed-json'")?;
    let discarded = dlq("discard --code malformed-json --reason test-data", file)?;
    assert_eq!(number(&discarded["discarded"]), malformed);
    assert_eq!(count(database, "sluice.dead_letters WHERE code = 'malformed-json'")?, 0);
    let kept = "sluice.discarded_dead_letters WHERE discard_reason = 'test-data'";
    assert_eq!((count(database, kept)?, malformed > 0), (malformed, true));
    Ok(())
}

/// A topic of nothing but dead letters, which the settings in the file answered take.
fn only_dead_letters(scene: &Scene, dead_letters: usize) -> Result<PathBuf> {
    let message = |number: usize| {
        let mut made = sluice_tests::load::message::make(
            Mix { bad_per_mille: 0, long_per_mille: 0 },
            0,
            number as u64,
        );
        let mut reading: Value =
            serde_json::from_slice(made.payload.as_deref().unwrap_or_default())?;
        reading["power_w"] = 60_000.0.into();
        made.payload = Some(reading.to_string().into_bytes());
        made.headers[0].1 = Some(b"plugin".to_vec());
        Ok((0, made))
    };
    let messages: Vec<(i32, Made)> = (0..dead_letters).map(message).collect::<Result<_>>()?;
    Load::new(&scene.topic, Mix::default())?.send_made(&messages)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    host.drain()?;
    assert_eq!(count(&scene.database, "sluice.dead_letters")?, dead_letters as i64);
    let mut generous = generous(scene)?;
    "max_messages = 200".clone_into(&mut generous.batch_lines);
    generous.write(&scene.folder)
}

fn start_replay(file: &Path) -> Result<Child> {
    let mut command = child::command(sluice()?);
    command.args(["--format", "json", "dlq", "replay", "--all"]).arg(file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    child::spawn(command)
}

#[test]
fn a_replay_killed_at_random_loses_and_doubles_nothing() -> Result<()> {
    let scene = scene("dead_letters_killed", 1)?;
    let kills = scaled(200);
    let file = only_dead_letters(&scene, kills * 2_000)?;
    let rows = || count(&scene.database, "readings");
    let mut hits = 0;
    for _ in 0..kills {
        let before = rows()?;
        let mut replay = start_replay(&file)?;
        until_true("the replay has written rows", SOON, || Ok(rows()? > before))?;
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
        hits += usize::from(replay.try_wait()?.is_none());
        replay.kill()?;
        replay.wait()?;
    }
    assert!(hits > kills / 2, "only {hits} of {kills} kills found a replay at work");
    // The server may take a moment to release what the last one had.
    until_true("all dead letters are replayed", SOON, || {
        Ok(number(&dlq("replay --all", &file)?["busy"]) == 0)
    })?;
    assert_eq!(count(&scene.database, "sluice.dead_letters")?, 0);
    let markers = BTreeMap::from([(digest(&scene.database, "hostile-marker-b")?, "b".to_owned())]);
    Check { markers, ..Check::new("dead_letters_killed", &Generous) }
        .passes(&scene.topic, &scene.database)
}

#[test]
fn two_replays_at_once_share_the_dead_letters() -> Result<()> {
    let scene = scene("dead_letters_shared", 1)?;
    let dead_letters = scaled(100_000);
    let file = only_dead_letters(&scene, dead_letters)?;
    let replays = [start_replay(&file)?, start_replay(&file)?];
    let mut replayed = 0;
    for mut replay in replays {
        let status = until("the replay has ended", SOON, || Ok(replay.try_wait()?))?;
        assert_eq!(status.code(), Some(0));
        let said: Value = serde_json::from_reader(replay.stdout.take().context("no stdout")?)?;
        replayed += number(&said["rows_from"]);
    }
    assert_eq!(replayed, dead_letters as i64);
    Check::new("dead_letters_shared", &Generous).passes(&scene.topic, &scene.database)
}
