//! Keeps a pipeline going: what a person has to mend holds it, and when it is mended it goes on by itself,
//! exactly where it was. Other pipelines of the process never notice.
//!
//! A pipeline that is held has left its group, so that a host that can do better gets its partitions. Whether the
//! cause is gone is found out by beginning anew: everything is checked before the group is joined again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle as Runtime;

use super::counters::Snapshot;
use super::summary::{Report, log_end};
use super::{Books, Control, Schema, begin};
use crate::backoff::Backoff;
use crate::explain;
use crate::fault::Fault;
use crate::plugin::fault::is_of_the_file;
use crate::plugin::load::Loader;
use crate::plugin::watch::Stamp;
use crate::settings::Settings;
use crate::sink::claims::Claims;
use crate::sink::claims::holds::WHOLE_PIPELINE;
use crate::sink::postgres::Options;

/// How often a running pipeline says how it is doing.
const PROGRESS_PERIOD: Duration = Duration::from_secs(60);
/// A pipeline that began again and has not failed for so long goes on, also when there is nothing to write.
const PROVEN_AFTER: Duration = Duration::from_secs(10);
/// After so long without a fault the next one is waited for from the shortest pause on.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// How often it is looked whether the plugin's file has changed, while a pipeline is held.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// Longest time for writing down what is held: it is only told there, not decided.
const WRITE_DOWN_WAIT: Duration = Duration::from_secs(2);

/// A pipeline that is kept going. Nothing happens before [`Supervisor::run`].
pub struct Supervisor {
    settings: Settings,
    runtime: Runtime,
    owner: String,
    handle: Handle,
}

/// A handle to it, for signal handlers.
#[derive(Clone, Default)]
pub struct Handle {
    state: Arc<Mutex<State>>,
    changed: Arc<Condvar>,
}

#[derive(Default)]
struct State {
    /// Told to end.
    ending: bool,
    /// Told to look again at what was refused.
    look_again: bool,
    ended: bool,
    control: Option<Control>,
    held: Option<Held>,
}

struct Held {
    code: &'static str,
    since: Instant,
    /// Since when it is tried again, and how many batches there were then.
    trying: Option<(Instant, u64)>,
}

impl Handle {
    /// The pipeline writes what it has and ends.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.ending = true;
        state.control.iter().for_each(Control::stop);
        self.changed.notify_all();
    }

    /// Judges the plugin's file anew, and whether a held pipeline can go on.
    pub fn check_plugin(&self) {
        let mut state = self.lock();
        state.look_again = true;
        state.control.iter().for_each(Control::check_plugin);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most `wait` for `condition`, and says whether it holds.
    fn wait(&self, wait: Duration, condition: impl Fn(&State) -> bool) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, wait, |state| !condition(state));
        condition(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Waits at most `wait` to be told something.
    fn woken(&self, wait: Duration) -> Option<Pause> {
        self.wait(wait, |state| state.ending || state.look_again);
        let mut state = self.lock();
        if state.ending {
            return Some(Pause::Ending);
        }
        std::mem::take(&mut state.look_again).then_some(Pause::News)
    }

    /// Notes why the pipeline is held, and says whether that is news.
    fn hold(&self, code: &'static str) -> bool {
        let mut state = self.lock();
        let held = state.held.get_or_insert(Held { code: "", since: Instant::now(), trying: None });
        held.trying = None;
        std::mem::replace(&mut held.code, code) != code
    }

    /// Notes that the pipeline has begun.
    fn begun(&self, control: Control) {
        let mut state = self.lock();
        if state.ending {
            control.stop();
        }
        if let Some(held) = &mut state.held {
            held.trying = Some((Instant::now(), control.counters().batches));
        }
        state.control = Some(control);
    }

    /// Notes that what had begun is over.
    fn has_ended(&self) {
        let control = self.lock().control.take();
        // Waits for the thread that watches the plugin's file: not under the lock.
        drop(control);
    }

    /// How long the pipeline was held, if it has just proved to go on.
    fn proven(&self, batches: u64) -> Option<Duration> {
        let mut state = self.lock();
        let (since, before) = state.held.as_ref()?.trying?;
        if batches == before && since.elapsed() < PROVEN_AFTER {
            return None;
        }
        state.held.take().map(|held| held.since.elapsed())
    }
}

impl Supervisor {
    /// A pipeline with `settings`.
    pub fn new(settings: Settings, runtime: &Runtime) -> Self {
        let owner = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
        Self { settings, runtime: runtime.clone(), owner, handle: Handle::default() }
    }

