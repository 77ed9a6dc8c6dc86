//! What belongs to one store: the guest's memory account, its log, and the imports it calls.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use wasmtime::ResourceLimiter;

use super::bindings::sluice::plugin::{columns, log, schema};
use super::guest_log::GuestLog;
use super::limits::Limits;

/// Data of a store.
#[derive(Debug)]
pub(super) struct State {
    pub limits: Arc<Limits>,
    /// For the call under way.
    pub call_time_max: Duration,
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
        Self { limits, call_time_max, log, memory_bytes: 0, table_elements: 0 }
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
