//! Where the tests keep files: beside the binaries in the target folder, and in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};

/// The profile's folder in the target folder, `target/debug`: there the binaries are.
pub fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let deps = own.parent().context("the test binary is in no folder")?;
    Ok(if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps }.to_path_buf())
}

/// The target folder.
pub fn target() -> Result<PathBuf> {
    Ok(binaries()?.parent().context("the target folder has no parent")?.to_path_buf())
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A folder of this process for data and logs. Those of processes that have ended go first.
pub fn scratch() -> Result<&'static Path> {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    if let Some(folder) = SCRATCH.get() {
        return Ok(folder);
    }
    let runs = target()?.join("tmp").join("e2e");
    fs::create_dir_all(&runs)?;
    for entry in fs::read_dir(&runs)?.flatten() {
        let alive = Path::new("/proc").join(entry.file_name()).exists();
        if !alive {
            // Another test process may be clearing the same folder.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let own = runs.join(std::process::id().to_string());
    fs::create_dir_all(&own)?;
    Ok(SCRATCH.get_or_init(|| own))
}

/// A new folder named `name` in [`scratch`].
pub fn scratch_for(name: &str) -> Result<PathBuf> {
    let folder = scratch()?.join(name);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// The user's cache folder for what the tests fetch once.
pub fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from(
            std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?,
        )
        .join(".cache"),
    };
    Ok(base.join("sluice"))
}
