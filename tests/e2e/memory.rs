//! Memory is bounded by configuration, not by the patience of Postgres.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::counts::scaled;
use sluice_tests::host::Pipeline;
use sluice_tests::load::message::make;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::proxy::Proxy;
use sluice_tests::scene::{DRAIN_MAX, Scene};
use sluice_tests::wait::{SOON, until_true};

const MIB: u64 = 1 << 20;

/// What README allows a pipeline of two lanes with the settings of [`small`].
const PROMISED_BYTES: u64 = 2 * (8 + 64 + 8 * 4) * MIB;

/// What the settings below allow: per lane the queue of the source, the batch that is made, and the one that
/// waits behind the one that is written; twice that for what is made of a batch, and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 2 * (8 + 3 * 2 * 4) * MIB + 64 * MIB;

/// How long nothing passes; the load would fill the memory in a tenth of it.
const SILENCE: Duration = Duration::from_secs(8);

#[test]
fn a_silent_postgres_does_not_fill_the_hosts_memory() -> Result<()> {
    let scene = Scene::alone("memory", 6, Readings::TABLE)?;
    let proxy = Proxy::start(scene.database.port()?)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.url = proxy.url(scene.database.url(), scene.database.port()?);
    pipeline.source_lines = "queue_bytes = \"8MiB\"\n".to_owned();
    // Ten times the default: what comes until a write is due must not be kept without bounds either.
    pipeline.batch_lines = "max_bytes = \"4MiB\"\npace = \"1s\"\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 1000 })?;
    load.send(6000)?;
    scene.wait_until_drained()?;
    let before = host.resident_bytes()?;
    proxy.black_hole(true);
    load.send(scaled(1_500_000))?;
    let start = Instant::now();
    let mut most = 0;
    while start.elapsed() < SILENCE {
        most = most.max(host.resident_bytes()?);
        std::thread::sleep(Duration::from_millis(50));
    }
    proxy.black_hole(false);
    let growth = most.saturating_sub(before);
    assert!(
        growth < GROWTH_BYTES_MAX,
        "grew by {} MiB, allowed are {} MiB",
        growth / MIB,
        GROWTH_BYTES_MAX / MIB
    );
    host.wait_for("partitions claimed", SOON)?;
    scene.wait_until_drained()?;
    host.drain()?;
    scene.check(&Readings::all())
}

fn small(pipeline: Pipeline) -> Pipeline {
    Pipeline {
        source_lines: "queue_bytes = \"8MiB\"\n".to_owned(),
        batch_lines: "max_bytes = \"4MiB\"\n".to_owned(),
        plugin_lines: "memory_bytes = \"64MiB\"\n".to_owned(),
        ..pipeline
    }
}

/// Sends `count` messages while nothing comes through to Postgres: memory grows by no more than README says, and the host
/// goes on afterwards.
fn fill_while_postgres_is_silent(
    name: &str,
    count: usize,
    make: fn(Mix, i32, u64) -> Made,
) -> Result<()> {
    let scene = Scene::alone(name, 12, Readings::TABLE)?;
    let proxy = Proxy::start(scene.database.port()?)?;
    let mut pipeline = small(scene.pipeline()?);
    pipeline.url = proxy.url(scene.database.url(), scene.database.port()?);
    let host = scene.start("host", &pipeline)?;
    let mix = Mix { bad_per_mille: 0, long_per_mille: 0 };
    let mut load = Load::new(&scene.topic, mix)?;
    load.send(1200)?;
    scene.wait_until_drained()?;
    let before = host.resident_bytes()?;
    proxy.black_hole(true);
    let mut load = load.making(make);
    let sending = std::thread::spawn(move || load.send(count));
    let (mut most, mut end) = (0, None);
    while end.is_none_or(|end| Instant::now() < end) {
        most = most.max(host.resident_bytes()?);
        std::thread::sleep(Duration::from_millis(20));
        if sending.is_finished() {
            end.get_or_insert_with(|| Instant::now() + SILENCE / 2);
        }
    }
    sending.join().expect("sending does not panic")?;
    let growth = most.saturating_sub(before);
    println!("{name}: {count} messages, {} MiB more than {} MiB", growth / MIB, before / MIB);
    assert!(
        growth < PROMISED_BYTES,
        "grew by {} MiB, promised are {}",
        growth / MIB,
        PROMISED_BYTES / MIB
    );
    let stood: i64 = scene.positions(&scene.name)?.into_iter().flatten().sum();
    proxy.black_hole(false);
    until_true("the host goes on", DRAIN_MAX, || {
        Ok(scene.positions(&scene.name)?.into_iter().flatten().sum::<i64>() > stood)
    })?;
    host.kill()
}

