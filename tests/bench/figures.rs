//! What is measured, and the table of it.

use std::fmt;
use std::time::Duration;

use crate::turn::Case;
use crate::way::Way;

/// The figures of one run. A program beside may not tell all.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Messages a second.
    pub per_second: f64,
    /// CPU time of the host, microseconds a message.
    pub host_us: Option<f64>,
    /// The same of all of Postgres.
    pub postgres_us: Option<f64>,
    /// The same of the broker.
    pub broker_us: Option<f64>,
    /// Peak of the host's resident memory, in megabytes.
    pub memory_mb: Option<f64>,
    /// From the end of preparations to the first commit, in milliseconds.
    pub start_ms: Option<f64>,
    /// Share of the machine that others used.
    pub foreign_percent: Option<f64>,
    /// Not in this table.
    pub totals: Option<Totals>,
}

/// What one run did in all.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// Messages.
    pub messages: u64,
    /// Commits of the host; 0 where there is none.
    pub commits: u64,
    /// The time all that took.
    pub time: Duration,
    /// Written to the WAL.
    pub wal_bytes: u64,
}

const COLUMNS: [&str; 7] =
    ["msg/s", "host us", "Postgres us", "broker us", "RSS MB", "start ms", "foreign %"];

impl Figures {
    fn columns(&self) -> [Option<f64>; 7] {
        [
            Some(self.per_second),
            self.host_us,
            self.postgres_us,
            self.broker_us,
            self.memory_mb,
            self.start_ms,
            self.foreign_percent,
        ]
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (column, (name, value)) in COLUMNS.iter().zip(self.columns()).enumerate() {
            let value = value.map_or("-".to_owned(), |value| shown(column, value));
            write!(formatter, "  {name} {value}")?;
        }
        Ok(())
    }
}

/// All runs of all rows.
pub struct Table {
    rows: Vec<(Case, Vec<Figures>)>,
}

impl Table {
    /// No figures yet.
    pub fn new(cases: &[Case]) -> Self {
        Self { rows: cases.iter().map(|case| (*case, Vec::new())).collect() }
    }

    /// Adds a run of row `index`.
    pub fn add(&mut self, index: usize, figures: Figures) {
        self.rows[index].1.push(figures);
    }

    /// The median of a column for the same messages as `case`, but another way.
    fn median(&self, case: &Case, way: Way, column: usize) -> Option<f64> {
        let wanted = Case { way, ..*case };
        let (_, runs) = self.rows.iter().find(|(case, _)| *case == wanted)?;
        Some(spread(runs, column)?[1])
    }

    /// One way in shares of another, where both were measured.
    fn ratios(&self, case: &Case) -> Option<Vec<String>> {
        let others: &[Way] = match case.way {
            Way::Native => &[Way::Beside],
            Way::Road => &[Way::Native, Way::Beside],
            Way::Upsert | Way::Refused | Way::Raw => &[Way::Road],
            _ => return None,
        };
        let lines = others.iter().filter_map(|&other| {
            let ratio = |column| {
                Some(self.median(case, case.way, column)? / self.median(case, other, column)?)
            };
            let (speed, cpu) = (ratio(0)?, ratio(1));
            let cpu = cpu.map_or(String::new(), |cpu| format!(", {cpu:.2} of its host's CPU"));
            Some(format!("{} / {}: {speed:.2} of its speed{cpu}", case.name(), other.name()))
        });
        Some(lines.collect())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\n{:<14}", "")?;
        for name in COLUMNS {
            write!(formatter, "{name:>26}")?;
        }
        writeln!(formatter)?;
        for (case, runs) in &self.rows {
            write!(formatter, "{:<14}", case.name())?;
            for column in 0..COLUMNS.len() {
                let values: Option<_> = runs.iter().map(|run| run.columns()[column]).collect();
                let cell = cell(values.unwrap_or_default(), |value| shown(column, value));
                write!(formatter, "{cell:>26}")?;
            }
            writeln!(formatter)?;
        }
        writeln!(formatter)?;
        for line in self.rows.iter().filter_map(|(case, _)| self.ratios(case)).flatten() {
            writeln!(formatter, "{line}")?;
        }
        Ok(())
    }
}

/// Least, median and most of a column; nothing when a run lacks it.
fn spread(runs: &[Figures], column: usize) -> Option<[f64; 3]> {
    of_values(runs.iter().map(|run| run.columns()[column]).collect::<Option<_>>()?)
}

/// Least, median and most.
fn of_values(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    Some([*values.first()?, values[values.len() / 2], *values.last()?])
}

/// `median (least-most)`, or the one value.
pub fn cell(values: Vec<f64>, show: impl Fn(f64) -> String) -> String {
    let single = values.len() == 1;
    match of_values(values) {
        None => "-".to_owned(),
        Some([_, median, _]) if single => show(median),
        Some([least, median, most]) => {
            format!("{} ({}-{})", show(median), show(least), show(most))
        }
    }
}

fn shown(column: usize, value: f64) -> String {
    match column {
        0 => sluice::progress::count(value as u64),
        1..=3 => format!("{value:.3}"),
        _ => format!("{value:.0}"),
    }
}
