//! Random changes of a table while rows are written to it: whatever is done to its definition, and whenever, every
//! message becomes its row with its values, and none is dead-lettered.
//!
//! A run prints its seed when it fails; `SLUICE_SEED` makes the same changes again.

use anyhow::{Context, Result};
use sluice_tests::checker::{ByValue, Keep};
use sluice_tests::counts::long;
use sluice_tests::host::Pipeline;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::scene::Scene;
use sluice_tests::wait::SOON;

use driver::Driver;
use table::{Form, Table};

mod blocking;
mod driver;
mod harmless;
mod table;

const PARTITIONS: i32 = 3;

/// Messages a second: many small batches, and tables that are soon rewritten.
const RATE: u32 = 300;

/// Devices of each partition.
const DEVICES: u64 = 40;

/// Each column's type is changed among those that take all of its values exactly.
fn make(_: Mix, partition: i32, number: u64) -> Made {
    let device_id = format!("5d1b0c4e-8f57-4a7e-{partition:04x}-{:012x}", number % DEVICES);
    let measured_ms = 1_790_000_000_000 + i64::try_from(number).unwrap_or(0) * 7;
    let measured_at = jiff::Timestamp::from_millisecond(measured_ms).unwrap_or_default();
    let status = ["ok", "degraded", "offline"][(number % 3) as usize];
    let halves = |range: u64| (number % range) as f64 / 2.0;
    let mut reading = serde_json::json!({
        "device_id": device_id,
        "measured_at": format!("{measured_at:.3}"),
        "seq": number % 30_000,
        "power_w": (number % 20_000) as f64 - 10_000.0,
        "voltage_v": 100.0 + halves(300),
        "energy_wh": (number * 3) % 30_000,
        "temperature_c": halves(160) - 10.0,
        "status": status,
    });
    if !number.is_multiple_of(5) {
        reading["current_a"] = halves(64).into();
    }
    Made { timestamp_ms: measured_ms, ..Made::raw("row", &device_id, &reading.to_string()) }
}

/// How many changes are made, and after how many there is one that blocks the pipeline for a moment. The pauses between
/// its attempts grow until it has been well for a minute.
fn changes() -> (usize, usize) {
    if long() { (5000, 500) } else { (200, 50) }
}

/// One run: `mode` on a table of `form`.
fn run(name: &str, mode: &str, form: Form, keep: Keep) -> Result<()> {
    let seed = match std::env::var("SLUICE_SEED") {
        Ok(seed) => seed.parse().context("SLUICE_SEED is a number")?,
        Err(_) => fastrand::u64(..1_000_000),
    };
    let scene = Scene::new(name, PARTITIONS, "")?;
    run_with(&scene, mode, form, keep, seed).with_context(|| {
        format!("SLUICE_SEED={seed}, changes in {}", scene.folder.join(driver::LOG).display())
    })
}

fn run_with(scene: &Scene, mode: &str, form: Form, keep: Keep, seed: u64) -> Result<()> {
    let table = Table::new(form, &scene.name);
    let mut driver = Driver::begin(scene, table, seed)?;
    let host = scene.start("host", &pipeline(scene, mode)?)?;
    host.wait_for("partitions claimed", SOON)?;
    let stream = Load::new(&scene.topic, Mix::default())?.making(make).stream(RATE);
    let (count, every) = changes();
    let result = driver.make_changes(count, every);
    result.with_context(|| host.tail())?;
    driver.bring_back()?;
    stream.stop()?;
    scene.wait_until_drained_within(2 * SOON).with_context(|| host.tail())?;
    host.drain()?;
    driver.gather_rows()?;
    let in_order = keep == Keep::All;
    scene.check(&ByValue { table: driver::GATHERED, line: "line", keep, in_order })
}

/// As a role that does not own the table: row-level security is for such roles.
fn pipeline(scene: &Scene, mode: &str) -> Result<Pipeline> {
    let mut pipeline = scene.pipeline()?;
    let as_role = format!("postgres://{}:", scene.name);
    pipeline.url = pipeline.url.replace("postgres://postgres:", &as_role);
    pipeline.sink_lines.push_str(&format!("mode = \"{mode}\"\n"));
    Ok(pipeline)
}

#[test]
fn appended_rows_keep_their_values_whatever_is_done_to_the_table() -> Result<()> {
    run("ddl_append", "append", Form::Plain, Keep::All)
}

#[test]
fn appended_rows_with_a_text_that_is_cast_keep_their_values_whatever_is_done_to_the_table()
-> Result<()> {
    run("ddl_cast", "append", Form::Cast, Keep::All)
}

#[test]
fn rows_keep_their_values_whatever_is_done_to_a_partitioned_table() -> Result<()> {
    run("ddl_partitioned", "append", Form::Partitioned, Keep::All)
}

#[test]
fn the_last_row_of_a_key_keeps_its_values_whatever_is_done_to_the_table() -> Result<()> {
    run("ddl_upsert", "upsert", Form::Keyed, Keep::Last)
}

#[test]
fn the_first_row_of_a_key_keeps_its_values_whatever_is_done_to_the_table() -> Result<()> {
    run("ddl_ignore", "ignore", Form::Keyed, Keep::First)
}
