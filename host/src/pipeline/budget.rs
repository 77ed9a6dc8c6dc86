//! How many dead letters a pipeline may make within a minute on this host, and how a lane keeps to it. Knows
//! no clock of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::rows;
use crate::sink::{Prepared, Rejected};

/// What `max_per_minute` is counted over.
const WINDOW: Duration = Duration::from_mins(1);
/// Dead letters of so short a time are remembered together.
const STEP: Duration = Duration::from_secs(1);

/// The allowance of one pipeline, shared by its lanes.
#[derive(Debug)]
pub struct DeadLetterBudget {
    pipeline: Arc<str>,
    max: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Dead letters written within the window: when the first of them was, and how many.
    written: VecDeque<(Instant, u64)>,
    /// Dead letters of batches that are being written.
    reserved: u64,
    /// Version of the plugin that the window began with.
    digest: String,
    /// When a batch was last rate-limited, while the pipeline counts as paused.
    rate_limited_at: Option<Instant>,
    mentioned_at: Option<Instant>,
}

/// Dead letters of one batch that may be written; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<DeadLetterBudget>,
    dead_letters: u64,
}

impl DeadLetterBudget {
    /// At most `max` dead letters within any minute; `None`: as many as there are.
    pub fn new(pipeline: Arc<str>, max: Option<u64>) -> Self {
        Self { pipeline, max, state: Mutex::default() }
    }

    /// Room for all dead letters of a batch, or an error with how many there is room for.
    ///
    /// # Errors
    /// The number of dead letters that may be written now, less than asked for.
    pub fn reserve(self: &Arc<Self>, dead_letters: u64, now: Instant) -> Result<Reservation, u64> {
        if let Some(max) = self.max {
            let mut state = self.lock();
            let free = state.free(max, now);
            if dead_letters > free {
                return Err(free);
            }
            state.reserved += dead_letters;
            self.tell_end(&mut state, now);
        }
        Ok(Reservation { budget: self.clone(), dead_letters })
    }

    /// True when at least one dead letter may be written.
    pub fn has_room(&self, now: Instant) -> bool {
        self.max.is_none_or(|max| self.lock().free(max, now) > 0)
    }

    /// Another version of the plugin begins with a whole allowance; that several lanes say so changes nothing.
    pub fn begin_version(&self, digest: &str) {
        let mut state = self.lock();
        if state.digest != digest {
            digest.clone_into(&mut state.digest);
            state.written.clear();
        }
    }

    /// Dead letters were written that nobody could ask for before.
    pub fn spend(&self, dead_letters: u64, now: Instant) {
        if self.max.is_some() {
            self.lock().write(dead_letters, now);
        }
    }

    /// Says that a batch is rate-limited: once when it begins, then once a minute.
    pub fn log_rate_limited(&self, prepared: &Prepared, now: Instant) {
        let mut state = self.lock();
        state.rate_limited_at = Some(now);
        if state.mentioned_at.is_some_and(|at| now.saturating_duration_since(at) < WINDOW) {
            return;
        }
        state.mentioned_at = Some(now);
        let most = prepared.rejected().iter().max_by_key(|rejected| rejected.messages);
        let example = most.map(|Rejected { stage, code, example, .. }| {
            let example = rows::loggable(*stage, code, example);
            format!("; most would be {} {code}: {example}", stage.name())
        });
        tracing::warn!(
            pipeline = &*self.pipeline,
            code = "SL-D310",
            max_per_minute = self.max,
            "pipeline paused: the limit of dead letters per minute is reached{}",
            example.unwrap_or_default()
        );
    }

