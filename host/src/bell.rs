//! What wakes a thread that waits for several others: whoever has something for it rings.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Remembers a ring until it is waited for, so that none is missed between looking around and falling asleep.
/// One thread waits; any may ring.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Wakes the thread that waits, or lets it not fall asleep next time.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Sleeps until the bell is rung, at most for `wait`; not at all if it was rung since the last time.
    pub fn wait(&self, wait: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, wait, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_ring_before_the_wait_is_not_missed_and_counts_once() {
        let bell = Bell::default();
        let begin = Instant::now();
        bell.ring();
        bell.ring();
        bell.wait(LONG);
        assert!(begin.elapsed() < LONG);
        let begin = Instant::now();
        bell.wait(Duration::from_millis(20));
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_ring_wakes_the_thread_that_waits() {
        let bell = Arc::new(Bell::default());
        let other = bell.clone();
        let waiting = std::thread::spawn(move || {
            let begin = Instant::now();
            other.wait(LONG);
            begin.elapsed()
        });
        bell.ring();
        assert!(waiting.join().expect("no panic") < LONG);
    }
}
