//! A pipeline from start to stop: the only place that knows all parts of the road and their order.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::bell::{Bell, Post};
use crate::fault::Fault;
use crate::plugin::load::{Generation, Loader};
use crate::plugin::slot::Slot;
use crate::plugin::watch::{Watch, Watcher};
use crate::relay::RelayTask;
use crate::settings::Settings;
use crate::sink::postgres::{Options, Session};
use crate::sink::table::Plan;
use crate::sink::{self, Parking, Version};
use crate::source::ClaimStore as _;
use crate::source::claims::{self, Claimer, Standing};
use crate::source::identity::Asking;
use crate::source::member::Member;
use crate::source::rebalance::{Command, LaneHandle, Ownership, Report, Shared};
use crate::threads::Job;

pub use crate::threads::runtime;

mod backlog;
pub mod brake;
mod budget;
pub mod counters;
pub mod dropped;
pub mod lane;
mod lanes;
pub mod order;
pub mod replay;
mod retry;
mod store;
pub mod summary;
pub mod supervisor;
mod work;

use backlog::Backlog;
use brake::Brake;
use budget::DeadLetterBudget;
use counters::{Counters, Snapshot};
use lanes::Start;
use order::Question;

/// A version of the plugin that passed every check, and how its rows are written. Lanes go on with
/// another one between two batches.
#[derive(Debug)]
pub struct Deployed {
    /// The compiled plugin.
    pub generation: Arc<Generation>,
    /// How its outputs are written into the tables.
    pub plan: Arc<Plan>,
    /// What lineage says of it.
    pub version: Arc<Version>,
}

impl Deployed {
    /// Goes on with `next` in the place of `plan`, unless the slot contains another plan now: another lane may have been
    /// faster, or another version of the plugin has come.
    pub(crate) fn replace_plan(slot: &Slot<Self>, plan: &Plan, next: Arc<Plan>) {
        let current = slot.current();
        if !current.plan.is(plan) {
            return;
        }
        tracing::info!(
            plugin = current.version.plugin,
            tables = next.table_names().collect::<Vec<_>>().join(", "),
            "table definitions have changed: prepared the statements again"
        );
        let (generation, version) = (current.generation.clone(), current.version.clone());
        slot.replace(&current, Arc::new(Self { generation, plan: next, version }));
    }
}

/// A pipeline at work.
pub struct Running {
    control: Control,
    lanes: Vec<Job<()>>,
    /// Lanes that have not ended yet, how the others have, and the fault that came first.
    lanes_at_work: usize,
    ends: Receiver<Result<(), Fault>>,
    result: Result<(), Fault>,
    member: Membership,
    retries: Retries,
    relay: Option<RelayTask>,
}

/// A handle to a pipeline, for others than the one who waits for its end: signal handlers, displays.
#[derive(Clone)]
pub struct Control {
    name: Arc<str>,
    counters: Arc<Counters>,
    lanes: Vec<LaneHandle>,
    state: Arc<ControlState>,
    watcher: Arc<Watcher>,
}

#[derive(Default)]
struct ControlState {
    stopping: AtomicBool,
    ended: Mutex<bool>,
    ending: Condvar,
}

impl Control {
    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has done so far.
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Lanes write what they have and end; [`Running::wait`] then returns.
    pub fn stop(&self) {
        if !self.state.stopping.swap(true, Ordering::AcqRel) {
            for lane in &self.lanes {
                // A lane that has ended needs no telling.
                let _ = lane.tell(Command::Finish);
            }
        }
    }

    /// Checks the plugin's file again, also a version that was refused before.
    pub fn check_plugin(&self) {
        self.watcher.check_now();
    }

