//! Hosts as an operator has them: the real binary, a settings file, signals, and a log to wait for.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use events::Event;
pub use pipeline::Pipeline;

use crate::child::{self, Signal};
use crate::wait::{SOON, until};
use events::Events;

mod events;
mod pipeline;

/// A running `sluice run`. Dropping it kills it.
#[derive(Debug)]
pub struct Host {
    name: String,
    child: Child,
    events: Arc<Events>,
    log: PathBuf,
}

impl Host {
    /// Starts `sluice run` on `files`; its log goes to `name.log` in `folder`.
    pub fn start(name: &str, folder: &Path, files: &[PathBuf]) -> Result<Self> {
        Self::spawn(name, folder, files, child::command(crate::plugins::sluice()?))
    }

    /// Starts `run` of another program.
    pub fn start_program(
        program: &Path,
        name: &str,
        folder: &Path,
        files: &[PathBuf],
    ) -> Result<Self> {
        Self::spawn(name, folder, files, child::command(program))
    }

    /// Starts `sluice run` with a variable in its environment.
    pub fn start_with_variable(
        name: &str,
        folder: &Path,
        files: &[PathBuf],
        (variable, value): (&str, &str),
    ) -> Result<Self> {
        let mut command = child::command(crate::plugins::sluice()?);
        command.env(variable, value);
        Self::spawn(name, folder, files, command)
    }

    /// The same with at most `data_bytes` of memory of its own: what asks for more does not get it.
    pub fn start_with_memory(
        name: &str,
        folder: &Path,
        files: &[PathBuf],
        data_bytes: u64,
    ) -> Result<Self> {
        let mut command = child::command("prlimit");
        command.arg(format!("--data={data_bytes}")).arg(crate::plugins::sluice()?);
        // Each arena counts in full as soon as a thread takes a first byte of it.
        command.env("MALLOC_ARENA_MAX", "2");
        Self::spawn(name, folder, files, command)
    }

    fn spawn(name: &str, folder: &Path, files: &[PathBuf], mut command: Command) -> Result<Self> {
        command.arg("run").args(files).args(["--log-format", "json"]);
        command
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = child::spawn(command)?;
        let log = folder.join(format!("{name}.log"));
        let stderr = child.stderr.take().context("the host has no stderr")?;
        let events = Events::collect(stderr, File::create(&log)?);
        Ok(Self { name: name.to_owned(), child, events, log })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first event `message` that there ever was.
    pub fn wait_for(&self, message: &str, limit: Duration) -> Result<Event> {
        self.wait_for_nth(message, 1, limit)
    }

    /// Waits until `message` was logged `count` times, and returns the last of them.
    pub fn wait_for_nth(&self, message: &str, count: usize, limit: Duration) -> Result<Event> {
        let what =
            format!("{} logs `{message}` {count} times, see {}", self.name, self.log.display());
        self.events
            .wait(limit, |events| {
                events.iter().filter(|event| event.is(message)).nth(count - 1).cloned()
            })
            .with_context(|| format!("waited {limit:?} in vain until {what}\n{}", self.tail()))
    }

    /// Waits for the first event of which `is_it` is true; `what` says what it is.
    pub fn wait_for_event(
        &self,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        let find = |events: &[Event]| events.iter().find(|event| is_it(event)).cloned();
        self.events.wait(limit, find).with_context(|| {
            let (name, log) = (&self.name, self.log.display());
            format!("waited {limit:?} in vain until {name} logs {what}, see {log}\n{}", self.tail())
        })
    }

    /// Waits until all pipelines of the host have started.
    pub fn wait_until_started(&self) -> Result<()> {
        self.wait_for("pipeline started", SOON).map(drop)
    }

    /// All events `message` so far.
    pub fn events(&self, message: &str) -> Vec<Event> {
        self.events.all().into_iter().filter(|event| event.is(message)).collect()
    }

    /// How often lanes have swapped to the version with this SHA-256 digest.
    pub fn swaps_to(&self, digest: &str) -> usize {
        let is_it = |event: &Event| event.text("digest").is_some_and(|it| digest.starts_with(&it));
        self.events("plugin swapped").into_iter().filter(is_it).count()
    }

    /// All events so far.
    pub fn all_events(&self) -> Vec<Event> {
        self.events.all()
    }

    /// The end of the log, for a person.
    pub fn tail(&self) -> String {
        let events = self.events.all();
        let last = &events[events.len().saturating_sub(15)..];
        last.iter().map(|event| format!("  {}\n", event.line)).collect()
    }

    /// Memory that is resident now, in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        child::resident_bytes(self.pid())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        child::signal(self.pid(), signal)
    }

    /// Ends the host at once, as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop).context("wait for the killed host")
    }

    /// Asks the host to end and returns its exit code and its events.
    pub fn terminate(self) -> Result<(i32, Vec<Event>)> {
        self.signal(Signal::Terminate)?;
        self.wait(SOON)
    }

    /// Terminates the host, which must end with 0, and returns its events.
    pub fn drain(self) -> Result<Vec<Event>> {
        let name = self.name.clone();
        let (code, events) = self.terminate()?;
        if code != 0 {
            let lines: String = events
                .iter()
                .rev()
                .take(10)
                .rev()
                .map(|event| format!("  {}\n", event.line))
                .collect();
            bail!("{name} ended with {code}\n{lines}");
        }
        Ok(events)
    }

    /// Waits until the host has ended by itself; returns its exit code and its events.
    pub fn wait(mut self, limit: Duration) -> Result<(i32, Vec<Event>)> {
        let what = format!("{} has ended", self.name);
        let status =
            until(&what, limit, || Ok(self.child.try_wait()?)).with_context(|| self.tail())?;
        self.events.wait_until_closed(SOON)?;
        let code = status.code().with_context(|| format!("{} ended with {status}", self.name))?;
        Ok((code, self.events.all()))
    }

    /// True while the process is there.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