    /// A handle to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.settings.pipeline.name
    }

    /// Keeps the pipeline going until it is told to stop. To be called on a thread with
    /// [`THREAD_STACK_BYTES`](crate::plugin::limits::THREAD_STACK_BYTES) of stack, none of the runtime's.
    ///
    /// # Errors
    /// What only a restart can mend, and what held the pipeline when it was told to stop.
    pub fn run(self) -> Result<Snapshot, Fault> {
        let books = Books::new(&self.settings);
        let result = std::thread::scope(|scope| {
            scope.spawn(|| self.tell(&books));
            let _end = End(&self.handle);
            self.keep_going(&books)
        });
        if self.handle.lock().held.is_some() {
            self.write_down(None);
        }
        let counters = books.counters.snapshot();
        log_end(self.name(), &counters, result.as_ref().err());
        result.map(|()| counters)
    }

    fn keep_going(&self, books: &Books) -> Result<(), Fault> {
        let mut backoff = Backoff::for_mending();
        let mut schema = Schema::Made;
        loop {
            let (began, file) = (Instant::now(), self.file());
            let Err(fault) = self.turn(books, &mut schema) else { return Ok(()) };
            if fault.is_final() {
                return Err(fault);
            }
            if began.elapsed() >= HEALTHY_AFTER {
                backoff = Backoff::for_mending();
            }
            self.hold(&fault);
            let mut pause = self.pause(backoff.pause(), file.as_ref());
            // The same bytes would be refused again, and compiling them may take seconds.
            while pause == Pause::Over && is_of_the_file(fault.code) {
                self.write_down(Some(&fault));
                pause = self.pause(backoff.pause(), file.as_ref());
            }
            match pause {
                Pause::Over => {}
                Pause::News => backoff = Backoff::for_mending(),
                Pause::Ending => return Err(fault),
            }
        }
    }

    /// The plugin's file as it is now.
    fn file(&self) -> Option<Stamp> {
        Stamp::of(&self.settings.plugin.path)
    }

    /// Begins, and waits for the end.
    fn turn(&self, books: &Books, schema: &mut Schema) -> Result<(), Fault> {
        let loader = Loader::new(self.name(), &self.settings.plugin);
        let running = begin(&self.settings, loader, &self.runtime, books, *schema)?;
        *schema = Schema::Expected;
        self.handle.begun(running.control());
        let end = running.join();
        self.handle.has_ended();
        end
    }

    /// Says that the pipeline is held: in the log once for each reason, and to those who look from elsewhere.
    fn hold(&self, fault: &Fault) {
        if self.handle.hold(fault.code) {
            let way_out = explain::find(fault.code).map_or("", |it| it.way_out);
            let (pipeline, code) = (self.name(), fault.code);
            tracing::error!(pipeline, code, way_out, "pipeline held: {}", fault.message);
        } else {
            tracing::debug!(pipeline = self.name(), code = fault.code, "still held: {fault}");
        }
        self.write_down(Some(fault));
    }

    /// Waits until it is time to try again: after `pause`, or when the plugin's file is no longer as it was.
    fn pause(&self, pause: Duration, file: Option<&Stamp>) -> Pause {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(woken) = self.handle.woken(left.min(LOOK_PERIOD)) {
                return woken;
            }
            if self.file().as_ref() != file {
                return Pause::News;
            }
            if left.is_zero() {
                return Pause::Over;
            }
        }
    }

    /// Writes down for everybody that the pipeline is held on this host, or strikes it out. Best effort: what holds
    /// it may be that Postgres cannot be written to.
    fn write_down(&self, fault: Option<&Fault>) {
        let Ok(options) = Options::parse(&self.settings.sink.url) else { return };
        let claims = Claims::new(&options, self.name(), &self.settings.source.topic, &self.owner);
        let written = async {
            let session = options.named(self.name(), &self.owner).connect().await?;
            match fault {
                Some(fault) => claims.hold(&session, &[WHOLE_PIPELINE], fault).await,
                None => claims.let_go(&session, &[WHOLE_PIPELINE], false).await,
            }
        };
        let written =
            self.runtime.block_on(async { tokio::time::timeout(WRITE_DOWN_WAIT, written).await });
        if let Ok(Err(fault)) = written {
            tracing::debug!("not written down that the pipeline is held: {fault}");
        }
    }

    /// Says how the pipeline is doing, until it has ended.
    fn tell(&self, books: &Books) {
        let (mut before, mut told) = (Snapshot::default(), Instant::now());
        while !self.handle.wait(Duration::from_secs(1), |state| state.ended) {
            let counters = books.counters.snapshot();
            if let Some(held) = self.handle.proven(counters.batches) {
                let (pipeline, seconds) = (self.name(), held.as_secs());
                tracing::info!(pipeline, seconds, "pipeline goes on again");
                self.write_down(None);
            }
            let (now, period) = (Instant::now(), told.elapsed());
            if period < PROGRESS_PERIOD {
                continue;
            }
            let held = self.handle.lock().held.as_ref().map(|held| (held.code, held.since));
            let (partitions, lag) = (books.standing.held(), books.standing.lag());
            let pipeline = self.name();
            Report { pipeline, held, partitions, lag, before, counters, period, now }.log();
            (before, told) = (counters, now);
        }
    }
}

/// Notes that the pipeline will not begin again, also when its thread panics.
struct End<'a>(&'a Handle);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// Why a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// It was long enough.
    Over,
    /// Something has changed that may have mended the cause.
    News,
    /// The pipeline is to end.
    Ending,
}
