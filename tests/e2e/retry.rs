//! Messages that are tried again later: a reading whose device is not known yet waits for it.

use std::time::Duration;

use anyhow::Result;
use sluice_tests::counts::{long, scaled};
use sluice_tests::host::Pipeline;
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator::lag;
use sluice_tests::scene::{DRAIN_MAX, Scene};
use sluice_tests::wait::{SOON, until_true};

/// Each reading needs its device.
const TABLES: &str = "CREATE TABLE devices (device_id text PRIMARY KEY); \
     CREATE TABLE readings (device_id text NOT NULL CONSTRAINT known REFERENCES devices, measured_at timestamptz NOT NULL, \
     seq bigint, power_w float8, voltage_v float8, current_a float8, energy_wh bigint, temperature_c float8, \
     status text, arrival bigint GENERATED ALWAYS AS IDENTITY)";

/// Makes known all devices of a load, or those with an even number.
fn devices(partitions: i32, even: bool) -> String {
    let step = if even { 2 } else { 1 };
    format!(
        "INSERT INTO devices SELECT format('hems-%s-%s', lpad(p::text, 2, '0'), lpad(d::text, 4, '0')) \
         FROM generate_series(0, {partitions} - 1) AS p, generate_series(0, 499, {step}) AS d ON CONFLICT DO NOTHING"
    )
}

fn good_only() -> Mix {
    Mix { bad_per_mille: 0, long_per_mille: 0 }
}

fn pipeline(scene: &Scene, retry_lines: &str) -> Result<Pipeline> {
    let mut pipeline = scene.pipeline()?;
    pipeline.sink_lines.push_str(&format!("\n[retry]\nconstraints = [\"known\"]\n{retry_lines}"));
    Ok(pipeline)
}

fn number(scene: &Scene, sql: &str) -> Result<i64> {
    scene.database.number(sql)
}

/// What lineage says was parked is a row, a dead letter, or still there.
fn check_parked(scene: &Scene) -> Result<()> {
    let parked = number(scene, "SELECT coalesce(sum(parked), 0)::bigint FROM sluice.lineage")?;
    let known = number(
        scene,
        "SELECT (SELECT count(*) FROM sluice.retried) + (SELECT count(*) FROM sluice.parked) \
         + (SELECT count(*) FROM sluice.dead_letters WHERE last_rejected_at IS NOT NULL)",
    )?;
    assert_eq!(parked, known, "what was parked, and what became of it");
    let broken = "SELECT count(*) FROM sluice.lineage WHERE messages <> rows_from + filtered + rejected + parked";
    assert_eq!(number(scene, broken)?, 0, "ranges whose counts do not add up");
    Ok(())
}

#[test]
fn attempts_follow_the_schedule_and_end_as_dead_letters() -> Result<()> {
    let scene = Scene::alone("retry_schedule", 1, TABLES)?;
    Load::new(&scene.topic, good_only())?.send(20)?;
    let pipeline = pipeline(&scene, "attempts = 5\ndelay = \"1s\"\nmultiplier = 2\n")?;
    let host = scene.start("host", &pipeline)?;
    until_true("all attempts were made", SOON, || {
        Ok(number(&scene, "SELECT count(*) FROM sluice.dead_letters").unwrap_or(0) == 20)
    })?;
    host.drain()?;
    // 1 + 2 + 4 + 8 s.
    let early = "SELECT count(*) FROM sluice.dead_letters WHERE last_rejected_at - rejected_at < interval '15 s'";
    assert_eq!(number(&scene, early)?, 0, "never earlier than the settings say");
    let late = "SELECT count(*) FROM sluice.dead_letters WHERE last_rejected_at - rejected_at > interval '16.5 s'";
    assert_eq!(number(&scene, late)?, 0, "within 10 % of what the settings say");
    let last = "SELECT count(*) FROM sluice.dead_letters \
         WHERE attempts = 5 AND stage = 'sink' AND code = '23503' AND reason LIKE '%known%'";
    assert_eq!(number(&scene, last)?, 20, "with the last reason");
    assert_eq!(number(&scene, "SELECT count(*) FROM sluice.parked")?, 0);
    assert_eq!(number(&scene, "SELECT count(*) FROM readings")?, 0);
    check_parked(&scene)
}

