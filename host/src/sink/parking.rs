//! Which messages are tried again later instead of becoming dead letters, and which wait behind them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest, Md5};
use uuid::Uuid;

use crate::settings::{RetryOrder, RetrySettings};

/// How the messages of a batch are parked.
#[derive(Debug, Clone, Default)]
pub struct Parking {
    /// `[retry]`
    pub rule: Arc<RetrySettings>,
    /// How often each message was tried before; empty when none was.
    pub tried: Vec<u32>,
    /// True for messages that are in a table of ours already: what is rejected is handed back with
    /// [`Prepared::kept`](super::Prepared::kept) and is neither a dead letter nor parked here.
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

/// A message key in 16 bytes: what `md5` of Postgres makes of it, by which parked messages are indexed. Keys that share a
/// hash wait for each other, which costs a detour and breaks no order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(Uuid);

impl KeyHash {
    /// Of `key`.
    pub fn of(key: &[u8]) -> Self {
        Self(Uuid::from_bytes(Md5::digest(key).into()))
    }

    /// From what `md5(key)` is in Postgres; `None` where it is something else.
    pub fn from_postgres(md5: &str) -> Option<Self> {
        Uuid::try_parse(md5).ok().map(Self)
    }

    /// As `md5(key)` is in Postgres.
    pub fn for_postgres(self) -> String {
        self.0.simple().to_string()
    }
}

/// Keys of which messages are parked, partition by partition, each with the batch that parked one last. Takes some 40
/// bytes a key, however long the keys are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingKeys {
    keys: BTreeMap<i32, BTreeMap<KeyHash, u64>>,
}

impl WaitingKeys {
    /// True when a message of this key is parked.
    pub fn contains(&self, partition: i32, key: &[u8]) -> bool {
        self.keys.get(&partition).is_some_and(|keys| keys.contains_key(&KeyHash::of(key)))
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Notes that batch `batch` parks a message of this key.
    pub fn insert(&mut self, partition: i32, key: KeyHash, batch: u64) {
        self.keys.entry(partition).or_default().insert(key, batch);
    }

    /// Forgets the keys of a partition.
    pub fn forget(&mut self, partition: i32) {
        self.keys.remove(&partition);
    }

    /// Up to `max` keys of which nothing was parked after batch `batch`: those that follow `last` in their order, and
    /// then the first ones.
    pub fn parked_up_to(
        &self,
        batch: u64,
        last: Option<(i32, KeyHash)>,
        max: usize,
    ) -> Vec<(i32, KeyHash)> {
        let follows = |key: &(i32, KeyHash)| last.is_none_or(|last| *key > last);
        // Partitions before that of `last` are skipped at once, and so are its keys up to it.
        let partition_of_last = last.map_or(i32::MIN, |(partition, _)| partition);
        let following = self.keys.range(partition_of_last..).flat_map(|(&partition, keys)| {
            let begin = match last {
                Some((of_last, key)) if of_last == partition => Bound::Excluded(key),
                _ => Bound::Unbounded,
            };
            keys.range((begin, Bound::Unbounded)).map(move |(&key, &of)| ((partition, key), of))
        });
        let first = self.keys.iter().flat_map(|(&partition, keys)| {
            keys.iter().map(move |(&key, &of)| ((partition, key), of))
        });
        let first = first.take_while(|(key, _)| !follows(key));
        let parked = following.chain(first).filter(|&(_, of)| of <= batch);
        parked.map(|(key, _)| key).take(max).collect()
    }

    /// Forgets keys, except those of which something was parked after batch `batch`.
    pub fn free(&mut self, free: &[(i32, KeyHash)], batch: u64) {
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
        let (a, b) = (KeyHash::of(b"a"), KeyHash::of(b"b"));
        let mut waiting = WaitingKeys::default();
        waiting.insert(0, a, 1);
        waiting.insert(0, b, 1);
        waiting.insert(1, a, 2);
        let asked = waiting.parked_up_to(1, None, 10);
        assert_eq!(asked, [(0, a), (0, b)]);
        // While the answer is on its way, one more message of the key is parked behind.
        waiting.insert(0, b, 3);
        waiting.free(&asked, 1);
        assert!(
            !waiting.contains(0, b"a") && waiting.contains(0, b"b") && waiting.contains(1, b"a")
        );
        waiting.forget(1);
        waiting.free(&[(0, b)], 3);
        assert!(waiting.is_empty());
    }

    #[test]
    fn all_keys_have_their_turn_when_only_some_are_asked_for_at_a_time() {
        let mut waiting = WaitingKeys::default();
        for number in 0..100_u32 {
            waiting.insert(number as i32 % 3, KeyHash::of(&number.to_le_bytes()), 1);
        }
        waiting.insert(1, KeyHash::of(b"later"), 2);
        let (mut seen, mut last) = (Vec::new(), None);
        for _ in 0..10 {
            let some = waiting.parked_up_to(1, last, 10);
            assert_eq!(some.len(), 10);
            last = some.last().copied();
            seen.extend(some);
        }
        let of_next_round = waiting.parked_up_to(1, last, 10);
        assert_eq!(of_next_round, seen[..10]);
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 100);
        assert_eq!(waiting.parked_up_to(1, last, 1000).len(), 100, "each once");
    }

    #[test]
    fn a_hash_is_that_of_postgres() {
        let hash = KeyHash::of(b"order-17");
        assert_eq!(KeyHash::from_postgres(&hash.for_postgres()), Some(hash));
        assert_eq!(hash.for_postgres(), "0093144d3954b7c323f4947e903670f3");
    }
}
