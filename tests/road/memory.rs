//! Memory is bounded by configuration, not by the patience of Postgres.

use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_tests::checker::Readings;
use sluice_tests::counts::scaled;
use sluice_tests::load::{Load, Mix};
use sluice_tests::proxy::Proxy;
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

const MIB: u64 = 1 << 20;

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