#[test]
fn parked_messages_pass_when_their_cause_is_gone_and_delay_nobody() -> Result<()> {
    let scene = Scene::new("retry_pass", 2, TABLES)?;
    scene.database.execute(&devices(2, true))?;
    Load::new(&scene.topic, good_only())?.send(4000)?;
    let pipeline = pipeline(&scene, "attempts = 100\ndelay = \"300ms\"\nmultiplier = 1\n")?;
    let host = scene.start("host", &pipeline)?;
    scene.wait_until_drained()?;
    assert_eq!(number(&scene, "SELECT count(*) FROM readings")?, 2000);
    let told = lag(&pipeline.write(&scene.folder)?)?;
    assert_eq!(
        (told["total"].as_i64(), told["parked"]["messages"].as_i64()),
        (Some(0), Some(2000))
    );
    scene.database.execute(&devices(2, false))?;
    until_true("nothing is parked any more", SOON, || {
        Ok(number(&scene, "SELECT count(*) FROM sluice.parked")? == 0)
    })?;
    host.drain()?;
    assert_eq!(number(&scene, "SELECT count(*) FROM readings")?, 4000);
    assert_eq!(number(&scene, "SELECT count(DISTINCT (device_id, seq)) FROM readings")?, 4000);
    assert_eq!(number(&scene, "SELECT count(*) FROM sluice.retried WHERE rows = 1")?, 2000);
    assert_eq!(number(&scene, "SELECT count(*) FROM sluice.dead_letters")?, 0);
    check_parked(&scene)
}

#[test]
fn a_pipeline_pauses_when_as_many_are_parked_as_may_be_and_resumes_when_fewer_are() -> Result<()> {
    let scene = Scene::new("retry_full", 2, TABLES)?;
    Load::new(&scene.topic, good_only())?.send(20_000)?;
    let lines = "attempts = 1000\ndelay = \"500ms\"\nmultiplier = 1\nmax_parked = 1000\n";
    let mut pipeline = pipeline(&scene, lines)?;
    pipeline.batch_lines = "max_messages = 300\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    let paused = host.wait_for("pipeline paused", SOON)?;
    assert_eq!(paused.text("code").as_deref(), Some("SL-D311"));
    // Attempts go on in the meantime, and nothing else is read: one batch of each lane may pass the limit, and the one after it.
    let tried = "SELECT coalesce(max(attempts), 0) FROM sluice.parked";
    until_true("all were tried again and again", SOON, || Ok(number(&scene, tried)? > 5))?;
    let parked = number(&scene, "SELECT count(*) FROM sluice.parked")?;
    assert!((1000..=1000 + 2 * 2 * 300).contains(&parked), "{parked}");
    scene.database.execute(&devices(2, true))?;
    scene.database.execute(&devices(2, false))?;
    scene.wait_until_drained()?;
    until_true("nothing is parked any more", SOON, || {
        Ok(number(&scene, "SELECT count(*) FROM sluice.parked")? == 0)
    })?;
    host.wait_for("pipeline resumed after a pause", SOON)?;
    host.drain()?;
    assert_eq!(number(&scene, "SELECT count(DISTINCT (device_id, seq)) FROM readings")?, 20_000);
    assert_eq!(number(&scene, "SELECT count(*) FROM readings")?, 20_000);
    check_parked(&scene)
}

/// Rows of a device that did not arrive in the order of its messages; of the load, each 97th has no key.
const OUT_OF_ORDER: &str = "SELECT count(*) FROM (SELECT seq, lag(seq) OVER (PARTITION BY device_id ORDER BY arrival) \
     AS before FROM readings WHERE seq % 97 <> 0) AS pairs WHERE seq < before";

/// Hosts are killed while thousands of messages are parked and more arrive.
fn kill_hosts(name: &str, retry_lines: &str) -> Result<Scene> {
    let scene = Scene::new(name, 4, TABLES)?;
    scene.database.execute(&devices(4, true))?;
    let pipeline = pipeline(&scene, retry_lines)?.impatient();
    let stream = Load::new(&scene.topic, good_only())?.stream(1000);
    let mut hosts = vec![scene.start("host-0", &pipeline)?, scene.start("host-1", &pipeline)?];
    let kills = scaled(40);
    for kill in 0..kills {
        let host = hosts.swap_remove(fastrand::usize(0..hosts.len()));
        host.wait_for("partitions claimed", SOON)?;
        std::thread::sleep(Duration::from_millis(fastrand::u64(200..2000)));
        if kill == kills / 2 {
            assert!(number(&scene, "SELECT count(*) FROM sluice.parked")? > 1000);
            scene.database.execute(&devices(4, false))?;
        }
        host.kill()?;
        hosts.push(scene.start(&format!("host-{}", kill + 2), &pipeline)?);
    }
    stream.stop()?;
    scene.wait_until_drained()?;
    until_true("nothing is parked any more", DRAIN_MAX, || {
        Ok(number(&scene, "SELECT count(*) FROM sluice.parked")? == 0)
    })?;
    hosts.into_iter().try_for_each(|host| host.drain().map(drop))?;
    let sent: i64 = scene.topic.log_ends()?.iter().sum();
    assert_eq!(number(&scene, "SELECT count(*) FROM readings")?, sent, "no row lost");
    assert_eq!(
        number(&scene, "SELECT count(DISTINCT (device_id, seq)) FROM readings")?,
        sent,
        "none twice"
    );
    assert_eq!(number(&scene, "SELECT count(*) FROM sluice.dead_letters")?, 0);
    check_parked(&scene)?;
    Ok(scene)
}