#[test]
fn tombstones_do_not_fill_the_memory() -> Result<()> {
    let tombstone = |mix, partition, number| Made {
        payload: None,
        headers: Vec::new(),
        ..make(mix, partition, number)
    };
    fill_while_postgres_is_silent("memory_tombstones", scaled(12_000_000), tombstone)
}

#[test]
fn tiny_messages_do_not_fill_the_memory() -> Result<()> {
    let tiny = |mix, partition, number| {
        let payload = Some(format!("{number:020}").into_bytes());
        Made { key: None, payload, headers: Vec::new(), ..make(mix, partition, number) }
    };
    fill_while_postgres_is_silent("memory_tiny", scaled(10_000_000), tiny)
}

#[test]
fn large_headers_do_not_fill_the_memory() -> Result<()> {
    let heavy = |mix, partition, number| {
        let mut made = make(mix, partition, number);
        made.headers.push(("trace".to_owned(), Some(vec![b'x'; 64 << 10])));
        made
    };
    fill_while_postgres_is_silent("memory_headers", scaled(100_000), heavy)
}

/// What README allows beyond that while parked messages are retried.
const PARKED_BYTES: u64 = 100 * MIB;

#[test]
fn large_parked_messages_do_not_fill_the_memory() -> Result<()> {
    let scene = Scene::alone("memory_parked", 12, Readings::TABLE)?;
    let pipeline = small(scene.pipeline()?);
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    load.send(1200)?;
    let host = scene.start("first", &pipeline)?;
    scene.wait_until_drained()?;
    host.drain()?;
    let count = scaled(10_000);
    scene.database.execute(&format!(
        "INSERT INTO sluice.parked (pipeline, topic, topic_id, partition, \"offset\", payload, header_names, header_values, \
            stage, code, reason, digest, attempts, delay_ms)
         SELECT p.pipeline, p.topic, p.topic_id, p.partition, n - 1000000000, convert_to(format('{{\"device_id\":\"parked\",\
            \"measured_at\":\"2026-01-01T00:00:00Z\",\"seq\":%s,\"power_w\":1,\"voltage_v\":230,\"status\":\"ok\",\
            \"diagnostics\":\"%s\"}}', n, repeat('x', 400000)), 'UTF8'), '{{}}', '{{}}', 'plugin', 'later', '', 'd', 1, 0
         FROM sluice.positions AS p, generate_series(1, {count}) AS n WHERE p.pipeline = '{}' AND p.partition = 3",
        scene.name
    ))?;
    let host = scene.start("host", &pipeline)?;
    let (before, mut most) = (host.resident_bytes()?, 0);
    until_true("all have passed", DRAIN_MAX, || {
        most = most.max(host.resident_bytes()?);
        Ok(scene.database.number("SELECT count(*) FROM sluice.parked")? == 0)
    })?;
    let growth = most.saturating_sub(before);
    println!(
        "{count} parked messages of 400 KB: {} MiB more than {} MiB",
        growth / MIB,
        before / MIB
    );
    let promised = PROMISED_BYTES + PARKED_BYTES;
    assert!(growth < promised, "grew by {} MiB, promised are {}", growth / MIB, promised / MIB);
    host.drain()?;
    let rows = "SELECT count(DISTINCT seq) FROM readings WHERE device_id = 'parked'";
    assert_eq!(scene.database.number(rows)?, count as i64);
    Ok(())
}
