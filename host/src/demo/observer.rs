//! Watches the pipeline from outside, through Postgres alone: positions, rows, dead letters, and how long
//! messages took from being sent to being seen there.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::PARTITIONS;
use crate::simulate::Ledger;
use crate::sink::postgres::Session;

/// Time between two looks at the positions: how exact a latency is.
pub const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Looks between two of them at lineage, where the sums are.
const SUM_EVERY: u64 = 10;

/// What has been seen so far; shared with the task that looks.
#[derive(Debug)]
pub struct Seen {
    ledger: Arc<Ledger>,
    claimed: AtomicUsize,
    next: Vec<AtomicI64>,
    rows: AtomicU64,
    rejected: AtomicU64,
    awaited: Mutex<String>,
    arrived_ms: AtomicU64,
    samples: Mutex<Vec<Sample>>,
    failure: Mutex<Option<String>>,
}

/// How long one message took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When it was sent, on the ledger's clock.
    pub sent_at_ms: u64,
    /// From being handed to the producer to being seen in Postgres.
    pub latency_ms: u64,
}

/// A task that looks at Postgres until it is dropped.
pub struct Observer {
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Starts looking at what `pipeline` writes.
    pub fn start(session: Session, pipeline: &str, ledger: Arc<Ledger>, runtime: &Handle) -> Self {
        ledger.keep_marks();
        let seen = Arc::new(Seen::new(ledger));
        let (shared, pipeline) = (Arc::clone(&seen), pipeline.to_owned());
        let task = runtime.spawn(async move {
            if let Err(error) = shared.look(&session, &pipeline).await {
                *lock(&shared.failure) = Some(error.to_string());
            }
        });
        Self { seen, task }
    }

    /// What has been seen so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            claimed: AtomicUsize::new(0),
            next: (0..PARTITIONS).map(|_| AtomicI64::new(0)).collect(),
            rows: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            awaited: Mutex::default(),
            arrived_ms: AtomicU64::new(0),
            samples: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// Partitions that the pipeline has claimed.
    pub fn claimed(&self) -> usize {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Next offset of `partition`.
    pub fn next(&self, partition: i32) -> i64 {
        self.next[partition as usize].load(Ordering::Relaxed)
    }

    /// Rows written.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Messages that became dead letters.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// From now on, waits for the moment when the version `digest` has written all partitions.
    pub fn await_version(&self, digest: &str) {
        digest.clone_into(&mut lock(&self.awaited));
    }

    /// When the awaited version had written all partitions, on the ledger's clock.
    pub fn arrived_ms(&self) -> Option<u64> {
        Some(self.arrived_ms.load(Ordering::Relaxed)).filter(|at_ms| *at_ms > 0)
    }

    /// The ledger's clock.
    pub fn now_ms(&self) -> u64 {
        self.ledger.now_ms()
    }

    /// One in 16 messages that were sent within `period`, what they took in milliseconds.
    pub fn samples(&self, period: std::ops::Range<u64>) -> Vec<u64> {
        let samples = lock(&self.samples);
        let within = samples.iter().filter(|sample| period.contains(&sample.sent_at_ms));
        within.map(|sample| sample.latency_ms).collect()
    }

    /// Why nothing more is seen.
    pub fn failure(&self) -> Option<String> {
        lock(&self.failure).clone()
    }

    async fn look(&self, session: &Session, pipeline: &str) -> Result<(), tokio_postgres::Error> {
        let positions = session
            .prepare(
                "SELECT partition, next_offset, coalesce(digest, ''), epoch > 0 \
                 FROM sluice.positions WHERE pipeline = $1",
            )
            .await?;
        let sums = session
            .prepare(
                "SELECT coalesce(sum(rows), 0)::bigint, coalesce(sum(rejected), 0)::bigint \
                 FROM sluice.lineage WHERE pipeline = $1",
            )
            .await?;
        let mut clock = tokio::time::interval(LOOK_EVERY);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for looks in 0_u64.. {
            clock.tick().await;
            let rows = session.query(&positions, &[&pipeline]).await?;
            self.take_positions(&rows);
            if looks % SUM_EVERY == 0 {
                let row = session.query_one(&sums, &[&pipeline]).await?;
                self.rows.store(row.get::<_, i64>(0) as u64, Ordering::Relaxed);
                self.rejected.store(row.get::<_, i64>(1) as u64, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn take_positions(&self, rows: &[tokio_postgres::Row]) {
        let at_ms = self.now_ms();
        let awaited = lock(&self.awaited).clone();
        let (mut arrived, mut claimed) = (0, 0);
        for row in rows {
            let (partition, next): (i32, i64) = (row.get(0), row.get(1));
            let digest: &str = row.get(2);
            claimed += usize::from(row.get::<_, bool>(3));
            arrived += usize::from(digest == awaited && !awaited.is_empty());
            self.next[partition as usize].store(next, Ordering::Relaxed);
            let marks = self.ledger.take_marks(partition, next);
            lock(&self.samples).extend(marks.iter().map(|mark| Sample {
                sent_at_ms: mark.sent_at_ms,
                latency_ms: at_ms.saturating_sub(mark.sent_at_ms),
            }));
        }
        self.claimed.store(claimed, Ordering::Relaxed);
        if arrived == self.next.len() && self.arrived_ms().is_none() {
            self.arrived_ms.store(at_ms, Ordering::Relaxed);
        }
    }
}

/// The value below which `share` of `values` lie; 0 without values.
pub fn quantile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Nothing under these locks can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let check = |values: &[u64], share, expected| {
            assert_eq!(quantile(&mut values.to_vec(), share), expected, "{share} of {values:?}");
        };
        check(&[], 0.5, 0);
        check(&[7], 0.99, 7);
        check(&[4, 1, 3, 2], 0.5, 3);
        check(&(0..1000).rev().collect::<Vec<_>>(), 0.99, 990);
        check(&(0..1000).collect::<Vec<_>>(), 1.0, 999);
    }
}
