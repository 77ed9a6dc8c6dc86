//! Keeps a pipeline going: what a person has to mend blocks it, and when it is mended it goes on by itself,
//! exactly where it was. Other pipelines of the process never notice.
//!
//! A pipeline that is blocked has left its group, so that a host that can do better gets its partitions. Whether the
//! cause is gone is found out by a restart of the pipeline: everything is checked before the group is joined again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle as Runtime;

use super::counters::Snapshot;
use super::summary::{Report, log_end};
use super::{Books, Control, Running, Schema, begin};
use crate::backoff::Backoff;
use crate::bell::Bell;
use crate::explain;
use crate::fault::{Fault, Remedy};
use crate::files::Stamp;
use crate::plugin::fault::{INTERRUPTED, is_of_the_file};
use crate::plugin::load::Loader;
use crate::settings::Settings;
use crate::shutdown::Stop;
use crate::sink::claims::Claims;
use crate::sink::claims::blocks::WHOLE_PIPELINE;
use crate::sink::postgres::{Options, Session};
use crate::source::renewals::{Renewals, Renewed};
use crate::threads::{self, Job, Turn, Work};

/// How often it is looked whether a pipeline that was blocked goes on.
const TELL_PERIOD: Duration = Duration::from_secs(1);
/// How often a running pipeline says how it is doing.
const PROGRESS_PERIOD: Duration = Duration::from_secs(60);
/// A pipeline that began again and has not failed for so long goes on, also when there is nothing to write.
const PROVEN_AFTER: Duration = Duration::from_secs(10);
/// After so long without a fault the next one is waited for from the shortest pause on.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked whether the plugin's file has changed, while a pipeline is blocked.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How often it is looked whether certificates and passwords for brokers were renewed, while a pipeline runs.
const RENEWALS_PERIOD: Duration = Duration::from_secs(5);
/// Longest time for writing down what is blocked: it is only told there, not decided.
const WRITE_DOWN_WAIT: Duration = Duration::from_secs(2);

/// A pipeline that is kept going. Nothing happens before [`Supervisor::start`].
pub struct Supervisor {
    settings: Settings,
    runtime: Runtime,
    owner: String,
    /// Kept, so that what pipelines share of a database outlives a pipeline that is blocked.
    options: Option<Options>,
    handle: Handle,
    books: Books,
    backoff: Backoff,
    schema: Schema,
    stage: Stage,
    /// What it had done when it was told last, and when that was.
    told: (Snapshot, Instant),
}

/// How far a pipeline is.
enum Stage {
    /// It is to begin.
    Beginning,
    /// It has begun.
    Running { running: Box<Running>, began: Began },
    /// It waits for somebody to mend what is wrong.
    Blocked { fault: Fault, file: Option<Stamp>, renewals: Option<Renewals>, until: Instant },
}

/// When a pipeline began, and the plugin's file as it was then.
struct Began {
    at: Instant,
    file: Option<Stamp>,
    /// Certificates, keys and passwords for brokers.
    renewals: Option<Renewals>,
    /// True when it was told to end in order to begin again with new ones.
    renewed: bool,
}

/// A handle to it, for signal handlers.
#[derive(Clone, Default)]
pub struct Handle {
    state: Arc<Mutex<State>>,
    /// Wakes the one who keeps the pipeline going.
    bell: Arc<Bell>,
    /// Set when it was told to end; ends what takes long.
    stop: Stop,
}

#[derive(Default)]
struct State {
    /// Told to look again at what was refused.
    look_again: bool,
    control: Option<Control>,
    blocked: Option<Blocked>,
}

struct Blocked {
    code: &'static str,
    since: Instant,
    /// Since when it is tried again, and how many batches there were then.
    trying: Option<(Instant, u64)>,
}

impl Handle {
    /// The pipeline writes what it has and ends.
    pub fn stop(&self) {
        let state = self.lock();
        self.stop.set();
        state.control.iter().for_each(Control::stop);
        self.bell.ring();
    }

    /// Checks the plugin's file again, and whether a blocked pipeline can go on.
    pub fn check_plugin(&self) {
        let mut state = self.lock();
        state.look_again = true;
        state.control.iter().for_each(Control::check_plugin);
        self.bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.stop.is_set()
    }

    /// True when it was told to look again since this was asked last.
    fn takes_another_look(&self) -> bool {
        std::mem::take(&mut self.lock().look_again)
    }

    /// True while the pipeline is blocked, or has not proved yet that it goes on.
    fn is_blocked(&self) -> bool {
        self.lock().blocked.is_some()
    }

    /// Notes why the pipeline is blocked, and says whether that is news.
    fn block(&self, code: &'static str) -> bool {
        let mut state = self.lock();
        let blocked =
            state.blocked.get_or_insert(Blocked { code: "", since: Instant::now(), trying: None });
        blocked.trying = None;
        std::mem::replace(&mut blocked.code, code) != code
    }

