//! A lane's guest: lends it a batch, takes back an outcome, and replaces it when it is worn or broken.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::exports::sluice::plugin::transform::Guest;
use super::bindings::{Plugin, PluginPre};
use super::check;
use super::engine::{Ticking, engine};
use super::exchange::{Loan, returned};
use super::fault::{Phase, PluginFault, printable};
use super::frames::frames_of;
use super::guest_log::{Origin, offset_ranges};
use super::limits::Limits;
use super::linked::Process;
use super::load::{Generation, on_one_line};
use super::state::{Denied, State, Unwanted};
use crate::batch::Batch;
use crate::rows::{Checked, Decoded, Outcome};
use crate::settings::Isolation;

/// Who calls; for the guest's log.
#[derive(Debug, Clone)]
pub struct Context {
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
}

/// A plugin ready to be called, one batch at a time. The guest inside is replaced after a fault, at a
/// high-water mark of memory, after a number of calls, or (`isolation = "batch"`) after each batch.
pub struct Instance {
    generation: Arc<Generation>,
    context: Context,
    live: Option<Live>,
    linked: Option<Process>,
    loan: Loan,
    started: u64,
    /// For calls of `process`.
    pub(super) call_time_max: Duration,
    /// Messages on which the plugin failed, each alone, since it succeeded last.
    pub(super) failed_in_a_row: u32,
    /// True when a batch failed of which all messages passed in smaller parts.
    pub(super) too_large: bool,
}

impl Generation {
    /// Makes an instance and configures it. The caller's thread is where it will run: see
    /// [`super::limits::THREAD_STACK_BYTES`].
    pub fn instantiate(self: &Arc<Self>, context: Context) -> Result<Instance, PluginFault> {
        let generation = Arc::clone(self);
        let mut instance = Instance {
            context,
            live: None,
            linked: None,
            loan: Loan::default(),
            started: 0,
            call_time_max: generation.limits.call_time_max,
            failed_in_a_row: 0,
            too_large: false,
            generation,
        };
        match self.link {
            Some(link) => {
                instance.linked = Some(link(&self.settings).map_err(PluginFault::Settings)?);
            }
            None => instance.live = Some(instance.start()?),
        }
        Ok(instance)
    }
}

impl Instance {
    /// Calls the plugin with the decoded messages of a batch, and checks what it returns. Columns are
    /// lent to the call and are back in their places afterwards, also when it failed. Afterwards the
    /// instance is usable whatever happened.
    pub fn process(
        &mut self,
        batch: &mut Batch,
        decoded: &mut Decoded,
    ) -> Result<Checked<Outcome>, PluginFault> {
        let generation = Arc::clone(&self.generation);
        let description = &generation.description;
        if decoded.messages.is_empty() {
            return Ok(check::nothing(description));
        }
        if let Some(linked) = &mut self.linked {
            self.loan.lend(batch, decoded, description);
            let result = linked(&mut self.loan.batch);
            self.loan.restore(batch, decoded, description);
            let outcome = returned(result.map_err(PluginFault::Failed)?);
            return check::check(outcome, description, decoded, &generation.limits);
        }
        // Taken out, and put back only when all went well: a store that trapped must never run again.
        let mut live = match self.live.take() {
            Some(live) => live,
            None => self.start()?,
        };
        self.loan.lend(batch, decoded, description);
        let loan = &self.loan.batch;
        live.store.data_mut().call_time_max = self.call_time_max;
        let result = live.call(Phase::Process, |guest, store| guest.call_process(store, loan));
        self.loan.restore(batch, decoded, description);
        self.flush_log(&mut live, batch);
        let outcome = match result? {
            Ok(outcome) => returned(outcome),
            Err(text) => {
                self.keep(live);
                return Err(PluginFault::Failed(printable(&text, FAILURE_BYTES_MAX)));
            }
        };
        let outcome = check::check(outcome, description, decoded, &generation.limits)?;
        self.keep(live);
        Ok(outcome)
    }

    /// What the instance was made from.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Bytes of the guest's linear memories; 0 while there is no guest.
    pub fn memory_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.store.data().memory_bytes)
    }

    /// How many guests there were, the present one included.
    pub fn started(&self) -> u64 {
        self.started
    }

    fn start(&mut self) -> Result<Live, PluginFault> {
        let mut live = Live::instantiate(&self.generation.pre, &self.generation.limits)?;
        self.started += 1;
        live.store.data_mut().stop = self.generation.stop.clone();
        let configured = live.configure(&self.generation.settings);
        self.flush_log(&mut live, &Batch::default());
        configured.map(|()| live)
    }

    /// Keeps the guest for the next batch unless it is worn.
    fn keep(&mut self, mut live: Live) {
        live.calls += 1;
        let limits = &self.generation.limits;
        let worn = self.generation.isolation == Isolation::Batch
            || live.calls >= limits.recycle_calls
            || live.store.data().memory_bytes >= limits.recycle_memory_bytes;
        self.live = (!worn).then_some(live);
    }

    fn flush_log(&self, live: &mut Live, batch: &Batch) {
        if live.store.data().log.is_empty() {
            return;
        }
        live.flush_log(Origin {
            budget: &self.generation.log,
            pipeline: &self.context.pipeline,
            plugin: &self.generation.description.name,
            digest: self.generation.short_digest(),
            offsets: &offset_ranges(&batch.partitions, &batch.offsets),
        });
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Instance({:?}, {:?})", self.generation, self.live)
    }
}

