//! `sluice run`: pipelines until SIGTERM. Each file is a pipeline of its own; one that fails does not stop
//! the others.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;

use crate::fault::Fault;
use crate::pipeline::counters::Snapshot;
use crate::pipeline::{self, Control, Running};
use crate::settings::Settings;
use crate::shutdown::{self, Obeys};

/// How often a running pipeline says how it is doing.
const PROGRESS_PERIOD: Duration = Duration::from_mins(1);

/// Which pipelines to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files, one pipeline each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Runs the pipelines until they have ended; one that fails does not stop the others.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = Settings::load_all(&arguments.files)?;
    let runtime = pipeline::runtime()?;
    let controls = Arc::new(Controls::default());
    shutdown::listen(controls.clone())?;

    let (mut running, mut faults) = (Vec::new(), Vec::new());
    for settings in all {
        let name = settings.pipeline.name.clone();
        match pipeline::start(&settings, runtime.handle()) {
            Ok(pipeline) => {
                controls.add(pipeline.control());
                running.push(pipeline);
            }
            Err(fault) => faults.push((name, fault)),
        }
    }
    if !running.is_empty() {
        for (name, fault) in &faults {
            let code = fault.code;
            tracing::error!(pipeline = name, code, "pipeline not started: {}", fault.message);
        }
        faults.extend(wait(running));
    }
    // Connections that were thrown away may still be waiting for a server that is gone.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match faults.into_iter().next() {
        None => Ok(()),
        Some((name, fault)) => Err(anyhow::Error::from(fault).context(format!("pipeline {name}"))),
    }
}

/// Waits for all; the faults of those that failed, by name.
fn wait(running: Vec<Running>) -> Vec<(String, Fault)> {
    std::thread::scope(|scope| {
        let waits: Vec<_> = running
            .into_iter()
            .map(|pipeline| {
                let control = pipeline.control();
                let name = control.name().to_owned();
                scope.spawn(move || tell_progress(&control));
                (name, scope.spawn(move || pipeline.wait()))
            })
            .collect();
        let ends = waits.into_iter().map(|(name, wait)| {
            let end = wait.join().unwrap_or_else(|_| {
                Err(Fault::stop("SL-X001", "the thread that waited for the pipeline panicked"))
            });
            end.err().map(|fault| (name, fault))
        });
        ends.flatten().collect()
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
            paused_lanes = now.paused_lanes,
            relayed = now.relayed,
            relay_waiting = now.relay_waiting,
            relay_oldest_seconds = now.relay_oldest_seconds,
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