    fn tell_end(&self, state: &mut State, now: Instant) {
        if state.rate_limited_at.is_some_and(|at| now.saturating_duration_since(at) >= WINDOW) {
            (state.rate_limited_at, state.mentioned_at) = (None, None);
            tracing::info!(pipeline = &*self.pipeline, "pipeline resumed after a pause");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn free(&mut self, max: u64, now: Instant) -> u64 {
        // A step counts until the last dead letter that may be in it is a whole window old.
        let is_over = |at: Instant| now.saturating_duration_since(at) >= WINDOW + STEP;
        while self.written.front().is_some_and(|(at, _)| is_over(*at)) {
            self.written.pop_front();
        }
        let written: u64 = self.written.iter().map(|(_, dead_letters)| dead_letters).sum();
        max.saturating_sub(written + self.reserved)
    }

    fn write(&mut self, dead_letters: u64, now: Instant) {
        match self.written.back_mut() {
            _ if dead_letters == 0 => {}
            Some((at, count)) if now.saturating_duration_since(*at) < STEP => {
                *count += dead_letters;
            }
            _ => self.written.push_back((now, dead_letters)),
        }
    }
}

impl Reservation {
    /// The batch is written, with `dead_letters` in the end: some may have come up on the way.
    pub fn spend(self, dead_letters: u64, now: Instant) {
        self.budget.spend(dead_letters, now);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.budget.max.is_some() {
            self.budget.lock().reserved -= self.dead_letters;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(max: u64) -> (Arc<DeadLetterBudget>, Instant) {
        (Arc::new(DeadLetterBudget::new("p".into(), Some(max))), Instant::now())
    }

    fn write(budget: &Arc<DeadLetterBudget>, dead_letters: u64, now: Instant) -> Result<(), u64> {
        budget.reserve(dead_letters, now).map(|reservation| reservation.spend(dead_letters, now))
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_minute_never_has_more_dead_letters_than_allowed() {
        let (budget, start) = budget(100);
        let mut written: Vec<(Duration, u64)> = Vec::new();
        let mut random = fastrand::Rng::with_seed(5);
        for step in 0..20_000_u64 {
            let at = Duration::from_millis(step * 37);
            let dead_letters = random.u64(0..30);
            if write(&budget, dead_letters, start + at).is_ok() {
                written.push((at, dead_letters));
            }
        }
        for (index, (at, _)) in written.iter().enumerate() {
            let minute = written[..=index]
                .iter()
                .rev()
                .take_while(|(then, _)| at.saturating_sub(*then) < WINDOW);
            let sum: u64 = minute.map(|(_, dead_letters)| dead_letters).sum();
            assert!(sum <= 100, "{sum} within the minute before {at:?}");
        }
        let sum: u64 = written.iter().map(|(_, dead_letters)| dead_letters).sum();
        assert!(sum > 100 * 11, "only {sum} in 12 minutes");
    }

    #[test]
    fn a_refusal_says_what_there_is_room_for() {
        let (budget, start) = budget(100);
        write(&budget, 60, start).unwrap();
        assert_eq!(write(&budget, 41, start), Err(40));
        write(&budget, 40, start + seconds(1.5)).unwrap();
        assert_eq!(write(&budget, 1, start + seconds(60.9)), Err(0));
        assert!(!budget.has_room(start + seconds(60.9)));
        assert_eq!(write(&budget, 61, start + seconds(61.0)), Err(60));
    }

    #[test]
    fn batches_without_dead_letters_always_pass() {
        let (budget, start) = budget(1);
        write(&budget, 1, start).unwrap();
        write(&budget, 0, start).unwrap();
        assert_eq!(write(&budget, 1, start), Err(0));
    }

    #[test]
    fn what_is_not_written_is_given_back() {
        let (budget, start) = budget(10);
        let reservation = budget.reserve(10, start).unwrap();
        assert_eq!(write(&budget, 1, start), Err(0));
        drop(reservation);
        write(&budget, 10, start).unwrap();
    }

    #[test]
    fn dead_letters_that_come_up_on_the_way_count_too() {
        let (budget, start) = budget(10);
        budget.reserve(1, start).unwrap().spend(25, start);
        assert_eq!(write(&budget, 1, start), Err(0));
    }

    #[test]
    fn another_version_begins_with_a_whole_allowance_once() {
        let (budget, start) = budget(10);
        budget.begin_version("a");
        write(&budget, 10, start).unwrap();
        budget.begin_version("a");
        assert_eq!(write(&budget, 1, start), Err(0));
        budget.begin_version("b");
        write(&budget, 10, start).unwrap();
        budget.begin_version("b");
        assert_eq!(write(&budget, 1, start), Err(0));
    }

    #[test]
    fn without_a_limit_everything_passes() {
        let budget = Arc::new(DeadLetterBudget::new("p".into(), None));
        write(&budget, u64::MAX, Instant::now()).unwrap();
        assert!(budget.has_room(Instant::now()));
    }
}