    /// Waits at most `wait`; true when the pipeline has ended.
    pub fn wait_for_end(&self, wait: Duration) -> bool {
        let ended = self.state.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.state.ending.wait_timeout_while(ended, wait, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn end(&self) {
        *self.state.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.state.ending.notify_all();
    }
}

/// What tries parked messages again. It ends when nobody can ask it any more.
struct Retries {
    job: Job<()>,
    questions: Post<Question>,
}

impl Retries {
    fn end(self) {
        drop(self.questions);
        // A panic is in the log.
        let _ = self.job.join();
    }
}

struct Membership {
    member: Arc<Member>,
    leave: Arc<AtomicBool>,
    polling: Job<()>,
    claiming: Job<()>,
    asking: Job<()>,
    shared: Shared,
}

/// Checks everything, then starts. Nothing moves before plugin, tables, positions and topic were found to
/// be in order. Blocks; not to be called on a thread of `runtime`.
///
/// # Errors
/// What is wrong with settings, plugin, tables or topic; `SL-P001` and `SL-K002` when Postgres or Kafka
/// cannot be reached.
pub fn start(settings: &Settings, runtime: &tokio::runtime::Handle) -> Result<Running, Fault> {
    start_with(settings, Loader::new(&settings.pipeline.name, &settings.plugin), runtime)
}

/// The same with a loader of one's own.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    settings: &Settings,
    loader: Loader,
    runtime: &tokio::runtime::Handle,
) -> Result<Running, Fault> {
    begin(settings, loader, runtime, &Books::new(settings), Schema::Made, &Arc::default())
}

/// What is known of a pipeline on this host, however often it is blocked and starts again.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    /// What it has done.
    counters: Arc<Counters>,
    /// How its partitions stand.
    standing: Arc<Standing>,
    /// How many dead letters it may make.
    budget: Arc<DeadLetterBudget>,
    /// How many messages are parked, and whether more may be.
    backlog: Arc<Backlog>,
    /// Stops it when no row is taken any more.
    brake: Arc<Brake>,
    /// The version of the plugin that it ran last.
    last: Arc<Mutex<Option<Arc<Slot<Deployed>>>>>,
}

impl Books {
    /// Nothing has been done yet.
    pub fn new(settings: &Settings) -> Self {
        let (name, max) = (&*settings.pipeline.name, settings.dead_letters.max_per_minute);
        let budget = Arc::new(DeadLetterBudget::new(name.into(), max));
        let backlog = Arc::new(Backlog::new(name.into(), settings.retry.max_parked));
        let brake = Arc::new(Brake::new(settings.dead_letters.max_in_a_row));
        let (counters, standing, last) = Default::default();
        Self { counters, standing, budget, backlog, brake, last }
    }

    /// The plugin in `file`; where that cannot be used, the version that ran last: a running pipeline goes on with it, too.
    fn load(&self, loader: &Loader, file: &Path) -> Result<Arc<Generation>, Fault> {
        let fault = match loader.load_file(file) {
            Ok(generation) => return Ok(generation),
            Err(fault) => Fault::from(fault),
        };
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = &*last else { return Err(fault) };
        let generation = slot.current().generation.clone();
        tracing::warn!(
            code = fault.code,
            digest = generation.short_digest(),
            "the plugin's file cannot be used, the previous version is used: {}",
            fault.message
        );
        Ok(generation)
    }
}

/// What is done about the `sluice` schema before a pipeline begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    /// It is made, or brought up to date.
    Made,
    /// It must be there. Had it gone missing under a pipeline, making it again would begin the topic again.
    Expected,
}

fn begin(
    settings: &Settings,
    loader: Loader,
    runtime: &tokio::runtime::Handle,
    books: &Books,
    schema: Schema,
    bell: &Arc<Bell>,
) -> Result<Running, Fault> {
    // Short, because Postgres cuts the name of a session at 63 bytes.
    let owner = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    let name: Arc<str> = settings.pipeline.name.as_str().into();
    let options =
        Options::of(&settings.sink)?.sharing(settings.sink.connections_max).named(&name, &owner);
    match schema {
        Schema::Made => runtime.block_on(sink::migrate::migrate(&options)).map(drop)?,
        Schema::Expected => runtime.block_on(sink::migrate::expect(&options))?,
    }

    let mut store = store::PostgresClaims::new(&options, settings, &owner, runtime.clone());
    // Before anything else: a host that means something else by the pipeline than those at work does not begin.
    store.show_life()?;
    let gate = gate(settings, &options, runtime);
    let generation = books.load(&loader, &settings.plugin.path)?;
    let slot = Arc::new(Slot::new(Arc::new(gate(&generation)?)));
    *books.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot.clone());
    books.budget.begin_version(&generation.digest);

    let (shared, reported) = Shared::new(settings.pipeline.lanes);
    let (handles, mailboxes): (Vec<_>, Vec<_>) =
        (0..settings.pipeline.lanes).map(|_| LaneHandle::pair()).unzip();
    let ownership = Arc::new(Ownership::new(handles.clone(), shared.reports.clone()));
    let member = Member::new(&settings.source, ownership.clone())?;
    member.topic_id()?;

    let (end, ends) = Post::ringing(bell);
    let counters = books.counters.clone();
    let parking =
        Parking { rule: Arc::new(settings.retry.clone()), tried: Vec::new(), kept: false };
    let (questions, asked) = Post::new();
    let start = Start {
        settings,
        name: &name,
        owner: &owner,
        options: &options,
        runtime,
        parking: &parking,
        questions: &questions,
        partitions: member.partitions()?.len(),
    };
    let lanes = start.all(mailboxes, &slot, &shared, books, &end)?;
    let retries = Retries { job: start.retries(asked, &slot, books, &end), questions };
    let claims = claims::Parts {
        member: member.clone(),
        ownership,
        store: Box::new(store),
        start: settings.source.start,
        pipeline: name.clone(),
        reports: reported,
        committed: shared.committed.clone(),
        identity: shared.identity.clone(),
        loads: shared.loads.clone(),
        standing: books.standing.clone(),
    };
    let claiming = Claimer::start(claims, runtime);
    let membership = Membership::join(member, claiming, shared, end.clone(), runtime)?;
    let file = settings.plugin.path.clone();
    let watcher = Watcher::start(Watch::new(file, loader, slot, generation, gate), runtime);
    let relay = RelayTask::start(settings, &options, &owner, counters.relay.clone(), runtime);
    tracing::info!(pipeline = &*name, topic = settings.source.topic, owner, "pipeline started");
    let (state, watcher) = (Arc::default(), Arc::new(watcher));
    let control = Control { name, counters, lanes: handles, state, watcher };
    Ok(Running {
        lanes_at_work: lanes.len(),
        control,
        lanes,
        ends,
        result: Ok(()),
        member: membership,
        retries,
        relay,
    })
}

