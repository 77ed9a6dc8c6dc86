//! Dead letters on their way to a topic: each at least once, as it was, in order, whatever goes away.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use sluice_tests::checker::{Log, Message, Readings};
use sluice_tests::child::{Signal, signal};
use sluice_tests::counts::scaled;
use sluice_tests::host::{Host, Pipeline};
use sluice_tests::kafka::Topic;
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until, until_true};

const ALL_BAD: Mix = Mix { bad_per_mille: 1000, long_per_mille: 0 };

/// Three partitions, and a topic of as many for the dead letters.
fn scene(name: &str) -> Result<(Scene, Topic, Pipeline)> {
    let scene = Scene::new(name, 3, Readings::TABLE)?;
    let dead_letters = Topic::create(&format!("{name}.dlt"), 3)?;
    let pipeline = relaying(&scene, &dead_letters.name)?;
    Ok((scene, dead_letters, pipeline))
}

fn relaying(scene: &Scene, topic: &str) -> Result<Pipeline> {
    let mut pipeline = scene.pipeline()?;
    pipeline.dead_letter_lines = format!("topic = \"{topic}\"\n");
    Ok(pipeline)
}

/// Writes dead letters as another host would, `count` in each of three partitions, with payloads of `bytes` bytes.
fn write_dead_letters(scene: &Scene, count: usize, bytes: usize) -> Result<()> {
    scene.database.execute(&format!(
        "INSERT INTO sluice.dead_letters (pipeline, topic, topic_id, partition, \"offset\", \"timestamp\", key, payload, \
            header_names, header_values, stage, code, reason, digest, relay) \
         SELECT '{name}', '{name}', gen_random_uuid(), p, coalesce(before.next, 0) + n, now(), 'k', \
            convert_to(repeat('x', {bytes}), 'UTF8'), '{{}}', '{{}}', 'plugin', 'c', 'r', 'd', true \
         FROM generate_series(0, {last}) AS n, generate_series(0, 2) AS p LEFT JOIN \
            (SELECT partition, max(\"offset\") + 1 AS next FROM sluice.dead_letters GROUP BY partition) AS before \
            ON before.partition = p ORDER BY n, p",
        name = scene.name,
        last = count - 1,
    ))
}

fn waiting(scene: &Scene) -> Result<i64> {
    scene.database.number("SELECT count(*) FROM sluice.dead_letters WHERE relay")
}

fn wait_until_relayed(scene: &Scene) -> Result<()> {
    until_true("all dead letters are relayed", 2 * SOON, || Ok(waiting(scene)? == 0))
}

fn header<'a>(message: &'a Message, name: &str) -> Result<&'a [u8]> {
    let found = message.headers.iter().rev().find(|(found, _)| found == name.as_bytes());
    found.and_then(|(_, value)| value.as_deref()).with_context(|| format!("no header {name}"))
}

fn number(message: &Message, name: &str) -> Result<i64> {
    let bytes = header(message, name)?;
    Ok(match bytes.len() {
        4 => i32::from_be_bytes(bytes.try_into()?).into(),
        8 => i64::from_be_bytes(bytes.try_into()?),
        other => anyhow::bail!("{name} has {other} bytes"),
    })
}

fn dead_letter_id(message: &Message) -> Result<i64> {
    Ok(std::str::from_utf8(header(message, "sluice-dead-letter")?)?.parse()?)
}

/// Ids of the dead letters in `topic`, by partition, each where it came first, and the number of messages.
fn arrived(topic: &Topic) -> Result<(BTreeMap<i32, Vec<i64>>, usize)> {
    let (mut first, mut count) = (BTreeMap::new(), 0);
    for (partition, log) in Log::read(topic)?.partitions {
        let ids: &mut Vec<i64> = first.entry(partition).or_default();
        let mut seen = std::collections::BTreeSet::new();
        for message in &log.messages {
            count += 1;
            let id = dead_letter_id(message)?;
            if seen.insert(id) {
                ids.push(id);
            }
        }
    }
    Ok((first, count))
}

/// Every dead letter of the table is in the topic, in the partition of its own number, and first came in the order in which
/// it was written.
fn check_arrived(scene: &Scene, topic: &Topic) -> Result<usize> {
    let (first, count) = arrived(topic)?;
    let sql =
        "SELECT partition, array_agg(id ORDER BY id) FROM sluice.dead_letters GROUP BY partition";
    let mut written = BTreeMap::new();
    for row in scene.database.query(sql, &[])? {
        written.insert(row.get::<_, i32>(0), row.get::<_, Vec<i64>>(1));
    }
    assert_eq!(first, written);
    Ok(count)
}