    /// Notes that the pipeline has begun.
    fn begun(&self, control: Control) {
        let mut state = self.lock();
        if self.is_ending() {
            control.stop();
        }
        if let Some(blocked) = &mut state.blocked {
            blocked.trying = Some((Instant::now(), control.counters().batches));
        }
        state.control = Some(control);
    }

    /// Notes that what had begun is over.
    fn has_ended(&self) {
        let control = self.lock().control.take();
        // Waits for the thread that watches the plugin's file: not under the lock.
        drop(control);
    }

    /// How long the pipeline was blocked, if it has just proved to go on.
    fn proven(&self, batches: u64) -> Option<Duration> {
        let mut state = self.lock();
        let (since, before) = state.blocked.as_ref()?.trying?;
        if batches == before && since.elapsed() < PROVEN_AFTER {
            return None;
        }
        state.blocked.take().map(|blocked| blocked.since.elapsed())
    }
}

impl Supervisor {
    /// A pipeline with `settings`.
    pub fn new(settings: Settings, runtime: &Runtime) -> Self {
        let owner = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
        // An address that cannot be read is reported when the pipeline begins.
        let options = Options::of(&settings.sink).ok();
        let options = options.map(|options| options.sharing(settings.sink.connections_max));
        Self {
            books: Books::new(&settings),
            settings,
            runtime: runtime.clone(),
            owner,
            options,
            handle: Handle::default(),
            backoff: Backoff::for_mending(),
            schema: Schema::Made,
            stage: Stage::Beginning,
            told: (Snapshot::default(), Instant::now()),
        }
    }

