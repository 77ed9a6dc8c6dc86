//! A plugin's code linked into the host instead of run in the sandbox: no limits, no isolation. What
//! the benchmark compares the sandbox with; nothing in a settings file leads here.

use super::bindings::exports::sluice::plugin::transform::{Batch, Outcome};

/// The plugin's `process`. Columns may be taken out of the batch, but must be back when it returns.
pub type Process = Box<dyn FnMut(&mut Batch) -> Result<Outcome, String> + Send>;

/// Makes a `process` for one lane out of the plugin's settings, as JSON.
pub type Link = fn(settings: &str) -> Result<Process, String>;