#[test]
fn hosts_killed_with_thousands_parked_lose_and_repeat_nothing() -> Result<()> {
    kill_hosts("retry_kill", "attempts = 1000\ndelay = \"1s\"\nmultiplier = 1\n").map(drop)
}

#[test]
fn the_order_of_a_key_survives_kills_and_rebalances() -> Result<()> {
    // Long enough that messages are still parked when a host that has just claimed their partition could write
    // later ones.
    let lines = "attempts = 1000\ndelay = \"6s\"\nmultiplier = 1\norder = \"key\"\n";
    let scene = kill_hosts("retry_order", lines)?;
    assert_eq!(number(&scene, OUT_OF_ORDER)?, 0, "rows out of order");
    Ok(())
}

/// Messages that wait for a device that nobody knows, each of a key of its own, and those of the even devices of a load.
/// Not due for an hour.
fn park(scene: &Scene, keys: i64) -> String {
    format!(
        "ALTER TABLE sluice.parked DISABLE TRIGGER set_due;
         INSERT INTO sluice.parked (pipeline, topic, topic_id, partition, \"offset\", key, payload, header_names,
            header_values, stage, code, reason, digest, attempts, delay_ms, due_at)
         SELECT p.pipeline, p.topic, p.topic_id, p.partition, n - 1000000000, convert_to(device, 'UTF8'),
            convert_to(format('{{\"device_id\":\"%s\",\"measured_at\":\"2026-01-01T00:00:00Z\",\"seq\":0,\"power_w\":1,'
                '\"voltage_v\":230,\"status\":\"ok\"}}', device), 'UTF8'),
            '{{}}', '{{}}', 'sink', '23503', 'known', 'd', 1, 0, now() + interval '1 hour'
         FROM sluice.positions AS p, generate_series(0, {keys} / 12 - 1) AS n, LATERAL (
            SELECT CASE WHEN n < 250 THEN format('hems-%s-%s', lpad(p.partition::text, 2, '0'), lpad((2 * n)::text, 4, '0'))
                ELSE format('unknown-%s-%s', p.partition, n) END AS device
         ) AS named WHERE p.pipeline = '{}';
         ALTER TABLE sluice.parked ENABLE TRIGGER set_due",
        scene.name
    )
}

#[test]
fn a_host_starts_and_keeps_the_order_although_very_many_keys_wait() -> Result<()> {
    let scene = Scene::alone("retry_many", 12, TABLES)?;
    scene.database.execute(&devices(12, true))?;
    scene.database.execute(&devices(12, false))?;
    let lines =
        "attempts = 1000\ndelay = \"1h\"\nmax_delay = \"1h\"\nmultiplier = 1\norder = \"key\"\n";
    let pipeline = pipeline(&scene, lines)?;
    let mut load = Load::new(&scene.topic, good_only())?;
    load.send(1200)?;
    let host = scene.start("first", &pipeline)?;
    scene.wait_until_drained()?;
    host.drain()?;
    // A multiple of the number of partitions.
    let keys = if long() { 4_000_008 } else { 240_000 };
    scene.database.execute(&park(&scene, keys))?;
    load.send(60_000)?;
    let begin = std::time::Instant::now();
    let host = scene.start("host", &pipeline)?;
    scene.wait_until_drained()?;
    println!("drained after {:?}, {} MiB", begin.elapsed(), host.resident_bytes()? >> 20);
    let behind = number(&scene, "SELECT count(*) FROM sluice.parked WHERE attempts = 0")?;
    let passed = number(&scene, "SELECT count(*) FROM readings WHERE seq >= 100")?;
    // Messages without a key wait for nobody.
    let wait = "SELECT count(*) FROM readings WHERE seq >= 100 AND seq % 97 <> 0 AND right(device_id, 1)::int % 2 = 0";
    assert_eq!((behind + passed, number(&scene, wait)?), (60_000, 0));
    assert!(behind > 29_000, "{behind}");
    // Those of the load are due now, and whatever waits behind them.
    scene.database.execute("UPDATE sluice.parked SET delay_ms = 0 WHERE convert_from(key, 'UTF8') LIKE 'hems-%' AND attempts > 0")?;
    until_true("all that waited have passed", DRAIN_MAX, || {
        Ok(number(&scene, "SELECT count(*) FROM readings")? == 61_200 + 3_000)
    })?;
    println!("all passed after {:?}, {} MiB", begin.elapsed(), host.resident_bytes()? >> 20);
    host.drain()?;
    let out_of_order = "SELECT count(*) FROM (SELECT seq, lag(seq) OVER (PARTITION BY device_id ORDER BY arrival) AS before \
         FROM readings WHERE seq % 97 <> 0 OR seq = 0) AS pairs WHERE seq < before AND NOT (seq = 0 AND before < 100)";
    assert_eq!(number(&scene, out_of_order)?, 0, "rows out of order");
    assert_eq!(number(&scene, "SELECT count(*) FROM sluice.parked")?, keys - 3_000);
    Ok(())
}
