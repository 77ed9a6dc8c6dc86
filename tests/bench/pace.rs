//! What messages cost at the rates that Sluice is used for, and how soon they are visible, by the pace of commits:
//! one table, in one sitting. What each figure is, [`steady`](crate::steady) says.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sluice::progress::count;
use sluice::simulate::Shape;

use crate::arguments::Arguments;
use crate::figures::{Figures, cell};
use crate::load::Load;
use crate::scene::Scene;
use crate::steady::{Costs, DEVICES, Steady, measure as measure_steady};
use crate::turn::Case;
use crate::way::Way;

const COUNTED: Duration = Duration::from_secs(10);
/// The last is that of 500,000 devices which send one message a minute, and six times as many.
const RATES: [u64; 5] = [10, 100, 1_000, DEVICES, 50_000];
const PACES: [Option<&str>; 3] = [None, Some("0ms"), Some("1s")];
/// Unless asked for otherwise: what a host at full speed has to do for a few seconds.
const BACKLOG: u64 = 3_000_000;

const COLUMNS: [&str; 13] = [
    "msg/s",
    "host %",
    "Postgres %",
    "broker %",
    "commits/s",
    "msg a commit",
    "WAL B a msg",
    "p50 ms",
    "p99 ms",
    "flush ms",
    "threads",
    "connections",
    "foreign %",
];

