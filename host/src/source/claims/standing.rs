//! How a pipeline's partitions stand on this host, for whoever tells it to people.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const UNKNOWN: i64 = -1;

/// Kept by the claimer.
#[derive(Debug)]
pub struct Standing {
    lag: AtomicI64,
    blocked: Mutex<Vec<BlockedPartition>>,
}

/// A partition that does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockedPartition {
    /// The partition.
    pub partition: i32,
    /// Why.
    pub code: &'static str,
    /// Since when.
    pub since: Instant,
}

impl Default for Standing {
    fn default() -> Self {
        Self { lag: AtomicI64::new(UNKNOWN), blocked: Mutex::default() }
    }
}

impl Standing {
    /// Messages behind the ends of this host's partitions; `None` while nobody knows.
    pub fn lag(&self) -> Option<i64> {
        Some(self.lag.load(Ordering::Relaxed)).filter(|&lag| lag != UNKNOWN)
    }

    /// Partitions that do not go on.
    pub fn blocked(&self) -> Vec<BlockedPartition> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_lag(&self, lag: Option<i64>) {
        self.lag.store(lag.unwrap_or(UNKNOWN), Ordering::Relaxed);
    }

    pub(super) fn set_blocked(&self, blocked: Vec<BlockedPartition>) {
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = blocked;
    }

    /// Nothing is known any more: the pipeline has left its partitions.
    pub fn clear(&self) {
        self.set_lag(None);
        self.set_blocked(Vec::new());
    }
}
