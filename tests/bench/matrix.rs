//! Is the host's cost of a message the same whatever the shape of the work? Pairs of roads that differ in one thing
//! are measured side by side, and compared neighbour with neighbour: what disturbs the machine for longer than a
//! run hits both. What disturbs only ever adds CPU time, so that with some runs the leasts are worth comparing, too.
//!
//! CPU time counts from the end of the start-up to the last commit, and so do messages. From the first commit on, as
//! in the table, what lanes have read and made before it would come for free, and the more so the more lanes there
//! are and the larger their batches.

use std::fmt;

use anyhow::{Context as _, Result};
use sluice::simulate::Shape;

use crate::arguments::Arguments;
use crate::figures::cell;
use crate::load::Load;
use crate::scene::Scene;
use crate::turn::Case;
use crate::way::Way;

/// Unless asked for otherwise: so many that the start, which is the same for all, is little of it.
const MESSAGES: u64 = 2_000_000;

/// Two cases, and what was measured in each round: CPU time a message and messages a second.
struct Pair {
    name: &'static str,
    cases: [Case; 2],
    runs: Vec<[(f64, f64); 2]>,
}

/// All pairs.
pub struct Matrix {
    pairs: Vec<Pair>,
}

/// Measures all pairs, round by round.
pub fn measure(scene: &mut Scene<'_>, arguments: &Arguments) -> Result<Matrix> {
    let mut matrix = Matrix::of(arguments);
    for case in matrix.pairs.iter().flat_map(|pair| pair.cases) {
        scene.fill(&case.load)?;
    }
    for round in 0..arguments.runs() {
        for pair in &mut matrix.pairs {
            let mut figures = [(0.0, 0.0); 2];
            // Who comes second may find a warmer machine: each is second in every other round.
            for index in [round % 2, (round + 1) % 2] {
                let measured = scene.measure(&pair.cases[index])?;
                let cpu = measured.host_us.context("the host's CPU time is not known")?;
                figures[index] = (cpu, measured.per_second);
                let which = ["first", "second"][index];
                eprintln!("{:<32} {which:<7} {measured}", pair.name);
            }
            pair.runs.push(figures);
        }
    }
    Ok(matrix)
}

impl Matrix {
    fn of(arguments: &Arguments) -> Self {
        let load = Load {
            shape: Shape::Short,
            messages: arguments.messages.unwrap_or(MESSAGES),
            partitions: arguments.partitions,
            bad_per_mille: arguments.bad_per_mille,
        };
        let (lanes, batch) = (arguments.lanes, arguments.batch);
        let base = Case { way: Way::Road, load, lanes, batch, from_start: true, pace: None };
        let partitions = |partitions| Case { load: Load { partitions, ..load }, ..base };
        let bad = |bad_per_mille| Case { load: Load { bad_per_mille, ..load }, ..base };
        let lanes = |lanes| Case { lanes, ..base };
        let batch = |batch| Case { batch, ..base };
        let way = |way| Case { way, ..base };
        let pair = |name, cases| Pair { name, cases, runs: Vec::new() };
        Self {
            pairs: vec![
                pair("12 partitions, 120", [partitions(12), partitions(120)]),
                pair("1 lane, 4", [lanes(1), lanes(4)]),
                pair("none rejected, 1 %", [bad(0), bad(10)]),
                pair("batches of 50,000, 5,000", [batch(50_000), batch(5_000)]),
                pair("none refused, 1 %", [way(Way::Road), way(Way::Refused)]),
            ],
        }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heading = "host's CPU, us a message";
        write!(formatter, "\n{heading:<28}{:>22}{:>22}", "first", "second")?;
        writeln!(formatter, "{:>22}{:>16}{:>22}", "ratio", "of the leasts", "ratio of speeds")?;
        for Pair { name, runs, .. } in &self.pairs {
            let cpu = |index: usize| runs.iter().map(move |run| run[index].0);
            let us = |value: f64| format!("{value:.3}");
            write!(formatter, "{name:<28}")?;
            write!(
                formatter,
                "{:>22}{:>22}",
                cell(cpu(0).collect(), us),
                cell(cpu(1).collect(), us)
            )?;
            let ratio = |value: f64| format!("{value:.2}");
            let ratios = runs.iter().map(|[first, second]| second.0 / first.0).collect();
            let least = |index| cpu(index).fold(f64::MAX, f64::min);
            write!(formatter, "{:>22}{:>16.2}", cell(ratios, ratio), least(1) / least(0))?;
            let speeds = runs.iter().map(|[first, second]| second.1 / first.1).collect();
            writeln!(formatter, "{:>22}", cell(speeds, ratio))?;
        }
        Ok(())
    }
}
