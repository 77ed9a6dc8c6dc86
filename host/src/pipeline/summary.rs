//! What a pipeline says of itself: a line a minute, and one when it has ended.

use std::time::{Duration, Instant};

use super::counters::Snapshot;
use crate::fault::Fault;
use crate::source::claims::BlockedPartition;

/// How a pipeline is doing, when it is told.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// Name of the pipeline.
    pub pipeline: &'a str,
    /// Why the whole pipeline is blocked, if it is, and since when.
    pub blocked: Option<(&'static str, Instant)>,
    /// Partitions that are blocked.
    pub partitions: Vec<BlockedPartition>,
    /// Messages behind the ends of its partitions, if that is known.
    pub lag: Option<i64>,
    /// What it had done when it was told last, and has done now.
    pub before: Snapshot,
    /// The same now.
    pub counters: Snapshot,
    /// The time in between.
    pub period: Duration,
    /// Now.
    pub now: Instant,
}

impl Report<'_> {
    /// One word, for people who look through many such lines.
    fn state(&self) -> &'static str {
        let is_stalled =
            self.counters.batches == self.before.batches && self.lag.is_some_and(|lag| lag > 0);
        match self {
            Self { blocked: Some(_), .. } => "blocked",
            Self { partitions, .. } if !partitions.is_empty() => "degraded",
            Self { counters, .. } if counters.paused_lanes > 0 => "paused",
            _ if is_stalled => "stalled",
            _ => "running",
        }
    }

    /// What is blocked: `SL-K010 3,5 for 90 s`, one of these for each code.
    fn details(&self) -> Option<String> {
        let seconds = |since: Instant| self.now.saturating_duration_since(since).as_secs();
        if let Some((code, since)) = self.blocked {
            return Some(format!("{code} for {} s", seconds(since)));
        }
        let mut codes: Vec<&str> = self.partitions.iter().map(|blocked| blocked.code).collect();
        codes.sort_unstable();
        codes.dedup();
        let texts = codes.into_iter().map(|code| {
            let of_code = || self.partitions.iter().filter(|blocked| blocked.code == code);
            let numbers: Vec<String> =
                of_code().map(|blocked| blocked.partition.to_string()).collect();
            let longest = of_code().map(|blocked| seconds(blocked.since)).max().unwrap_or(0);
            format!("{code} partitions {} for {longest} s", numbers.join(","))
        });
        Some(texts.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }

    /// Writes the line.
    pub fn log(&self) {
        let Self { pipeline, counters, before, period, lag, .. } = self;
        let state = self.state();
        let messages = counters.messages - before.messages;
        let messages_per_second = messages / period.as_secs().max(1);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    pipeline,
                    state,
                    blocked = self.details(),
                    lag,
                    messages_per_second,
                    messages = counters.messages,
                    rows = counters.rows,
                    dropped = counters.dropped,
                    rejected = counters.rejected,
                    parked = counters.parked,
                    retried = counters.retried,
                    given_up = counters.given_up,
                    fenced = counters.fenced,
                    paused_lanes = counters.paused_lanes,
                    relayed = counters.relayed,
                    relay_waiting = counters.relay_waiting,
                    relay_oldest_seconds = counters.relay_oldest_seconds,
                    latency_p50_ms = counters.latency_p50_ms,
                    latency_p99_ms = counters.latency_p99_ms,
                    "progress"
                )
            };
        }
        if state == "running" { line!(info) } else { line!(warn) }
    }
}

/// The last lines of a pipeline.
pub(super) fn log_end(name: &str, counters: &Snapshot, fault: Option<&Fault>) {
    if let Some(fault) = fault {
        tracing::error!(pipeline = name, code = fault.code, "pipeline stopped: {}", fault.message);
    }
    tracing::info!(
        pipeline = name,
        messages = counters.messages,
        rows = counters.rows,
        dropped = counters.dropped,
        filtered = counters.filtered,
        rejected = counters.rejected,
        parked = counters.parked,
        retried = counters.retried,
        given_up = counters.given_up,
        batches = counters.batches,
        fenced = counters.fenced,
        swaps = counters.swaps,
        relayed = counters.relayed,
        relay_refused = counters.relay_refused,
        relay_waiting = counters.relay_waiting,
        relay_oldest_seconds = counters.relay_oldest_seconds,
        "summary"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(now: Instant) -> Report<'static> {
        Report {
            pipeline: "energy",
            blocked: None,
            partitions: Vec::new(),
            lag: Some(0),
            before: Snapshot::default(),
            counters: Snapshot::default(),
            period: Duration::from_secs(60),
            now,
        }
    }

    fn check(report: &Report<'_>, state: &str, details: Option<&str>) {
        assert_eq!((report.state(), report.details().as_deref()), (state, details), "{report:?}");
    }

    #[test]
    fn a_line_says_what_is_blocked_for_how_long_and_why() {
        let since = Instant::now();
        let now = since + Duration::from_secs(90);
        let blocked = |partition, code, since| BlockedPartition { partition, code, since };
        check(&report(now), "running", None);
        let behind = Report { lag: Some(5), ..report(now) };
        check(&behind, "stalled", None);
        let counters = Snapshot { batches: 1, ..Snapshot::default() };
        check(&Report { lag: Some(5), counters, ..report(now) }, "running", None);
        let counters = Snapshot { paused_lanes: 1, ..Snapshot::default() };
        check(&Report { counters, ..report(now) }, "paused", None);
        check(
            &Report { blocked: Some(("SL-P007", since)), ..report(now) },
            "blocked",
            Some("SL-P007 for 90 s"),
        );
        let partitions = vec![
            blocked(1, "SL-K017", since),
            blocked(3, "SL-K010", now),
            blocked(5, "SL-K010", since + Duration::from_secs(60)),
        ];
        check(
            &Report { partitions, ..report(now) },
            "degraded",
            Some("SL-K010 partitions 3,5 for 30 s; SL-K017 partitions 1 for 90 s"),
        );
    }
}
