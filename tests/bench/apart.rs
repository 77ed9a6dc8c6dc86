//! Work in a process of its own: this program, started once more.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use sluice_tests::child;

use crate::inside::Work;

/// Starts a process that does `work`; what goes wrong stands in `log`.
pub fn start(work: &Work, log: &Path) -> Result<Child> {
    // A session of its own can be preferred to others.
    let mut command = child::command("setsid");
    command.arg(std::env::current_exe()?).arg("--inside").arg(serde_json::to_string(work)?);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
    child::spawn(command)
}

/// The end of a log.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("the process failed:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}

/// A process that says how far it is, each time in a line.
pub struct Party<T> {
    child: Child,
    orders: Option<ChildStdin>,
    latest: Arc<Mutex<T>>,
    listener: Option<JoinHandle<()>>,
    log: PathBuf,
}

impl<T: DeserializeOwned + Default + Clone + Send + 'static> Party<T> {
    /// Starts it; its log goes to `name.log` in `folder`.
    pub fn start(work: &Work, folder: &Path, name: &str) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let mut child = start(work, &log)?;
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().context("the process has no output")?);
        let latest = Arc::new(Mutex::new(T::default()));
        let told = latest.clone();
        let listener = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str(&line) {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = said;
                }
            }
        });
        Ok(Self { child, orders, latest, listener: Some(listener), log })
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said last. An error when it has ended.
    pub fn latest(&mut self) -> Result<T> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{}\n{status}", tail(&self.log));
        }
        Ok(self.said())
    }

    /// Tells it a number.
    pub fn tell(&mut self, number: u64) -> Result<()> {
        let orders = self.orders.as_mut().context("the process has no input")?;
        writeln!(orders, "{number}").with_context(|| tail(&self.log))
    }

    /// Lets it come to its end, and returns its last word.
    pub fn finish(mut self) -> Result<T> {
        drop(self.orders.take());
        let status = self.child.wait()?;
        if let Some(listener) = self.listener.take() {
            listener.join().ok().context("the listener panicked")?;
        }
        if !status.success() {
            bail!("{}\n{status}", tail(&self.log));
        }
        Ok(self.said())
    }

    fn said(&self) -> T {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T> Drop for Party<T> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
    }
}
