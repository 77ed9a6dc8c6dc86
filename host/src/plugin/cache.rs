//! Compiled components on disk, so that a restart or a swap back compiles nothing.
//!
//! What lies here is native code that the host will run: the folder belongs to our user alone, and the
//! key holds the component's digest and everything in wasmtime that its compiled form depends on. Any
//! doubt means compiling again.

use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::process;

/// Files kept; the oldest go first. A host has few plugins, but their versions add up.
const FILES_MAX: usize = 64;

/// Bytes before the compiled component: its SHA-256. A flipped bit must not run.
const CHECKSUM_BYTES: usize = 32;

/// A folder of compiled components.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in the user's cache folder; none when there is no such folder.
    pub fn of_user() -> Option<Self> {
        let from_environment = |name| std::env::var_os(name).map(PathBuf::from);
        let base = from_environment("XDG_CACHE_HOME")
            .or_else(|| from_environment("HOME").map(|home| home.join(".cache")))
            .filter(|path| path.is_absolute())?;
        Some(Self::at(base.join("sluice").join("compiled")))
    }

    /// A cache in `folder`, which is created when the first component is stored.
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The compiled form of the component with this digest, if it was stored by this very version
    /// and configuration of wasmtime and is intact.
    pub(super) fn find(&self, engine: &Engine, digest: &str) -> Option<Component> {
        ensure_private(&self.folder).ok()?;
        let stored = fs::read(self.path(engine, digest)).ok()?;
        let code = intact(&stored)?;
        // SAFETY: the bytes are what we have compiled: only our own user can write to
        // the folder (checked above), files appear complete by a rename, and the checksum holds.
        // Code of another wasmtime or configuration is refused by `deserialize` itself.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Stores the compiled form for later. A failure costs time, nothing else.
    pub(super) fn store(&self, engine: &Engine, digest: &str, code: &[u8]) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder)?;
        ensure_private(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&sealed(code))?;
        file.persist(self.path(engine, digest))?;
        self.prune()
    }

    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        self.folder.join(format!("{digest}-{:016x}.cwasm", hasher.finish()))
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        files.sort();
        for (_, path) in files.iter().rev().skip(FILES_MAX) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// What a file holds: the checksum and the code behind it.
pub(crate) fn sealed(code: &[u8]) -> Vec<u8> {
    [Sha256::digest(code).as_slice(), code].concat()
}

/// The code in a file, if every bit of it is as it was stored.
pub(crate) fn intact(stored: &[u8]) -> Option<&[u8]> {
    let (checksum, code) = stored.split_at_checked(CHECKSUM_BYTES)?;
    (checksum == Sha256::digest(code).as_slice()).then_some(code)
}

/// Refuses a folder that another user could write to or has made.
fn ensure_private(folder: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    let others_may = metadata.mode() & 0o077;
    if metadata.is_dir() && metadata.uid() == process::user() && others_may == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} is not private to this user", folder.display())))
    }
}

#[cfg(test)]
mod tests;
