//! What belongs to one store: the guest's memory account, its log, and the imports it calls.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use wasmtime::{ResourceLimiter, Trap};

use super::bindings::sluice::plugin::{columns, log, schema};
use super::guest_log::GuestLog;
use super::limits::{Limits, ticks};
use crate::shutdown::Stop;

/// Data of a store.
#[derive(Debug)]
pub(super) struct State {
    pub limits: Arc<Limits>,
    /// For the call under way.
    pub call_time_max: Duration,
    pub clock: CallClock,
    /// Set when the pipeline is to end.
    pub stop: Stop,
    pub log: GuestLog,
    /// Bytes of all linear memories.
    pub memory_bytes: usize,
    table_elements: usize,
}

/// A growth that was denied. It ends the guest at once: an allocator told "no" would abort with a
/// bare `unreachable`, and nobody could say why.
#[derive(Debug, Clone, Error)]
#[error("no more than {allowed} allowed")]
pub(super) struct Denied {
    /// Such as `256 MiB of memory`.
    pub allowed: String,
}

impl State {
    pub fn new(limits: Arc<Limits>) -> Self {
        let call_time_max = limits.call_time_max;
        let log = GuestLog::default();
        let (clock, stop) = (CallClock::default(), Stop::default());
        Self { limits, call_time_max, clock, stop, log, memory_bytes: 0, table_elements: 0 }
    }
}

/// Counts the time of a call, and of its rest when nobody waits for it any more. In ticks of the epoch clock.
#[derive(Debug, Default)]
pub(super) struct CallClock {
    left: u64,
    /// For the step that is over next.
    step: u64,
    /// True when `left` was cut because the pipeline is to end.
    hurried: bool,
}

/// The call of a guest was ended because its pipeline is to end.
#[derive(Debug, Clone, Copy, Error)]
#[error("the pipeline ends")]
pub(super) struct Unwanted;

/// How often it is looked whether a call is still wanted.
const STEP: Duration = Duration::from_millis(100);
/// How long a call may go on when its pipeline is to end: all but those that hang are through by then.
const UNWANTED_MAX: Duration = Duration::from_secs(2);

impl CallClock {
    /// For a call of `time` at most; returns the ticks of the first step.
    pub fn begin(&mut self, time: Duration) -> u64 {
        (self.left, self.hurried) = (ticks(time), false);
        self.next()
    }

    /// A step is over. Returns the ticks of the next one, or why the call ends.
    pub fn step(&mut self, stop: &Stop) -> wasmtime::Result<u64> {
        self.left -= self.step;
        if !self.hurried && stop.is_set() {
            let rest = ticks(UNWANTED_MAX);
            // A call that would be over by its own limit before is not ended by this one.
            self.hurried = rest < self.left;
            self.left = self.left.min(rest);
        }
        match self.next() {
            0 if self.hurried => Err(Unwanted.into()),
            0 => Err(Trap::Interrupt.into()),
            next => Ok(next),
        }
    }

    fn next(&mut self) -> u64 {
        self.step = self.left.min(ticks(STEP));
        self.step
    }
}

/// Adds the growth to the account if the sum stays allowed. Wasmtime asks per memory or table; a
/// component may have several.
fn grow(
    account: &mut usize,
    (current, desired): (usize, usize),
    max: usize,
    allowed: impl FnOnce() -> String,
) -> wasmtime::Result<bool> {
    let wanted = account.saturating_add(desired.saturating_sub(current));
    if wanted > max {
        return Err(Denied { allowed: allowed() }.into());
    }
    *account = wanted;
    Ok(true)
}

impl ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let max = self.limits.memory_bytes_max;
        let allowed = || format!("{} MiB of memory", max >> 20);
        grow(&mut self.memory_bytes, (current, desired), max, allowed)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let max = self.limits.table_elements_max;
        let allowed = || format!("{max} table elements");
        grow(&mut self.table_elements, (current, desired), max, allowed)
    }

    fn instances(&self) -> usize {
        self.limits.instances_max
    }

    fn tables(&self) -> usize {
        self.limits.tables_max
    }

    fn memories(&self) -> usize {
        self.limits.memories_max
    }
}

impl log::Host for State {
    fn write(&mut self, level: log::Level, message: String) {
        self.log.push(level, &message, &self.limits);
    }
}

impl columns::Host for State {}

impl schema::Host for State {}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many more steps a call has that never returns, and why it ends.
    fn rest(clock: &mut CallClock, stop: &Stop) -> (u64, wasmtime::Error) {
        let mut ticks = 0;
        loop {
            match clock.step(stop) {
                Ok(next) => ticks += next,
                Err(error) => return (ticks, error),
            }
        }
    }

    #[test]
    fn a_call_has_two_seconds_once_its_pipeline_is_to_end() {
        let (mut clock, stop) = (CallClock::default(), Stop::default());
        let first = clock.begin(Duration::from_mins(1));
        assert_eq!(first, ticks(STEP));
        assert_eq!(clock.step(&stop).unwrap(), first, "nobody has told it to end");
        stop.set();
        let (left, error) = rest(&mut clock, &stop);
        assert_eq!(left, ticks(UNWANTED_MAX));
        assert!(error.is::<Unwanted>(), "{error}");
    }

    #[test]
    fn a_call_that_is_over_by_its_own_limit_before_is_ended_by_that() {
        let (mut clock, stop) = (CallClock::default(), Stop::default());
        let time = Duration::from_secs(1);
        let first = clock.begin(time);
        stop.set();
        let (left, error) = rest(&mut clock, &stop);
        assert_eq!(first + left, ticks(time));
        assert!(error.is::<Trap>(), "{error}");
    }
}
