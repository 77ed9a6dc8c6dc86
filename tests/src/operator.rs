//! The host's commands, as an operator on another machine calls them.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::plugins::sluice;
use crate::postgres::Database;

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

/// Code and reason of what blocks `pipeline`, or one of its partitions; none while nothing does.
pub fn blocked(database: &Database, pipeline: &str) -> Result<Option<(String, String)>> {
    if !database.is_true("SELECT to_regclass('sluice.blocks') IS NOT NULL")? {
        return Ok(None);
    }
    let sql =
        "SELECT code, reason FROM sluice.blocks WHERE pipeline = $1 ORDER BY partition LIMIT 1";
    let rows = database.query(sql, &[&pipeline])?;
    Ok(rows.first().map(|row| (row.get(0), row.get(1))))
}
