//! What a pipeline has done so far: counts, and how long messages took to become visible.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::dropped::DroppedRows;
use crate::relay::Figures;

/// Counts of one pipeline on this host, since it started. They only ever grow, but for those that say `now`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages in committed batches.
    pub messages: AtomicU64,
    /// Rows committed, without those that triggers have dropped.
    pub rows: AtomicU64,
    /// Rows that triggers of their tables have dropped.
    pub dropped: DroppedRows,
    /// Messages of which the plugin kept nothing.
    pub filtered: AtomicU64,
    /// Messages that became dead letters.
    pub rejected: AtomicU64,
    /// Messages that are tried again later, or wait behind one that is.
    pub parked: AtomicU64,
    /// Parked messages that passed when they were tried again.
    pub retried: AtomicU64,
    /// Parked messages that became dead letters after their last attempt.
    pub given_up: AtomicU64,
    /// Committed batches.
    pub batches: AtomicU64,
    /// Batches whose write was refused because somebody else had claimed a partition.
    pub fenced: AtomicU64,
    /// Times a lane went on with another version of the plugin.
    pub swaps: AtomicU64,
    /// Lanes that are rate-limited now: their batch would make more dead letters than are allowed.
    pub paused_lanes: AtomicU64,
    /// The relay of dead letters to a topic.
    pub relay: Arc<Figures>,
    /// From a message's timestamp to the moment its commit was known.
    pub latency: Latency,
}

impl Counters {
    /// Adds `amount`, unordered with other counters.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes `amount` away from one that counts what is `now`.
    pub fn subtract(counter: &AtomicU64, amount: u64) {
        counter.fetch_sub(amount, Ordering::Relaxed);
    }

    /// The counts at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            messages: read(&self.messages),
            rows: read(&self.rows),
            dropped: self.dropped.rows(),
            filtered: read(&self.filtered),
            rejected: read(&self.rejected),
            parked: read(&self.parked),
            retried: read(&self.retried),
            given_up: read(&self.given_up),
            batches: read(&self.batches),
            fenced: read(&self.fenced),
            swaps: read(&self.swaps),
            paused_lanes: read(&self.paused_lanes),
            relayed: read(&self.relay.relayed),
            relay_refused: read(&self.relay.refused),
            relay_waiting: read(&self.relay.waiting),
            relay_oldest_seconds: read(&self.relay.oldest_seconds),
            latency_p50_ms: self.latency.quantile_ms(0.50),
            latency_p99_ms: self.latency.quantile_ms(0.99),
        }
    }
}

/// The counts of a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Messages in committed batches.
    pub messages: u64,
    /// Rows committed, without those that triggers have dropped.
    pub rows: u64,
    /// Rows that triggers of their tables have dropped: those of the batches, and of messages that were tried again.
    pub dropped: u64,
    /// Messages of which the plugin kept nothing.
    pub filtered: u64,
    /// Messages that became dead letters.
    pub rejected: u64,
    /// Messages that are tried again later, or wait behind one that is.
    pub parked: u64,
    /// Parked messages that passed when they were tried again.
    pub retried: u64,
    /// Parked messages that became dead letters after their last attempt.
    pub given_up: u64,
    /// Committed batches.
    pub batches: u64,
    /// Batches whose write was refused because somebody else had claimed a partition.
    pub fenced: u64,
    /// Times a lane went on with another version of the plugin.
    pub swaps: u64,
    /// Lanes that are rate-limited now, because of the dead letters of their batch.
    pub paused_lanes: u64,
    /// Dead letters that their topic has acknowledged.
    pub relayed: u64,
    /// Dead letters that their topic does not take.
    pub relay_refused: u64,
    /// Dead letters of all hosts that wait for their relay now, as measured every few seconds.
    pub relay_waiting: u64,
    /// Age of the one that waits longest, in seconds.
    pub relay_oldest_seconds: u64,
    /// Median, in milliseconds, within 10 %.
    pub latency_p50_ms: f64,
    /// 99th percentile, in milliseconds, within 10 %.
    pub latency_p99_ms: f64,
}

const STEPS_PER_OCTAVE: usize = 8;
const BUCKETS: usize = 48 * STEPS_PER_OCTAVE;

/// A histogram of durations with eight buckets an octave.
pub struct Latency {
    buckets: Box<[AtomicU64; BUCKETS]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]) }
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "p50 {} ms, p99 {} ms", self.quantile_ms(0.5), self.quantile_ms(0.99))
    }
}

impl Latency {
    /// Counts messages with these timestamps as visible at `now_us` (both microseconds since 1970).
    /// Messages without a timestamp do not count; those from the future count as 0.
    pub fn record(&self, timestamps_us: &[i64], now_us: i64) {
        // Neighbours mostly fall into the same bucket: added once per run, not once per message.
        let (mut run_bucket, mut run_length) = (0, 0);
        for &timestamp in timestamps_us.iter().filter(|&&timestamp| timestamp >= 0) {
            let bucket = bucket_of(now_us.saturating_sub(timestamp).max(0) as u64);
            if bucket != run_bucket {
                self.buckets[run_bucket].fetch_add(run_length, Ordering::Relaxed);
                (run_bucket, run_length) = (bucket, 0);
            }
            run_length += 1;
        }
        self.buckets[run_bucket].fetch_add(run_length, Ordering::Relaxed);
    }

    /// The duration below which `share` of all messages stayed, in milliseconds; 0 without messages.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.buckets.iter().map(|it| it.load(Ordering::Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && wanted > 0 {
                return upper_end_us(bucket) / 1000.0;
            }
        }
        0.0
    }
}

fn bucket_of(duration_us: u64) -> usize {
    let value = duration_us + 1;
    let octave = value.ilog2() as usize;
    let step = (((value << 3) >> octave) & 7) as usize;
    (octave * STEPS_PER_OCTAVE + step).min(BUCKETS - 1)
}

fn upper_end_us(bucket: usize) -> f64 {
    let octave = (bucket / STEPS_PER_OCTAVE) as i32;
    let step = (bucket % STEPS_PER_OCTAVE + 1) as f64;
    2f64.powi(octave) * (1.0 + step / STEPS_PER_OCTAVE as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_bucket() {
        let latency = Latency::default();
        let now_us = 10_000_000_000;
        let timestamps: Vec<i64> = (1..=1000).map(|ms| now_us - ms * 1000).collect();
        latency.record(&timestamps, now_us);
        for (share, expected_ms) in [(0.5, 500.0), (0.99, 990.0), (0.01, 10.0)] {
            let found = latency.quantile_ms(share);
            assert!((expected_ms * 0.99..expected_ms * 1.13).contains(&found), "{share}: {found}");
        }
    }

    #[test]
    fn messages_without_a_time_and_from_the_future_do_not_confuse_it() {
        let latency = Latency::default();
        latency.record(&[-1, 2_000_000], 1_000_000);
        assert!(latency.quantile_ms(0.99) < 0.01);
        assert!(Latency::default().quantile_ms(0.5) < f64::EPSILON);
    }
}