/// What `sluice lag` says of the relay.
fn lag(file: &Path) -> Result<Value> {
    Ok(operator::lag(file)?["dead_letters"].clone())
}

#[test]
fn a_dead_letter_arrives_as_the_message_was_with_what_spring_would_say_of_it() -> Result<()> {
    let (scene, dead_letters, pipeline) = scene("relay")?;
    Load::new(&scene.topic, ALL_BAD)?.send(scaled(6000))?;
    scene.topic.set("message.timestamp.type", "LogAppendTime")?;
    Load::new(&scene.topic, ALL_BAD)?.counting_from(100_000).send(300)?;
    let host = scene.start("host", &pipeline)?;
    scene.wait_until_drained()?;
    wait_until_relayed(&scene)?;
    let file = pipeline.write(&scene.folder)?;
    assert_eq!(
        lag(&file)?,
        serde_json::json!({ "topic": dead_letters.name, "waiting": 0, "oldest_seconds": 0, "refused": 0, "fault": null,
            "fault_seconds": null })
    );
    let events = host.drain()?;
    scene.check(&Readings::all())?;

    let (messages, relayed) = (Log::read(&scene.topic)?, Log::read(&dead_letters)?);
    let mut appended = 0;
    for (partition, log) in &messages.partitions {
        let relayed = &relayed.partitions[partition].messages;
        assert_eq!(
            relayed.len(),
            log.messages.len(),
            "nothing was killed: each dead letter comes once"
        );
        for (message, relayed) in log.messages.iter().zip(relayed) {
            assert_eq!((&relayed.key, &relayed.payload), (&message.key, &message.payload));
            let (own, added) = relayed.headers.split_at(message.headers.len());
            assert_eq!(own, message.headers);
            appended += i64::from(check_added(&scene, message, relayed, added)?);
        }
    }
    assert_eq!(appended, 300, "messages with the broker's time");
    let summary = events.iter().rev().find(|event| event.is("summary")).context("no summary")?;
    let count = scene
        .database
        .number("SELECT count(*) FROM sluice.dead_letters WHERE relayed_at IS NOT NULL")?;
    assert_eq!(summary.number("relayed"), Some(count));
    assert_eq!(
        (summary.number("rejected"), summary.number("relay_waiting")),
        (Some(count), Some(0))
    );
    Ok(())
}

/// True when the message's time is the broker's.
fn check_added(
    scene: &Scene,
    message: &Message,
    relayed: &Message,
    added: &[(Vec<u8>, Option<Vec<u8>>)],
) -> Result<bool> {
    let names: Vec<&str> =
        added.iter().map(|(name, _)| std::str::from_utf8(name)).collect::<Result<_, _>>()?;
    assert_eq!(
        names,
        [
            "kafka_dlt-original-topic",
            "kafka_dlt-original-partition",
            "kafka_dlt-original-offset",
            "kafka_dlt-original-timestamp",
            "kafka_dlt-original-timestamp-type",
            "kafka_dlt-original-consumer-group",
            "kafka_dlt-exception-fqcn",
            "kafka_dlt-exception-message",
            "sluice-pipeline",
            "sluice-stage",
            "sluice-code",
            "sluice-reason",
            "sluice-digest",
            "sluice-attempts",
            "sluice-dead-letter",
        ]
    );
    let lengths = |name| header(relayed, name).map(<[u8]>::len);
    assert_eq!(lengths("kafka_dlt-original-partition")?, 4);
    assert_eq!(lengths("kafka_dlt-original-offset")?, 8);
    assert_eq!(lengths("kafka_dlt-original-timestamp")?, 8);
    assert_eq!(number(relayed, "kafka_dlt-original-partition")?, i64::from(message.partition));
    assert_eq!(number(relayed, "kafka_dlt-original-offset")?, message.offset);
    assert_eq!(number(relayed, "kafka_dlt-original-timestamp")?, message.timestamp_ms);
    let text = |name| Ok::<_, anyhow::Error>(std::str::from_utf8(header(relayed, name)?)?);
    assert_eq!(text("kafka_dlt-original-topic")?, scene.topic.name);
    assert_eq!(text("kafka_dlt-original-consumer-group")?, scene.name);
    assert_eq!(text("sluice-pipeline")?, scene.name);
    assert_eq!(text("sluice-stage")?, message.truth());
    assert_eq!(text("sluice-attempts")?, "1");
    assert_eq!(text("sluice-digest")?.len(), 64);
    let class = format!("sluice.{}.{}", text("sluice-stage")?, text("sluice-code")?);
    assert_eq!(text("kafka_dlt-exception-fqcn")?, class);
    assert_eq!(text("kafka_dlt-exception-message")?, text("sluice-reason")?);
    Ok(match text("kafka_dlt-original-timestamp-type")? {
        "LogAppendTime" => true,
        kind => {
            assert_eq!(kind, "CreateTime");
            false
        }
    })
}

