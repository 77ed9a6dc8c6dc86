//! How many messages of a pipeline are parked, as far as this host knows, and whether more may be (`[retry] max_parked`).
//! Knows no clock of its own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often all hosts' messages are counted at most; between two counts a host knows what it has parked itself.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// Of the time at most one part in so many goes into counting.
const COUNT_SHARE: u32 = 50;

/// The parked messages of one pipeline, told by its lanes and by what tries them again.
#[derive(Debug)]
pub struct Backlog {
    pipeline: Arc<str>,
    max: u64,
    messages: AtomicU64,
    count_at: Mutex<Option<Instant>>,
    told: AtomicBool,
}

impl Backlog {
    /// Nothing is parked yet; at most about `max` messages may be.
    pub fn new(pipeline: Arc<str>, max: u64) -> Self {
        let (messages, told) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { pipeline, max, messages, count_at: Mutex::default(), told }
    }

    /// True when batches may be made. One batch of each lane may pass the limit.
    pub fn has_room(&self) -> bool {
        let parked = self.messages.load(Ordering::Relaxed);
        let has_room = parked < self.max;
        if has_room == self.told.load(Ordering::Relaxed)
            && self.told.swap(!has_room, Ordering::Relaxed) == has_room
        {
            self.tell(has_room, parked);
        }
        has_room
    }

    /// How many messages to count, if it is time to: `count` of all that are parked, this number at most.
    pub fn wants_count(&self, now: Instant) -> Option<u64> {
        let at = *self.count_at.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as may be parked tell as much as all of them.
        at.is_none_or(|at| now >= at).then_some(self.max)
    }

    /// So many are parked by all hosts; it took from `begun` to `now` to count them.
    pub fn counted(&self, messages: u64, begun: Instant, now: Instant) {
        self.messages.store(messages, Ordering::Relaxed);
        let pause = COUNT_EVERY.max((now - begun) * COUNT_SHARE);
        *self.count_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + pause);
    }

    /// A batch has parked so many.
    pub fn add(&self, messages: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// So many have left.
    pub fn remove(&self, messages: u64) {
        let less = |known: u64| Some(known.saturating_sub(messages));
        // The closure always has an answer.
        let _ = self.messages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Nothing is parked.
    pub fn clear(&self) {
        self.messages.store(0, Ordering::Relaxed);
    }

    fn tell(&self, has_room: bool, parked: u64) {
        let (pipeline, max_parked) = (&*self.pipeline, self.max);
        if has_room {
            tracing::info!(pipeline, parked, "pipeline resumed after a pause");
        } else {
            tracing::warn!(
                pipeline,
                code = "SL-D311",
                parked,
                max_parked,
                "pipeline paused: the limit of parked messages is reached"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_until_the_limit_and_again_below_it() {
        let backlog = Backlog::new("p".into(), 100);
        backlog.add(99);
        assert!(backlog.has_room());
        backlog.add(50);
        assert!(!backlog.has_room(), "a batch may pass the limit");
        backlog.remove(49);
        assert!(!backlog.has_room());
        backlog.remove(1);
        assert!(backlog.has_room());
        backlog.remove(1000);
        backlog.add(100);
        assert!(!backlog.has_room(), "no less than none was known");
        backlog.clear();
        assert!(backlog.has_room());
    }

    #[test]
    fn what_others_have_parked_is_counted_now_and_then() {
        let backlog = Backlog::new("p".into(), 100);
        let begun = Instant::now();
        assert_eq!(backlog.wants_count(begun), Some(100));
        backlog.counted(100, begun, begun + Duration::from_millis(1));
        assert!(!backlog.has_room());
        assert_eq!(backlog.wants_count(begun + Duration::from_secs(9)), None);
        assert_eq!(backlog.wants_count(begun + Duration::from_secs(11)), Some(100));
        // What takes long is done less often.
        backlog.counted(0, begun, begun + Duration::from_secs(2));
        assert_eq!(backlog.wants_count(begun + Duration::from_secs(101)), None);
        assert_eq!(backlog.wants_count(begun + Duration::from_secs(103)), Some(100));
    }
}
