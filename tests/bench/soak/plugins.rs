//! Two versions of a plugin that differ in nothing but their digest.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// An empty custom section called `bench`: its id, its length, the length of its name, its name.
const NOTE: &[u8] = b"\0\x06\x05bench";

/// The file that the host watches, and what it contains in turn.
pub struct Plugins {
    file: PathBuf,
    versions: [Vec<u8>; 2],
    swaps: u64,
}

impl Plugins {
    /// The version in `file` is the first.
    pub fn place(file: PathBuf) -> Result<Self> {
        let first = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let second = [&first, NOTE].concat();
        Ok(Self { file, versions: [first, second], swaps: 0 })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How often it was replaced.
    pub fn swaps(&self) -> u64 {
        self.swaps
    }

    /// Puts the other version in place, at once.
    pub fn swap(&mut self) -> Result<()> {
        self.swaps += 1;
        let beside = self.file.with_extension("new");
        fs::write(&beside, &self.versions[(self.swaps % 2) as usize])?;
        fs::rename(beside, &self.file).context("replace the plugin")
    }
}
