//! How long does a message take to become a row, when messages come as evenly as from 500,000 devices that send
//! one a minute each? A producer that is started for it sends them; the host is as in `road`.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::arguments::Arguments;
use crate::figures::cell;
use crate::scene::Scene;
use crate::steady::{self, Costs, DEVICES, Steady};
use crate::way::Way;

const COUNTED: Duration = Duration::from_secs(15);

const FIGURES: [&str; 13] = [
    "visible after ms, p50",
    "p99",
    "p99.9",
    "max",
    "acknowledged after ms, p50",
    "p99",
    "messages a commit",
    "host, % of a core",
    "Postgres, % of a core",
    "broker, % of a core",
    "producer, %",
    "foreign, % of the machine",
    "sent late by ms, max",
];

/// All runs.
pub struct Latencies {
    per_second: u64,
    runs: Vec<[f64; FIGURES.len()]>,
}

/// Measures so many times.
pub fn measure(scene: &Scene<'_>, arguments: &Arguments, runs: usize) -> Result<Latencies> {
    let per_second = arguments.per_second.unwrap_or(DEVICES);
    let steady = Steady { per_second, pace: None, way: Way::Road, hosts: 1, counted: COUNTED };
    let mut latencies = Latencies { per_second, runs: Vec::new() };
    for _ in 0..runs {
        let figures = figures(&steady::measure(scene, arguments, &steady)?);
        eprintln!("latency  visible p50 {:.1} ms  p99 {:.1} ms", figures[0], figures[1]);
        latencies.runs.push(figures);
    }
    Ok(latencies)
}

fn figures(costs: &Costs) -> [f64; FIGURES.len()] {
    let ([p50, p99, p999, max], [acknowledged_p50, acknowledged_p99]) =
        (costs.visible_ms, costs.acknowledged_ms);
    [
        p50,
        p99,
        p999,
        max,
        acknowledged_p50,
        acknowledged_p99,
        costs.messages_a_commit,
        costs.host_percent,
        costs.postgres_percent,
        costs.broker_percent,
        costs.producer_percent,
        costs.foreign_percent,
        costs.late_ms,
    ]
}

impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = sluice::progress::count(self.per_second);
        writeln!(formatter, "\n{per_second} short readings a second, sent evenly:")?;
        for (index, name) in FIGURES.iter().enumerate() {
            let values = self.runs.iter().map(|figures| figures[index]).collect();
            let cell = cell(values, |value| format!("{value:.1}"));
            writeln!(formatter, "{name:>28} {cell:>24}")?;
        }
        Ok(())
    }
}
