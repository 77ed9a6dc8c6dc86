//! Which messages are tried again later instead of becoming dead letters, and which wait behind them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::settings::{RetryOrder, RetrySettings};

/// How the messages of a batch are parked.
#[derive(Debug, Clone, Default)]
pub struct Parking {
    /// `[retry]`
    pub rule: Arc<RetrySettings>,
    /// How often each message was tried before; empty when none was.
    pub tried: Vec<u32>,
    /// True for messages that are in a table of ours already: what is turned away is handed back with
    /// [`Prepared::kept`](super::Prepared::kept) and is neither a letter nor parked here.
    pub kept: bool,
}

impl Parking {
    /// How often the message was tried, this time included.
    pub(super) fn attempts(&self, message: u32) -> u32 {
        self.tried.get(message as usize).map_or(1, |tried| tried + 1)
    }

    pub(super) fn by_key(&self) -> bool {
        self.rule.order == RetryOrder::Key
    }
}

impl RetrySettings {
    /// True when a message that was tried so often is tried once more.
    pub fn goes_on(&self, attempts: u32) -> bool {
        attempts < self.attempts
    }

    /// The pause after so many attempts, of which the first counts: `delay`, then `multiplier` times as long each
    /// time, up to `max_delay`. Stretched by up to 2 %, so that what failed together does not come back at once.
    pub fn pause_after(&self, attempts: u32) -> Duration {
        self.pause_with(attempts, fastrand::f64())
    }

    fn pause_with(&self, attempts: u32, chance: f64) -> Duration {
        let growth = self.multiplier.powi(attempts.saturating_sub(1).min(1000) as i32);
        let seconds = self.delay.as_secs_f64() * growth;
        let pause = seconds.min(self.max_delay.as_secs_f64());
        Duration::from_secs_f64(pause * (1.0 + chance * JITTER))
    }

    /// True when a row that Postgres refuses in this way may be taken later.
    pub(super) fn covers(&self, sqlstate: &str, constraint: Option<&str>) -> bool {
        self.sqlstates.iter().any(|wanted| wanted == sqlstate)
            || constraint.is_some_and(|name| self.constraints.iter().any(|wanted| wanted == name))
    }
}

const JITTER: f64 = 0.02;

/// Keys of which messages are parked, partition by partition, each with the batch that parked one last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingKeys {
    keys: HashMap<i32, HashMap<Vec<u8>, u64>>,
}

impl WaitingKeys {
    /// True when a message of this key is parked.
    pub fn contains(&self, partition: i32, key: &[u8]) -> bool {
        self.keys.get(&partition).is_some_and(|keys| keys.contains_key(key))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Notes that batch `batch` parks a message of this key.
    pub fn insert(&mut self, partition: i32, key: &[u8], batch: u64) {
        let keys = self.keys.entry(partition).or_default();
        match keys.get_mut(key) {
            Some(last) => *last = batch,
            None => drop(keys.insert(key.to_vec(), batch)),
        }
    }

    /// Forgets the keys of a partition.
    pub fn forget(&mut self, partition: i32) {
        self.keys.remove(&partition);
    }

    /// Keys of which nothing was parked behind batch `batch`.
    pub fn parked_up_to(&self, batch: u64) -> Vec<(i32, Vec<u8>)> {
        let all = self.keys.iter().flat_map(|(partition, keys)| {
            keys.iter().map(move |(key, last)| (*partition, key, *last))
        });
        all.filter(|(.., last)| *last <= batch)
            .map(|(partition, key, _)| (partition, key.clone()))
            .collect()
    }

    /// Forgets keys, except those of which something was parked behind batch `batch`.
    pub fn free(&mut self, free: &[(i32, Vec<u8>)], batch: u64) {
        for (partition, key) in free {
            let Some(keys) = self.keys.get_mut(partition) else { continue };
            if keys.get(key).is_some_and(|last| *last <= batch) {
                keys.remove(key);
            }
            if keys.is_empty() {
                self.keys.remove(partition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(rule: &RetrySettings, chance: f64) -> Vec<u128> {
        (1..=8).map(|attempts| rule.pause_with(attempts, chance).as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let rule = RetrySettings::default();
        assert_eq!(pauses(&rule, 0.0), [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000]);
        let rule = RetrySettings { max_delay: Duration::from_secs(5), ..rule };
        assert_eq!(pauses(&rule, 0.0), [1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000]);
        assert_eq!(pauses(&rule, 1.0)[..2], [1020, 2040]);
        let rule = RetrySettings { multiplier: 1.5, ..rule };
        assert_eq!(pauses(&rule, 0.0)[..4], [1000, 1500, 2250, 3375]);
    }

    #[test]
    fn the_first_attempt_counts() {
        let rule = RetrySettings { attempts: 3, ..RetrySettings::default() };
        assert_eq!([1, 2, 3].map(|attempts| rule.goes_on(attempts)), [true, true, false]);
        let never = RetrySettings { attempts: 1, ..rule };
        assert!(!never.goes_on(1));
    }

    #[test]
    fn refusals_are_covered_by_state_or_by_constraint() {
        let rule = RetrySettings {
            sqlstates: vec!["23503".to_owned()],
            constraints: vec!["order_known".to_owned()],
            ..RetrySettings::default()
        };
        assert!(rule.covers("23503", None) && rule.covers("23514", Some("order_known")));
        assert!(!rule.covers("23514", Some("other")) && !rule.covers("23505", None));
    }

    #[test]
    fn a_key_is_free_when_nothing_was_parked_since_it_was_asked_for() {
        let mut waiting = WaitingKeys::default();
        waiting.insert(0, b"a", 1);
        waiting.insert(0, b"b", 1);
        waiting.insert(1, b"a", 2);
        let mut asked = waiting.parked_up_to(1);
        asked.sort();
        assert_eq!(asked, [(0, b"a".to_vec()), (0, b"b".to_vec())]);
        // While the answer is on its way, one more message of the key is parked behind.
        waiting.insert(0, b"b", 3);
        waiting.free(&asked, 1);
        assert!(
            !waiting.contains(0, b"a") && waiting.contains(0, b"b") && waiting.contains(1, b"a")
        );
        waiting.forget(1);
        waiting.free(&[(0, b"b".to_vec())], 3);
        assert!(waiting.is_empty());
    }
}
