//! The host's commands, as an operator on another machine calls them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::plugins::sluice;

/// What `sluice lag` prints for machines.
pub fn lag(file: &Path) -> Result<Value> {
    let mut command = Command::new(sluice()?);
    command.args(["--format", "json", "lag"]).arg(file).env_remove("RUST_LOG");
    let output = command.output().context("call sluice lag")?;
    if !output.status.success() {
        bail!("sluice lag: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("sluice lag prints no JSON")
}
