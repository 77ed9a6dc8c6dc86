//! The road, measured: what it moves a second and what that costs, beside what its parts could do alone.
//!
//! ```text
//! cargo bench -p sluice-tests --bench road                              all rows, then the latency: some minutes
//! cargo bench -p sluice-tests --bench road -- --only road,short --keep  one row; the next call takes seconds
//! cargo bench -p sluice-tests --bench road -- --latency                 from the send of a message to its row
//! cargo bench -p sluice-tests --bench road -- --only pace               costs and latency by rate and pace, seven minutes
//! cargo bench -p sluice-tests --bench road -- --matrix                  cost of a message, by the shape of the work
//! cargo bench -p sluice-tests --bench road -- --soak 60                 an hour at full speed, with the books checked
//! cargo bench -p sluice-tests --bench road -- --help                    all else that can be asked for
//! ```
//!
//! A broker and a Postgres of its own are started and topics filled: 1,000,000 short readings and 300,000 long ones
//! of 2,000 bytes, 1 % of them bad, over 12 partitions. With `--keep` all of that stays for the next call with
//! `--keep`; a call without it ends them. Needs Linux; what a quiet machine is worth shows the column `foreign`.
//!
//! Each row is measured in a new process, in turns, and after each turn rows, dead letters and positions in Postgres
//! are compared with what was sent. The rows:
//!
//! - `drain`: librdkafka alone reads the topic into batches that are thrown away. No host can read faster.
//! - `copy`: Postgres alone is sent the same rows, encoded before. No host can write faster.
//! - `native`: the host, with the plugin's code linked in. What the sandbox costs is its distance to the next.
//! - `road`: the host as it is: Kafka, sandboxed plugin, COPY and positions in one transaction.
//! - `upsert`: the same into a table with a primary key, `mode = "upsert"`.
//! - `raw`: the same with a plugin that gets payloads and decodes them itself. What the host's decoder is worth.
//! - `beside`: another program that does the same work, named with `--beside`.
//!
//! The columns: messages a second, from the first commit to the last; CPU time of the host, of all of Postgres and of
//! the broker, each in microseconds a message; peak of the host's memory; time from the end of its preparations to
//! its first commit; the share of the machine that was used by others in the meantime. Cells are `median (least-most)`.

mod again;
mod apart;
mod arguments;
mod beside;
mod clocks;
mod figures;
mod inside;
mod latency;
mod load;
mod matrix;
mod pace;
mod priority;
mod scene;
mod servers;
mod settings;
mod soak;
mod steady;
mod turn;
mod way;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use arguments::{Arguments, Pick};
use figures::Table;
use scene::Scene;

fn main() -> ExitCode {
    if sluice::plugin::compile::is_asked_for() {
        return sluice::plugin::compile::child();
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(job) = &arguments.inside {
        return inside::run(job);
    }
    again::start_again()?;
    if let Some(minutes) = arguments.soak {
        return soak::run(arguments, minutes);
    }
    let mut scene = Scene::open(arguments)?;
    if arguments.latency {
        println!("{}", latency::measure(&scene, arguments, arguments.runs())?);
        return Ok(());
    }
    if arguments.matrix {
        println!("{}", matrix::measure(&mut scene, arguments)?);
        return Ok(());
    }
    if arguments.only.contains(&Pick::Pace) {
        println!("{}", pace::measure(&mut scene, arguments)?);
        return Ok(());
    }
    println!("{}", compare(&mut scene, arguments)?);
    if arguments.only.is_empty() {
        println!("{}", latency::measure(&scene, arguments, 1)?);
    }
    Ok(())
}

/// Measures all rows of the table, round by round.
fn compare(scene: &mut Scene<'_>, arguments: &Arguments) -> Result<Table> {
    let cases = arguments.cases();
    for load in arguments.loads() {
        scene.prepare(&load)?;
    }
    let mut table = Table::new(&cases);
    for round in 0..arguments.runs() {
        // Another order in each round, so that what one row leaves behind, and what disturbs the machine, hits
        // all alike; the same orders in each call.
        let mut order: Vec<usize> = (0..cases.len()).collect();
        fastrand::Rng::with_seed(round as u64).shuffle(&mut order);
        for index in order {
            let figures = scene.measure(&cases[index])?;
            eprintln!("{:<16} {figures}", cases[index].name());
            table.add(index, figures);
        }
    }
    Ok(table)
}
