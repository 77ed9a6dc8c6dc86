//! The road, measured: what it moves a second and what that costs, beside what its parts could do alone.
//!
//! `cargo bench -p sluice-tests --bench road -- --help` lists what can be asked for. A broker and a Postgres of
//! its own are started, topics filled, and every row of the table measured in turn, each time in a new process.

mod again;
mod apart;
mod arguments;
mod beside;
mod clocks;
mod figures;
mod inside;
mod latency;
mod load;
mod priority;
mod scene;
mod servers;
mod settings;
mod soak;
mod turn;
mod way;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use arguments::Arguments;
use figures::Table;
use scene::Scene;

fn main() -> ExitCode {
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
        println!("{}", latency::measure(&scene, arguments, arguments.runs)?);
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
    for round in 0..arguments.runs {
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