#[test]
fn a_dead_letter_too_large_for_its_topic_is_marked_and_the_others_go_on() -> Result<()> {
    let (scene, dead_letters, pipeline) = scene("relay_large")?;
    dead_letters.set("max.message.bytes", "20000")?;
    let host = scene.start("host", &pipeline)?;
    host.wait_for("pipeline started", SOON)?;
    // Together they are more than the topic takes in one request; each of them is not.
    write_dead_letters(&scene, 40, 4000)?;
    write_dead_letters(&scene, 1, 30_000)?;
    write_dead_letters(&scene, 10, 100)?;
    wait_until_relayed(&scene)?;
    let event = host.wait_for("dead letters cannot be relayed", SOON)?;
    assert_eq!(
        (event.text("code").as_deref(), event.number("dead_letters")),
        (Some("SL-D303"), Some(3))
    );
    let file = pipeline.write(&scene.folder)?;
    assert_eq!(lag(&file)?["refused"], 3);
    let marked = "SELECT string_agg(DISTINCT relay_fault, ', ') FROM sluice.dead_letters \
        WHERE relayed_at IS NULL AND NOT relay AND octet_length(payload) = 30000";
    assert_eq!(
        scene.database.text(marked)?.as_deref(),
        Some("SL-D303: MessageSizeTooLarge (Broker: Message size too large)")
    );
    assert_eq!(arrived(&dead_letters)?.0.values().map(Vec::len).sum::<usize>(), 150);

    // The statement that `sluice explain SL-D303` shows.
    dead_letters.set("max.message.bytes", "1000000")?;
    scene.database.execute(
        "UPDATE sluice.dead_letters SET relay = true, relay_fault = NULL WHERE pipeline = 'relay_large' AND \
         relay_fault IS NOT NULL",
    )?;
    wait_until_relayed(&scene)?;
    assert_eq!(lag(&file)?["refused"], 0);
    let events = host.drain()?;
    assert_eq!(arrived(&dead_letters)?.0.values().map(Vec::len).sum::<usize>(), 153);
    let summary = events.iter().rev().find(|event| event.is("summary")).context("no summary")?;
    assert_eq!((summary.number("relayed"), summary.number("relay_refused")), (Some(153), Some(3)));
    Ok(())
}

#[test]
fn without_its_topic_the_relay_waits_and_rows_go_on() -> Result<()> {
    let scene = Scene::new("relay_missing", 3, Readings::TABLE)?;
    let pipeline = relaying(&scene, "relay_missing.dlt")?;
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 50, long_per_mille: 0 })?;
    load.send(2000)?;
    let event = host.wait_for("dead letters wait for their relay", SOON)?;
    assert_eq!(event.text("code").as_deref(), Some("SL-D301"));
    load.send(2000)?;
    scene.wait_until_drained()?;
    scene.check(&Readings::all())?;
    let file = pipeline.write(&scene.folder)?;
    let behind = until("others see why", SOON, || {
        let lag = lag(&file)?;
        Ok(lag["fault"].is_string().then_some(lag))
    })?;
    assert_eq!(behind["waiting"].as_i64(), Some(waiting(&scene)?));
    assert_eq!(behind["fault"], "SL-D301: there is no topic relay_missing.dlt for dead letters");

    let dead_letters = Topic::create("relay_missing.dlt", 2)?;
    wait_until_relayed(&scene)?;
    host.wait_for("relay resumed", SOON)?;
    assert_eq!(host.events("dead letters wait for their relay").len(), 1, "told once");
    assert_eq!(lag(&file)?["fault"], Value::Null);
    host.drain()?;
    let (first, count) = arrived(&dead_letters)?;
    assert_eq!(count, first.values().map(Vec::len).sum::<usize>());
    // Two partitions for three: the third shares, and each keeps its order.
    let sql = "SELECT partition % 2, array_agg(id ORDER BY id) FROM sluice.dead_letters GROUP BY 1 ORDER BY 1";
    for row in scene.database.query(sql, &[])? {
        assert_eq!(first[&row.get::<_, i32>(0)], row.get::<_, Vec<i64>>(1));
    }
    Ok(())
}