/// A row of the table.
enum Point {
    /// A rate.
    Steady(Steady<'static>),
    /// A backlog that is drained as fast as the host can.
    Backlog(Case),
}

/// All rows, and what was measured for each: a figure for each column, if it has one.
pub struct Paces {
    rows: Vec<(Point, Vec<[Option<f64>; COLUMNS.len()]>)>,
}

/// Measures all points, as often as `arguments` say, and once if they say nothing.
pub fn measure(scene: &mut Scene<'_>, arguments: &Arguments) -> Result<Paces> {
    let mut paces = Paces::of(arguments);
    // The broker's code is compiled while it runs: whoever comes first would pay for it.
    for (point, _) in &paces.rows {
        if let Point::Backlog(case) = point {
            scene.fill(&case.load)?;
        }
    }
    measure_steady(scene, arguments, &steady(DEVICES, None))?;
    for _ in 0..arguments.runs.unwrap_or(1) {
        for (point, runs) in &mut paces.rows {
            let figures = match point {
                Point::Steady(steady) => {
                    of_steady(steady, &measure_steady(scene, arguments, steady)?)
                }
                Point::Backlog(case) => of_backlog(&scene.measure(case)?)?,
            };
            runs.push(figures);
            eprintln!("{}", line(point, std::slice::from_ref(&figures)));
        }
    }
    Ok(paces)
}

impl Paces {
    /// The points that `arguments` leave, which may name a rate and a pace.
    fn of(arguments: &Arguments) -> Self {
        let wanted = |pace: Option<&str>| match (arguments.pace.as_deref(), pace) {
            (None, _) => true,
            (Some(wanted), None) => wanted == "100ms",
            (Some(wanted), Some(pace)) => wanted == pace,
        };
        let mut points = Vec::new();
        for pace in PACES.into_iter().filter(|pace| wanted(*pace)) {
            let rate = |rate: &u64| arguments.per_second.is_none_or(|wanted| wanted == *rate);
            let rates = RATES.into_iter().filter(rate);
            points.extend(rates.map(|rate| Point::Steady(steady(rate, pace))));
            if arguments.per_second.is_none() {
                points.push(Point::Backlog(backlog(arguments, pace)));
            }
            if pace.is_none() && arguments.per_second.is_none_or(|wanted| wanted == DEVICES) {
                let base = steady(DEVICES, pace);
                let others = [
                    Steady { way: Way::Upsert, ..base },
                    Steady { hosts: 2, ..base },
                    Steady { hosts: 4, ..base },
                ];
                points.extend(others.map(Point::Steady));
            }
        }
        Self { rows: points.into_iter().map(|point| (point, Vec::new())).collect() }
    }
}

fn steady(per_second: u64, pace: Option<&'static str>) -> Steady<'static> {
    Steady { per_second, pace, way: Way::Road, hosts: 1, counted: COUNTED }
}

fn backlog(arguments: &Arguments, pace: Option<&'static str>) -> Case {
    let load = Load {
        shape: Shape::Short,
        messages: arguments.messages.unwrap_or(BACKLOG),
        partitions: arguments.partitions,
        bad_per_mille: arguments.bad_per_mille,
    };
    let Arguments { lanes, batch, .. } = *arguments;
    Case { way: Way::Road, load, lanes, batch, from_start: false, pace }
}

impl Point {
    fn name(&self) -> String {
        let pace = match self {
            Self::Steady(steady) => steady.pace,
            Self::Backlog(case) => case.pace,
        };
        let pace = pace.unwrap_or("default");
        match self {
            Self::Backlog(_) => format!("{pace}, full speed"),
            Self::Steady(Steady { per_second, way, hosts, .. }) => {
                let way = if *way == Way::Upsert { ", upsert" } else { "" };
                let hosts = if *hosts > 1 { format!(", {hosts} hosts") } else { String::new() };
                format!("{pace}, {}/s{way}{hosts}", count(*per_second))
            }
        }
    }
}

fn of_steady(steady: &Steady<'_>, costs: &Costs) -> [Option<f64>; COLUMNS.len()] {
    let [p50, p99, ..] = costs.visible_ms;
    [
        steady.per_second as f64,
        costs.host_percent,
        costs.postgres_percent,
        costs.broker_percent,
        costs.commits_per_second,
        costs.messages_a_commit,
        costs.wal_bytes_a_message,
        p50,
        p99,
        costs.flush_ms,
        costs.threads,
        costs.connections,
        costs.foreign_percent,
    ]
    .map(Some)
}

/// Messages of a backlog have waited for as long as they were there: their latency says nothing.
fn of_backlog(figures: &Figures) -> Result<[Option<f64>; COLUMNS.len()]> {
    let totals = figures.totals.context("a host tells its totals")?;
    let percent = |us: Option<f64>| us.map(|us| us * figures.per_second / 1e6 * 100.0);
    let messages = totals.messages as f64;
    Ok([
        Some(figures.per_second),
        percent(figures.host_us),
        percent(figures.postgres_us),
        percent(figures.broker_us),
        Some(totals.commits as f64 / totals.time.as_secs_f64()),
        Some(messages / totals.commits as f64),
        Some(totals.wal_bytes as f64 / messages),
        None,
        None,
        None,
        None,
        None,
        figures.foreign_percent,
    ])
}

fn line(point: &Point, runs: &[[Option<f64>; COLUMNS.len()]]) -> String {
    let mut line = format!("{:<28}", point.name());
    for column in 0..COLUMNS.len() {
        let values: Option<Vec<f64>> = runs.iter().map(|figures| figures[column]).collect();
        let cell = cell(values.unwrap_or_default(), |value| shown(column, value));
        line += &format!("{cell:>width$}", width = width(runs.len()));
    }
    line
}

/// Of a cell: with several runs, least and most stand in it, too.
fn width(runs: usize) -> usize {
    if runs > 1 { 26 } else { 14 }
}

fn shown(column: usize, value: f64) -> String {
    match COLUMNS[column] {
        "msg/s" => count(value as u64),
        "msg a commit" | "WAL B a msg" | "threads" | "connections" => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

impl fmt::Display for Paces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = width(self.rows.first().map_or(1, |(_, runs)| runs.len()));
        write!(formatter, "\n{:<28}", "pace, rate")?;
        for name in COLUMNS {
            write!(formatter, "{name:>width$}")?;
        }
        writeln!(formatter)?;
        for (point, runs) in &self.rows {
            writeln!(formatter, "{}", line(point, runs))?;
        }
        Ok(())
    }
}
