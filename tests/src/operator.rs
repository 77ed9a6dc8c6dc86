//! The host's commands, as an operator on another machine calls them.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::plugins::sluice;

/// Calls `sluice` with `arguments` and a settings file.
pub fn call(arguments: &[&str], file: &Path) -> Result<Output> {
    let mut command = Command::new(sluice()?);
    command.args(arguments).arg(file).env_remove("RUST_LOG").output().context("call sluice")
}

/// What `sluice lag` prints for machines.
pub fn lag(file: &Path) -> Result<Value> {
    let output = call(&["--format", "json", "lag"], file)?;
    if !output.status.success() {
        bail!("sluice lag: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("sluice lag prints no JSON")
}
