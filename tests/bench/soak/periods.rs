//! What a soak looked like, period by period, and how it ended compared with how it began.

use std::fmt;
use std::time::{Duration, Instant};

use sluice::pipeline::counters::Snapshot;

/// All clocks and counters at one moment.
pub struct Reading {
    pub at: Instant,
    pub counts: Snapshot,
    /// Messages that the producer has sent.
    pub sent: u64,
    /// Host, Postgres, broker, producer.
    pub cpu: [Duration; 4],
    pub machine: Duration,
    pub postgres_bytes: u64,
    pub broker_bytes: u64,
    pub disk: u64,
    /// From the partition that is behind to the one that is ahead. All get equally many messages.
    pub spread: u64,
}

/// What is looked at all the time: the least and the most of it.
#[derive(Clone, Copy, Default)]
pub struct Watched {
    lag: Option<(u64, u64)>,
    host_bytes: Option<(u64, u64)>,
    /// The longest time without a commit.
    pause: Duration,
}

impl Watched {
    /// Takes in one look.
    pub fn look(&mut self, lag: u64, host_bytes: u64, pause: Duration) {
        let (lag, host_bytes) = (Some((lag, lag)), Some((host_bytes, host_bytes)));
        self.add(Self { lag, host_bytes, pause });
    }

    fn add(&mut self, other: Self) {
        let widen = |one: Option<(u64, u64)>, other: Option<(u64, u64)>| match (one, other) {
            (Some((least, most)), Some((less, more))) => Some((least.min(less), most.max(more))),
            (one, other) => one.or(other),
        };
        self.lag = widen(self.lag, other.lag);
        self.host_bytes = widen(self.host_bytes, other.host_bytes);
        self.pause = self.pause.max(other.pause);
    }
}

/// What happened between two readings.
#[derive(Clone, Default)]
pub struct Period {
    time: Duration,
    messages: u64,
    sent: u64,
    cpu: [Duration; 4],
    machine: Duration,
    watched: Watched,
    /// At the end.
    postgres_bytes: u64,
    broker_bytes: u64,
    disk: u64,
    swaps: u64,
    spread: u64,
}

const COLUMNS: [(&str, usize); 15] = [
    ("msg/s", 10),
    ("host us", 9),
    ("Postgres us", 13),
    ("broker us", 11),
    ("feeder us", 11),
    ("foreign %", 11),
    ("host MB", 9),
    ("(most)", 8),
    ("Postgres MB", 13),
    ("broker MB", 11),
    ("disk MB", 9),
    ("swaps", 7),
    ("lag (1000)", 12),
    ("spread", 8),
    ("pause ms", 10),
];
/// Those of which a ratio says something.
const RATIOS: usize = 5;

impl Period {
    /// What happened from `before` to `now`.
    pub fn between(before: &Reading, now: &Reading, watched: Watched) -> Self {
        Self {
            time: now.at - before.at,
            messages: now.counts.messages - before.counts.messages,
            sent: now.sent - before.sent,
            cpu: std::array::from_fn(|who| now.cpu[who].saturating_sub(before.cpu[who])),
            machine: now.machine.saturating_sub(before.machine),
            watched,
            postgres_bytes: now.postgres_bytes,
            broker_bytes: now.broker_bytes,
            disk: now.disk,
            swaps: now.counts.swaps,
            spread: now.spread,
        }
    }

    /// Several in a row as one.
    fn sum(periods: &[Self]) -> Self {
        periods.iter().fold(Self::default(), |mut sum, period| {
            sum.watched.add(period.watched);
            Self {
                time: sum.time + period.time,
                messages: sum.messages + period.messages,
                sent: sum.sent + period.sent,
                cpu: std::array::from_fn(|who| sum.cpu[who] + period.cpu[who]),
                machine: sum.machine + period.machine,
                watched: sum.watched,
                ..period.clone()
            }
        })
    }

    /// Names of the columns.
    pub fn heading() -> String {
        let names = COLUMNS.iter().map(|(name, width)| format!("{name:>width$}"));
        format!("{:>8}{}", "minute", names.collect::<String>())
    }

    /// The columns, behind the time that has passed.
    pub fn line(&self, since: Duration) -> String {
        format!("{:>8.1}{}", since.as_secs_f64() / 60.0, self.columns())
    }

    fn columns(&self) -> String {
        let mega = |bytes: u64| format!("{}", bytes / 1_000_000);
        let (least, most) = self.watched.host_bytes.unwrap_or_default();
        let (lag_least, lag_most) = self.watched.lag.unwrap_or_default();
        let [speed, host, postgres, broker, feeder] = self.rates();
        let texts = [
            sluice::progress::count(speed as u64),
            format!("{host:.3}"),
            format!("{postgres:.3}"),
            format!("{broker:.3}"),
            format!("{feeder:.3}"),
            format!("{:.1}", self.foreign_percent()),
            mega(least),
            mega(most),
            mega(self.postgres_bytes),
            mega(self.broker_bytes),
            mega(self.disk),
            self.swaps.to_string(),
            format!("{}-{}", lag_least / 1000, lag_most / 1000),
            format!("{}", self.spread / 1000),
            self.watched.pause.as_millis().to_string(),
        ];
        let cells = COLUMNS.iter().zip(texts).map(|((_, width), text)| format!("{text:>width$}"));
        cells.collect()
    }

    /// Messages a second, and what one costs each of the four.
    fn rates(&self) -> [f64; RATIOS] {
        let each = |who: usize, messages: u64| self.cpu[who].as_secs_f64() * 1e6 / messages as f64;
        let messages = self.messages;
        let speed = messages as f64 / self.time.as_secs_f64();
        [speed, each(0, messages), each(1, messages), each(2, messages), each(3, self.sent)]
    }

    fn foreign_percent(&self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let foreign = self.machine.saturating_sub(self.cpu.iter().sum());
        foreign.as_secs_f64() * 100.0 / (self.time.as_secs_f64() * cores as f64)
    }
}

/// The beginning against the end.
pub struct Report {
    all: Period,
    first: Period,
    last: Period,
}

impl Report {
    /// Compares the first with the last of so many parts.
    pub fn new(periods: &[Period], parts: usize) -> Self {
        let part = (periods.len() / parts).max(1).min(periods.len());
        Self {
            all: Period::sum(periods),
            first: Period::sum(&periods[..part]),
            last: Period::sum(&periods[periods.len() - part..]),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", Period::heading())?;
        for (name, period) in [("all", &self.all), ("first", &self.first), ("last", &self.last)] {
            let minutes = period.time.as_secs_f64() / 60.0;
            writeln!(formatter, "{:>8}{}", format!("{minutes:.0} {name}"), period.columns())?;
        }
        write!(formatter, "{:>8}", "ratio")?;
        let ratios = self.last.rates().into_iter().zip(self.first.rates());
        for ((_, width), (last, first)) in COLUMNS.iter().zip(ratios) {
            write!(formatter, "{:>width$.3}", last / first)?;
        }
        let (least, most) = self.all.watched.host_bytes.unwrap_or_default();
        let (least, most) = (least as f64 / 1e6, most as f64 / 1e6);
        writeln!(formatter, "\nthe host's memory: {least:.1} to {most:.1} MB")
    }
}