#[test]
fn hosts_and_sessions_killed_at_random_lose_no_dead_letter() -> Result<()> {
    let (scene, dead_letters, pipeline) = scene("relay_kill")?;
    let pipeline = pipeline.impatient();
    let mut hosts = vec![scene.start("host-0", &pipeline)?, scene.start("host-1", &pipeline)?];
    hosts[0].wait_for("pipeline started", SOON)?;
    let kills = scaled(200);
    let mut hits = 0;
    for kill in 0..kills {
        write_dead_letters(&scene, 4000, 200)?;
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..1000)));
        hits += usize::from(waiting(&scene)? > 0);
        if kill % 3 == 0 {
            scene.database.execute(
                "SELECT pg_terminate_backend(backend_pid) FROM sluice.relays WHERE pipeline = 'relay_kill'",
            )?;
        } else {
            // Mostly the one that relays.
            let relaying = holder(&scene)?;
            let index = hosts.iter().position(|host| host.pid() == relaying).unwrap_or(0);
            hosts.swap_remove(index).kill()?;
            hosts.push(scene.start(&format!("host-{}", kill + 2), &pipeline)?);
        }
    }
    assert!(hits * 2 > kills, "dead letters were waiting at only {hits} of {kills} kills");
    wait_until_relayed(&scene)?;
    hosts.into_iter().try_for_each(|host| host.drain().map(drop))?;
    let count = check_arrived(&scene, &dead_letters)?;
    eprintln!("{count} messages for {} dead letters, {hits} hits", 12_000 * kills);
    Ok(())
}

/// Process id of the host that relays.
fn holder(scene: &Scene) -> Result<u32> {
    let owner = scene.database.text("SELECT owner FROM sluice.relays")?.unwrap_or_default();
    Ok(owner.split('-').next().unwrap_or_default().parse().unwrap_or(0))
}

#[test]
fn one_host_relays_at_a_time_and_another_goes_on_when_it_is_paused() -> Result<()> {
    let (scene, dead_letters, pipeline) = scene("relay_several")?;
    let pipeline = pipeline.impatient();
    let start = |number: usize| scene.start(&format!("host-{number}"), &pipeline);
    let hosts: Vec<Host> = (0..3).map(start).collect::<Result<_>>()?;
    hosts.iter().try_for_each(Host::wait_until_started)?;
    // All hosts make dead letters, and other writers: their transactions end in any order.
    let stream = Load::new(&scene.topic, ALL_BAD)?.stream(3000);
    let slow = scene.database.again()?;
    for _ in 0..scaled(50) {
        slow.execute("BEGIN")?;
        let late = "INSERT INTO sluice.dead_letters (pipeline, topic, topic_id, partition, \"offset\", header_names, \
            header_values, stage, code, reason, digest, relay) \
            SELECT 'relay_several', 't', gen_random_uuid(), 7, 0, '{}', '{}', 's', 'c', 'r', 'd', true";
        slow.execute(late)?;
        let sent = stream.acknowledged();
        until_true("others commit later ids", SOON, || Ok(stream.acknowledged() > sent + 600))?;
        slow.execute("COMMIT")?;
    }
    stream.stop()?;
    scene.wait_until_drained()?;
    wait_until_relayed(&scene)?;
    let written = scene.database.number("SELECT count(*) FROM sluice.dead_letters")?;
    let (_, count) = arrived(&dead_letters)?;
    assert_eq!(i64::try_from(count)?, written, "nothing was killed: each dead letter comes once");

    write_dead_letters(&scene, 10_000, 100)?;
    let blocked = "SELECT until > now() FROM sluice.relays";
    until_true("somebody relays", SOON, || scene.database.is_true(blocked))?;
    let relaying = holder(&scene)?;
    signal(relaying, Signal::Stop)?;
    assert!(waiting(&scene)? > 0, "it was stopped in the middle");
    wait_until_relayed(&scene)?;
    assert_ne!(holder(&scene)?, relaying);
    signal(relaying, Signal::Continue)?;
    write_dead_letters(&scene, 1000, 100)?;
    wait_until_relayed(&scene)?;
    hosts.into_iter().try_for_each(|host| host.drain().map(drop))?;
    let ids: usize = arrived(&dead_letters)?.0.values().map(Vec::len).sum();
    assert_eq!(i64::try_from(ids)?, written + 33_000);
    Ok(())
}
