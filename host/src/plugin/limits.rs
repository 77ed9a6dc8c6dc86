//! Every cap on a plugin, in one place, with its reason. A plugin can end, block or starve the host
//! only through a limit that is missing here.

use std::time::Duration;

use crate::settings::PluginSettings;

/// Stack that a thread needs which loads plugins or calls them: the guest runs on the caller's own
/// stack (512 KiB of it at most, see [`GUEST_STACK_BYTES_MAX`]), and compiling takes more.
pub const THREAD_STACK_BYTES: usize = 4 << 20;

/// Deep recursion in a guest ends in a trap here, far above the end of any thread's real stack.
/// One value for the whole process, because compiled code depends on it.
pub const GUEST_STACK_BYTES_MAX: usize = 512 << 10;

/// Period of the clock that ends endless loops: a timeout is late by two periods at most.
pub const EPOCH_PERIOD: Duration = Duration::from_millis(10);

/// Everything that a plugin may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the component file. A Python plugin with its interpreter has 18 MB; compiling takes
    /// about a second per MB, so this bounds the time of a swap too.
    pub component_bytes_max: usize,
    /// Bytes of all linear memories of one instance together. Rust plugins use 2 MiB, JavaScript 75.
    pub memory_bytes_max: usize,
    /// Elements of all tables together: each costs the host a pointer.
    pub table_elements_max: usize,
    /// Linear memories, tables, and core instances of one component instance; toolchains make up to
    /// three small modules beside the main one, and an interpreter a few dozen.
    pub memories_max: usize,
    /// See `memories_max`.
    pub tables_max: usize,
    /// See `memories_max`.
    pub instances_max: usize,
    /// Time for one call: `process` of a batch, or `configure`, or `describe`. Measured by the
    /// epoch clock: 50,000 messages take 2 ms in Rust and 400 ms in Python.
    pub call_time_max: Duration,
    /// Time for finding the messages of one batch on which the plugin fails. One that never ends takes four times
    /// `call_time_max` to be found; where there are very many, the plugin is broken, and its lane must not go on for
    /// hours.
    pub search_time_max: Duration,
    /// Bytes that one outcome may have, its rows passed through included; kept below the memory of
    /// a host with several lanes. Ordinary outcomes are as large as their batch, so below 32 MiB.
    pub output_bytes_max: usize,
    /// Bytes that wasmtime copies out of the guest in one call. It counts the host's own
    /// structures as well, so it lies above `output_bytes_max`; without it a few overlapping lists
    /// make the host allocate many times the guest's memory before the first check.
    pub hostcall_bytes_max: usize,
    /// Messages in a row that the plugin may fail on before it is considered broken itself.
    pub poison_max: u32,
    /// Rows of one outcome over all tables; each costs the host work even when it has no bytes.
    pub rows_max: usize,
    /// Bytes of a rejection's code: it becomes a metric's label and a column that people group by.
    pub code_bytes_max: usize,
    /// Bytes of a rejection's reason; a longer one is cut, since it may quote the message.
    pub reason_bytes_max: usize,
    /// Lines that a guest may log in one call; the rest is counted and dropped.
    pub log_lines_max: usize,
    /// Bytes that a guest may log in one call.
    pub log_bytes_max: usize,
    /// Bytes of one line; the rest of it is cut.
    pub log_line_bytes_max: usize,
    /// Outputs, and fields of one output (the most columns a table can have) or of the input.
    pub outputs_max: usize,
    /// See `outputs_max`.
    pub fields_max: usize,
    /// Bytes of the JSON Schema of its settings.
    pub schema_bytes_max: usize,
    /// Bytes that wasmtime copies for a description: what is far too large is not even taken over.
    pub describe_bytes_max: usize,
    /// Bytes of a name or a pointer in the description.
    pub name_bytes_max: usize,
    /// Calls after which an instance is replaced: bounds what leaks and what a guest remembers.
    pub recycle_calls: u64,
    /// Linear memory after which an instance is replaced, because it never shrinks.
    pub recycle_memory_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            component_bytes_max: 64 << 20,
            memory_bytes_max: 256 << 20,
            table_elements_max: 100_000,
            memories_max: 4,
            tables_max: 64,
            instances_max: 128,
            call_time_max: Duration::from_secs(10),
            search_time_max: Duration::from_mins(5),
            output_bytes_max: 128 << 20,
            hostcall_bytes_max: 192 << 20,
            poison_max: 100,
            rows_max: 4_000_000,
            code_bytes_max: 64,
            reason_bytes_max: 2 << 10,
            log_lines_max: 200,
            log_bytes_max: 64 << 10,
            log_line_bytes_max: 4 << 10,
            outputs_max: 64,
            fields_max: 1_600,
            schema_bytes_max: 64 << 10,
            describe_bytes_max: 8 << 20,
            name_bytes_max: 256,
            recycle_calls: 1_000,
            recycle_memory_bytes: 192 << 20,
        }
    }
}

impl Limits {
    /// The defaults with what an operator can set.
    pub fn of(settings: &PluginSettings) -> Self {
        Self {
            memory_bytes_max: settings.memory_bytes,
            recycle_memory_bytes: settings.memory_bytes / 4 * 3,
            call_time_max: settings.timeout,
            search_time_max: (30 * settings.timeout).max(Duration::from_mins(1)),
            poison_max: settings.poison_limit,
            ..Self::default()
        }
    }
}

/// A time for one call in ticks of the epoch clock. One more than fits, because the first period has begun
/// when the call starts.
pub(super) fn ticks(time: Duration) -> u64 {
    let ticks = time.as_millis().div_ceil(EPOCH_PERIOD.as_millis());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_gets_at_least_its_time() {
        let ticks: Vec<u64> = [1, 10, 11, 10_000].map(|ms| ticks(Duration::from_millis(ms))).into();
        assert_eq!(ticks, [2, 2, 3, 1001]);
    }
}
