//! `sluice run`: pipelines until SIGTERM. Each file is a pipeline of its own; one that is blocked does not stop
//! the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::connections;
use crate::explain;
use crate::fault::{self, Fault};
use crate::pipeline;
use crate::pipeline::counters::Snapshot;
use crate::pipeline::supervisor::{Handle, Supervisor};
use crate::settings::Settings;
use crate::shutdown::{self, Obeys};
use crate::threads::Job;

/// Which pipelines to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files, one pipeline each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Runs the pipelines until they have ended. What is wrong with one blocks that one; only settings that cannot
/// be read end the process before anything has begun.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = Settings::load_all(&arguments.files)?;
    let runtime = pipeline::runtime()?;
    for fault in all.iter().flat_map(Settings::warnings) {
        warn("brokers are not checked", &fault);
    }
    let settings = all.clone();
    // Beside their start, which does not wait for it.
    runtime.spawn(async move {
        for fault in connections::shortages(&settings, true).await {
            warn("few connections", &fault);
        }
    });
    let pipelines: Vec<Supervisor> =
        all.into_iter().map(|settings| Supervisor::new(settings, runtime.handle())).collect();
    let handles = pipelines.iter().map(Supervisor::handle).collect();
    shutdown::listen(Arc::new(Handles(handles)))?;
    let jobs: Vec<_> = pipelines.into_iter().map(|it| (it.name().to_owned(), it.start())).collect();
    let faults: Vec<_> = jobs.into_iter().filter_map(ended).collect();
    // Connections that were thrown away may still be waiting for a server that is gone.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match faults.into_iter().next() {
        None => Ok(()),
        Some((name, fault)) => Err(anyhow::Error::from(fault).context(format!("pipeline {name}"))),
    }
}

fn warn(what: &str, fault: &Fault) {
    let hint = explain::hint(fault.code);
    tracing::warn!(code = fault.code, hint, "{what}: {}", fault.message);
}

/// Waits for the end of a pipeline; its fault, if it has one.
fn ended((name, job): (String, Job<Result<Snapshot, Fault>>)) -> Option<(String, Fault)> {
    let end = job.join().unwrap_or_else(|| Err(fault::panicked("what kept the pipeline going")));
    end.err().map(|fault| (name, fault))
}

/// All pipelines of the process.
struct Handles(Vec<Handle>);

impl Obeys for Handles {
    fn drain(&self) {
        self.0.iter().for_each(Handle::stop);
    }

    fn reload(&self) {
        self.0.iter().for_each(Handle::check_plugin);
    }
}
