//! The road, measured: what it moves a second and what that costs, beside what its parts could do alone.
//!
//! `cargo bench -p sluice-tests --bench road -- --help` lists what can be asked for. A broker and a Postgres of
//! its own are started, topics filled, and every row of the table measured in turn, each time in a new process.

mod again;
mod arguments;
mod beside;
mod clocks;
mod figures;
mod inside;
mod load;
mod priority;
mod scene;
mod servers;
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
    let mut scene = Scene::open(arguments)?;
    let cases = arguments.cases();
    for load in arguments.loads() {
        scene.prepare(&load)?;
    }
    let mut table = Table::new(&cases);
    for run in 0..arguments.runs {
        for turn in 0..cases.len() {
            // Another one is first in each round, so that whatever disturbs the machine hits all alike.
            let index = (turn + run) % cases.len();
            let figures = scene.measure(&cases[index])?;
            eprintln!("{:<16} {figures}", cases[index].name());
            table.add(index, figures);
        }
    }
    println!("{table}");
    Ok(())
}