/// An error text of `process` is shown to the operator; it may quote messages.
const FAILURE_BYTES_MAX: usize = 4 << 10;

/// A store with one guest in it. After a fault it is good for nothing but its log.
pub(super) struct Live {
    store: Store<State>,
    plugin: Plugin,
    calls: u64,
}

impl Live {
    /// Runs the component's start functions under the limits of a call.
    pub fn instantiate(pre: &PluginPre<State>, limits: &Arc<Limits>) -> Result<Self, PluginFault> {
        let mut store = Store::new(engine(), State::new(Arc::clone(limits)));
        store.limiter(|state| state);
        store.set_hostcall_fuel(limits.hostcall_bytes_max);
        let _ticking = Ticking::begin();
        store.epoch_deadline_callback(|mut store| {
            let State { clock, stop, .. } = store.data_mut();
            clock.step(stop).map(UpdateDeadline::Continue)
        });
        // A new store's deadline is now.
        let first = store.data_mut().clock.begin(limits.call_time_max);
        store.set_epoch_deadline(first);
        match pre.instantiate(&mut store) {
            Ok(plugin) => Ok(Self { store, plugin, calls: 0 }),
            Err(error) => Err(fault_of(&error, Phase::Instantiate, store.data_mut())),
        }
    }

    /// Copies no more bytes out of the guest in one call from now on.
    pub fn copy_at_most(&mut self, bytes: usize) {
        self.store.set_hostcall_fuel(bytes);
    }

    /// The first call of every guest.
    pub fn configure(&mut self, settings: &str) -> Result<(), PluginFault> {
        self.call(Phase::Configure, |guest, store| guest.call_configure(store, settings))?
            .map_err(|text| PluginFault::Settings(printable(&text, FAILURE_BYTES_MAX)))
    }

    /// One call under the limits, and what its failure means.
    pub fn call<T>(
        &mut self,
        phase: Phase,
        call: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<T>,
    ) -> Result<T, PluginFault> {
        let _ticking = Ticking::begin();
        let time_max = self.store.data().call_time_max;
        let first = self.store.data_mut().clock.begin(time_max);
        self.store.set_epoch_deadline(first);
        let result = call(self.plugin.sluice_plugin_transform(), &mut self.store);
        result.map_err(|error| fault_of(&error, phase, self.store.data_mut()))
    }

    /// Hands what the guest logged to the host's log.
    pub fn flush_log(&mut self, origin: Origin<'_>) {
        self.store.data_mut().log.flush(origin);
    }
}

impl std::fmt::Debug for Live {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory_bytes = self.store.data().memory_bytes;
        write!(formatter, "Live({} calls, {memory_bytes} bytes)", self.calls)
    }
}

/// Wasmtime's error as the operator should read it.
fn fault_of(error: &wasmtime::Error, phase: Phase, state: &mut State) -> PluginFault {
    let frames = frames_of(error);
    if let Some(Denied { allowed }) = error.downcast_ref() {
        return PluginFault::Resource { phase, allowed: allowed.clone(), frames };
    }
    if error.is::<Unwanted>() {
        return PluginFault::Interrupted;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => PluginFault::Timeout { phase, max: state.call_time_max, frames },
        Some(Trap::StackOverflow) => PluginFault::StackOverflow { phase, frames },
        // A panic or an abort; what the guest's panic hook logged just before says more.
        Some(trap @ Trap::UnreachableCodeReached) => {
            let text = state.log.take_last_error().unwrap_or_else(|| text_of(*trap));
            PluginFault::Trap { phase, text, frames }
        }
        Some(trap) => PluginFault::Trap { phase, text: text_of(*trap), frames },
        None if is_output_too_large(error) => {
            let Limits { hostcall_bytes_max, output_bytes_max, describe_bytes_max, .. } =
                *state.limits;
            let (copied, allowed) = match phase {
                Phase::Describe => (describe_bytes_max, describe_bytes_max),
                _ => (hostcall_bytes_max, output_bytes_max),
            };
            PluginFault::OutputTooLarge {
                found: format!("more than {copied} bytes"),
                allowed: format!("{allowed} bytes"),
            }
        }
        None if phase == Phase::Instantiate => {
            PluginFault::Trap { phase, text: on_one_line(error), frames }
        }
        // Nothing trapped, so reading what was returned failed: a pointer out of bounds, text that
        // is not UTF-8, a case that does not exist.
        None => PluginFault::Breach(format!("{phase}: {}", on_one_line(error))),
    }
}

/// Wasmtime puts "wasm trap" before each, which our own text says already.
fn text_of(trap: Trap) -> String {
    trap.to_string().trim_start_matches("wasm trap: ").to_owned()
}

/// Wasmtime keeps the type of this error to itself.
fn is_output_too_large(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}
