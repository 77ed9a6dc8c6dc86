//! The host's binary and the plugins, built once per test process.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::folders;

/// The host's binary, up to date.
pub fn sluice() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_host().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// The component of the plugin `name`, such as `readings` or `hostile-trap`.
pub fn plugin(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build_plugins().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))?;
    let path = folders::target()?.join("plugins").join(format!("{name}.wasm"));
    if !path.exists() {
        bail!("`sluice plugin build` made no {}", path.display());
    }
    Ok(path)
}

fn build_host() -> Result<PathBuf> {
    let binaries = folders::binaries()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(folders::workspace()).args([
        "build",
        "--quiet",
        "--package",
        "sluice",
        "--target-dir",
    ]);
    cargo.arg(folders::target()?);
    if binaries.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("run cargo")?;
    if !status.success() {
        bail!("the host does not build: {status}");
    }
    Ok(binaries.join("sluice"))
}

fn build_plugins() -> Result<()> {
    let mut build = Command::new(sluice()?);
    build
        .args(["plugin", "build"])
        .current_dir(folders::workspace())
        .env("CARGO_TARGET_DIR", folders::target()?);
    let output = build.output().context("run `sluice plugin build`")?;
    if !output.status.success() {
        bail!("`sluice plugin build` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