    /// A handle to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.settings.pipeline.name
    }

    /// Keeps the pipeline going until it is told to stop. It ends with what it has done, or with what only a restart can
    /// mend, or what blocked the pipeline when it was told to stop.
    pub fn start(self) -> Job<Result<Snapshot, Fault>> {
        let (runtime, bell) = (self.runtime.clone(), self.handle.bell.clone());
        threads::spawn(&runtime, bell, self)
    }

    /// Goes on as far as can be gone without waiting.
    fn advance(&mut self) -> Turn<Result<(), Fault>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Beginning) {
                Stage::Beginning => {
                    self.read_again();
                    let (at, renewals) = (Instant::now(), Renewals::begin(&self.settings.source));
                    let began = Began { at, file: self.file(), renewals, renewed: false };
                    self.stage = match self.begin() {
                        Ok(running) => Stage::Running { running: Box::new(running), began },
                        Err(fault) if fault.code == INTERRUPTED => return Turn::End(Ok(())),
                        Err(fault) if fault.remedy == Remedy::Exit => return Turn::End(Err(fault)),
                        Err(fault) => self.block(fault, began),
                    };
                }
                Stage::Running { mut running, mut began } => {
                    if !running.has_ended() {
                        let wait = self.look_for_renewals(&running, &mut began);
                        self.stage = Stage::Running { running, began };
                        return Turn::Sleep(wait);
                    }
                    let end = running.join();
                    self.handle.has_ended();
                    match end {
                        Ok(()) if began.renewed && !self.handle.is_ending() => {}
                        Ok(()) => return Turn::End(Ok(())),
                        Err(fault) if fault.remedy == Remedy::Exit => return Turn::End(Err(fault)),
                        Err(fault) => self.stage = self.block(fault, began),
                    }
                }
                Stage::Blocked { fault, .. } if self.handle.is_ending() => {
                    return Turn::End(Err(fault));
                }
                Stage::Blocked { fault, file, mut renewals, until } => {
                    let left = until.saturating_duration_since(Instant::now());
                    let is_renewed = renewals.as_mut().is_some_and(Renewals::has_settled);
                    if self.handle.takes_another_look() || self.file() != file || is_renewed {
                        self.backoff = Backoff::for_mending();
                    } else if !left.is_zero() {
                        self.stage = Stage::Blocked { fault, file, renewals, until };
                        return Turn::Sleep(left.min(LOOK_PERIOD));
                    } else if is_of_the_file(fault.code) {
                        // The same bytes would be refused again, and compiling them may take seconds.
                        self.write_down(Some(&fault));
                        let until = Instant::now() + self.backoff.pause();
                        self.stage = Stage::Blocked { fault, file, renewals, until };
                    }
                }
            }
        }
    }

    /// Reads again what properties take from files.
    fn read_again(&mut self) {
        match self.settings.source.now() {
            Ok(source) => self.settings.source = source,
            Err(reason) => {
                let pipeline = self.name();
                tracing::warn!(
                    pipeline,
                    "cannot read a property's file again: {reason}; its previous value is used"
                );
            }
        }
    }

    /// Ends a pipeline whose certificates or passwords for brokers were renewed; it begins again with the new ones. Returns
    /// when to look again.
    fn look_for_renewals(&self, running: &Running, began: &mut Began) -> Duration {
        let Some(renewals) = began.renewals.as_mut().filter(|_| !began.renewed) else {
            return Duration::MAX;
        };
        if let Some(renewed) = renewals.look() {
            began.renewed = true;
            let pipeline = self.name();
            let what = match renewed {
                Renewed::Certificates => "certificates for brokers were renewed",
                Renewed::Properties => "a password for brokers was renewed",
            };
            tracing::info!(pipeline, "{what}: restarting the pipeline");
            running.control().stop();
        }
        RENEWALS_PERIOD
    }

    /// The plugin's file as it is now.
    fn file(&self) -> Option<Stamp> {
        Stamp::of(&self.settings.plugin.path)
    }

    fn begin(&mut self) -> Result<Running, Fault> {
        let loader = Loader::new(self.name(), &self.settings.plugin).until(&self.handle.stop);
        let (settings, runtime, bell) = (&self.settings, &self.runtime, &self.handle.bell);
        let running = begin(settings, loader, runtime, &self.books, self.schema, bell)?;
        self.schema = Schema::Expected;
        self.handle.begun(running.control());
        Ok(running)
    }

    /// What was begun is blocked by `fault`, for a while or until it is mended.
    fn block(&mut self, fault: Fault, Began { at, file, renewals, .. }: Began) -> Stage {
        if at.elapsed() >= HEALTHY_AFTER {
            self.backoff = Backoff::for_mending();
        }
        self.tell_of(&fault);
        Stage::Blocked { fault, file, renewals, until: Instant::now() + self.backoff.pause() }
    }

    /// Says that the pipeline is blocked: in the log once for each reason, and to those who look from elsewhere.
    fn tell_of(&self, fault: &Fault) {
        if self.handle.block(fault.code) {
            let hint = explain::hint(fault.code);
            let (pipeline, code) = (self.name(), fault.code);
            tracing::error!(pipeline, code, hint, "pipeline blocked: {}", fault.message);
        } else {
            tracing::debug!(pipeline = self.name(), code = fault.code, "still blocked: {fault}");
        }
        self.write_down(Some(fault));
    }

    /// Writes down for everybody that the pipeline is blocked on this host, or strikes it out. Best effort: what blocks
    /// it may be that Postgres cannot be written to.
    fn write_down(&self, fault: Option<&Fault>) {
        let Some(options) = &self.options else { return };
        let claims = Claims::new(options, self.name(), &self.settings.source.topic, &self.owner);
        let write = async |session: &Session| match fault {
            Some(fault) => claims.block(session, &[WHOLE_PIPELINE], fault).await,
            None => claims.unblock(session, &[WHOLE_PIPELINE], false).await,
        };
        let written = claims.errand("write down what is blocked", write);
        let written =
            self.runtime.block_on(async { tokio::time::timeout(WRITE_DOWN_WAIT, written).await });
        if let Ok(Err(fault)) = written {
            tracing::debug!("failed to record that the pipeline is blocked: {fault}");
        }
    }

    /// Says how the pipeline is doing, now and then, and that it resumed; returns when to look again.
    fn tell(&mut self) -> Duration {
        let (now, counters) = (Instant::now(), self.books.counters.snapshot());
        let (before, told) = self.told;
        if let Some(blocked) = self.handle.proven(counters.batches) {
            let (pipeline, seconds) = (self.name(), blocked.as_secs());
            tracing::info!(pipeline, seconds, "pipeline resumed");
            self.write_down(None);
        }
        let period = now - told;
        if period >= PROGRESS_PERIOD {
            let blocked = self.handle.lock().blocked.as_ref().map(|it| (it.code, it.since));
            let (partitions, lag) = (self.books.standing.blocked(), self.books.standing.lag());
            let pipeline = self.name();
            Report { pipeline, blocked, partitions, lag, before, counters, period, now }.log();
            self.told = (counters, now);
        }
        let due = PROGRESS_PERIOD.saturating_sub(now - self.told.1);
        if self.handle.is_blocked() { TELL_PERIOD.min(due) } else { due }
    }
}

impl Work for Supervisor {
    type End = Result<Snapshot, Fault>;

    fn turn(&mut self) -> Turn<Self::End> {
        let end = match self.advance() {
            Turn::Sleep(wait) => return Turn::Sleep(wait.min(self.tell())),
            Turn::End(end) => end,
        };
        if self.handle.is_blocked() {
            self.write_down(None);
        }
        let counters = self.books.counters.snapshot();
        log_end(self.name(), &counters, end.as_ref().err());
        Turn::End(end.map(|()| counters))
    }
}
