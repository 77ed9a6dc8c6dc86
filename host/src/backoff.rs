//! Pauses between attempts: doubled from a first one up to a longest one, each shortened by up to a half
//! at random, so that many who wait for the same thing do not come back at once. Knows not what is tried.

use std::time::Duration;

/// How long to wait before the next attempt.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Pauses from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// For a cause that a person has to mend: 1 s, doubling up to a minute.
    pub const fn for_mending() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60))
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        self.pause_with(fastrand::f64())
    }

    fn pause_with(&mut self, chance: f64) -> Duration {
        let factor = 1 << self.attempts.min(20);
        let pause = self.first.saturating_mul(factor).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        pause.mul_f64(1.0 - chance / 2.0)
    }

    /// Pauses so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// For outages: 50 ms, doubling up to 5 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mut backoff: Backoff, expected_ms: &[u128]) {
        let pauses: Vec<u128> =
            expected_ms.iter().map(|_| backoff.pause_with(0.0).as_millis()).collect();
        assert_eq!(pauses, expected_ms);
        assert_eq!(backoff.attempts() as usize, expected_ms.len());
        let last = expected_ms.last().copied().unwrap_or_default();
        assert_eq!(backoff.pause_with(1.0).as_millis(), last / 2, "never in step");
    }

    #[test]
    fn pauses_grow_to_the_longest_and_are_never_in_step() {
        check(Backoff::default(), &[50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        check(Backoff::for_mending(), &[1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    }
}
