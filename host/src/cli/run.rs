//! `sluice run`: pipelines until SIGTERM. Each file is a pipeline of its own; one that is held does not stop
//! the others.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use clap::Args;

use crate::fault::{self, Fault};
use crate::pipeline;
use crate::pipeline::counters::Snapshot;
use crate::pipeline::supervisor::{Handle, Supervisor};
use crate::plugin::limits::THREAD_STACK_BYTES;
use crate::settings::Settings;
use crate::shutdown::{self, Obeys};

/// Which pipelines to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files, one pipeline each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Runs the pipelines until they have ended. What is wrong with one holds that one; only settings that cannot
/// be read end the process before anything has begun.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = Settings::load_all(&arguments.files)?;
    let runtime = pipeline::runtime()?;
    let pipelines: Vec<Supervisor> =
        all.into_iter().map(|settings| Supervisor::new(settings, runtime.handle())).collect();
    let handles = pipelines.iter().map(Supervisor::handle).collect();
    shutdown::listen(Arc::new(Handles(handles)))?;
    let faults = thread::scope(|scope| {
        let waits: Vec<_> = pipelines.into_iter().map(|it| spawn(scope, it)).collect();
        waits.into_iter().filter_map(ended).collect::<Vec<_>>()
    });
    // Connections that were thrown away may still be waiting for a server that is gone.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match faults.into_iter().next() {
        None => Ok(()),
        Some((name, fault)) => Err(anyhow::Error::from(fault).context(format!("pipeline {name}"))),
    }
}

type End = Result<Snapshot, Fault>;

fn spawn<'scope>(
    scope: &'scope Scope<'scope, '_>,
    pipeline: Supervisor,
) -> (String, ScopedJoinHandle<'scope, End>) {
    let name = pipeline.name().to_owned();
    let thread = thread::Builder::new().name(name.clone()).stack_size(THREAD_STACK_BYTES);
    let wait = thread.spawn_scoped(scope, || pipeline.run()).expect("the system gives a thread");
    (name, wait)
}

/// Waits for the end of a pipeline; its fault, if it has one.
fn ended((name, wait): (String, ScopedJoinHandle<'_, End>)) -> Option<(String, Fault)> {
    let end = wait.join().unwrap_or_else(|_| {
        Err(Fault::stop(fault::PANIC, "the thread that kept the pipeline going panicked"))
    });
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
