//! `sluice run`: pipelines until SIGTERM. Each file is a pipeline of its own; one that fails does not stop
//! the others.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use crate::fault::{Fault, Remedy};
use crate::pipeline::counters::Snapshot;
use crate::pipeline::{self, Control, Running};
use crate::settings::Settings;
use crate::shutdown::{self, Obeys};

/// How often a running pipeline says how it is doing.
const PROGRESS_PERIOD: Duration = Duration::from_secs(60);

/// Moves messages until SIGTERM.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Settings files, one pipeline each.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// How all pipelines of the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All of them because they were told to.
    Drained,
    /// At least one with a fault.
    Failed,
    /// None could be started, because Kafka or Postgres could not be reached.
    NotReachable,
}

/// Runs pipelines until they have ended. Faults are logged where they happen.
///
/// # Errors
/// When the system gives no threads or signals.
pub fn run(all: Vec<Settings>) -> std::io::Result<Ended> {
    // Connections only: decoding, plugins and encoding run on the lanes' own threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("postgres")
        .enable_all()
        .build()?;
    let controls = Arc::new(Controls::default());
    shutdown::listen(controls.clone())?;

    let count = all.len();
    let (mut running, mut faults) = (Vec::new(), Vec::new());
    for settings in all {
        match start(settings, runtime.handle(), &controls) {
            Ok(pipeline) => running.push(pipeline),
            Err(fault) => faults.push(fault),
        }
    }
    let not_reachable = faults.iter().filter(|fault| fault.remedy == Remedy::Retry).count();
    let failed_later = wait(running);
    // Connections that were thrown away may still be waiting for a server that is gone.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(match () {
        () if not_reachable == count => Ended::NotReachable,
        () if failed_later || !faults.is_empty() => Ended::Failed,
        () => Ended::Drained,
    })
}

fn start(
    settings: Settings,
    runtime: &tokio::runtime::Handle,
    controls: &Controls,
) -> Result<Running, Fault> {
    let name = settings.pipeline.name.clone();
    let running = pipeline::start(settings, runtime).inspect_err(|fault| {
        tracing::error!(pipeline = name, code = fault.code, "pipeline not started: {}", fault.message);
    })?;
    controls.add(running.control());
    Ok(running)
}

/// Waits for all; true when one of them failed.
fn wait(running: Vec<Running>) -> bool {
    std::thread::scope(|scope| {
        let waits: Vec<_> = running
            .into_iter()
            .map(|pipeline| {
                let control = pipeline.control();
                scope.spawn(move || tell_progress(&control));
                scope.spawn(move || pipeline.wait().is_err())
            })
            .collect();
        waits.into_iter().fold(false, |failed, wait| wait.join().unwrap_or(true) || failed)
    })
}

/// One line a minute, as long as the pipeline runs.
fn tell_progress(control: &Control) {
    let mut before = Snapshot::default();
    while !control.wait_for_end(PROGRESS_PERIOD) {
        let now = control.counters();
        tracing::info!(
            pipeline = control.name(),
            messages_per_second = (now.messages - before.messages) / PROGRESS_PERIOD.as_secs(),
            messages = now.messages,
            rows = now.rows,
            rejected = now.rejected,
            fenced = now.fenced,
            latency_p50_ms = now.latency_p50_ms,
            latency_p99_ms = now.latency_p99_ms,
            "progress"
        );
        before = now;
    }
}

/// All pipelines of the process.
#[derive(Default)]
struct Controls {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    controls: Vec<Control>,
    draining: bool,
}

impl Controls {
    /// A pipeline that comes while the process is ending is ended at once.
    fn add(&self, control: Control) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.draining {
            control.stop();
        }
        state.controls.push(control);
    }
}

impl Obeys for Controls {
    fn drain(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.draining = true;
        state.controls.iter().for_each(Control::stop);
    }

    fn reload(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.controls.iter().for_each(Control::check_plugin);
    }
}