/// Checks a version of the plugin: its outputs are compared with the tables as they are now.
fn gate(
    settings: &Settings,
    options: &Options,
    runtime: &tokio::runtime::Handle,
) -> impl Fn(&Arc<Generation>) -> Result<Deployed, Fault> + Send + 'static {
    let (tables, options, runtime) = (settings.sink.clone(), options.clone(), runtime.clone());
    move |generation| {
        let description = &generation.description;
        let plan = async |session: &Session| {
            sink::table::plan(session, &description.outputs, &tables).await
        };
        let plan = runtime.block_on(options.errand("read the tables", plan))?;
        let version = Version {
            digest: generation.digest.clone(),
            plugin: description.name.clone(),
            version: description.version.clone(),
        };
        Ok(Deployed {
            generation: generation.clone(),
            plan: Arc::new(plan),
            version: Arc::new(version),
        })
    }
}

impl Membership {
    fn join(
        member: Arc<Member>,
        claiming: Job<()>,
        shared: Shared,
        end: Post<Result<(), Fault>>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, Fault> {
        let leave = Arc::new(AtomicBool::new(false));
        let failed = move |fault| {
            // Fails only when nobody waits for the pipeline any more.
            let _ = end.send(Err(fault));
        };
        let polling = member.join(runtime, leave.clone(), failed)?;
        let asking = Asking::start(&shared, member.clone(), runtime);
        Ok(Self { member, leave, polling, claiming, asking, shared })
    }

    fn leave(self) {
        // All may have ended by themselves.
        let _ = self.shared.reports.send(Report::Finish);
        let _ = self.claiming.join();
        self.shared.identity.end();
        let _ = self.asking.join();
        self.leave.store(true, Ordering::Release);
        self.member.bell().ring();
        let _ = self.polling.join();
    }
}

impl Running {
    /// A handle to it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits until the pipeline has ended, because it was told to or because of a fault that only a person
    /// can mend; then nothing of it is left running. Positions stand behind the last batch that was written.
    ///
    /// # Errors
    /// The fault that came first.
    pub fn wait(self) -> Result<Snapshot, Fault> {
        let control = self.control();
        let result = self.join();
        summary::log_end(control.name(), &control.counters(), result.as_ref().err());
        result.map(|()| control.counters())
    }

    /// The same without a word.
    fn join(mut self) -> Result<(), Fault> {
        while self.lanes_at_work > 0 {
            match self.ends.recv() {
                Ok(end) => self.note(end),
                Err(_) => break,
            }
        }
        let Self { control, lanes, result, member, retries, relay, .. } = self;
        for lane in lanes {
            // A panic was turned into a fault where it happened.
            let _ = lane.join();
        }
        // Others get the partitions without waiting for what else there is to end.
        member.leave();
        retries.end();
        if let Some(relay) = relay {
            relay.end();
        }
        control.end();
        result
    }

    /// True when all lanes have ended: then [`Running::join`] does not wait for somebody to stop it.
    fn has_ended(&mut self) -> bool {
        while let Ok(end) = self.ends.try_recv() {
            self.note(end);
        }
        self.lanes_at_work == 0
    }

    /// A lane has ended, or something else has that should not: then lanes end as well.
    fn note(&mut self, end: Result<(), Fault>) {
        self.lanes_at_work = self.lanes_at_work.saturating_sub(1);
        if let (Ok(()), Err(fault)) = (&self.result, end) {
            self.result = Err(fault);
            self.control.stop();
        }
    }
}
