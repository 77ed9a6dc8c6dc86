//! Compiled components on disk, so that a restart or a swap back compiles nothing.
//!
//! What lies here is native code that the host will run: the folder belongs to our user alone, and the
//! key contains the component's digest and everything in wasmtime that its compiled form depends on. Any
//! doubt means compiling again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::{files, process};

/// Files kept; the oldest go first. A host has few plugins, but their versions add up.
const FILES_MAX: usize = 64;

/// Bytes of all files together: the compiled form of a large plugin has 200 MB.
const BYTES_MAX: u64 = 1 << 30;

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
        let stored = Folder::open(&self.folder).ok()?.read(&file_name(engine, digest))?;
        let code = intact(&stored)?;
        // SAFETY: the bytes are what we have compiled: only our own user can write to the
        // folder that they were read in, files appear complete by a rename, and the checksum matches.
        // Code of another wasmtime or configuration is refused by `deserialize` itself.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Stores the compiled form for later. A failure costs time, nothing else.
    pub(super) fn store(&self, engine: &Engine, digest: &str, code: &[u8]) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&self.folder)?;
        let folder = Folder::open(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder.path())?;
        file.write_all(&sealed(code))?;
        file.persist(folder.path().join(file_name(engine, digest)))?;
        folder.prune()
    }
}

fn file_name(engine: &Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{digest}-{:016x}.cwasm", hasher.finish())
}

/// The folder itself, opened: whatever is put in the place of its path later, files are found in the folder that
/// was checked.
struct Folder {
    open: File,
}

impl Folder {
    /// Refuses a link, and a folder that another user could write to or has made.
    fn open(path: &Path) -> io::Result<Self> {
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let open = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let metadata = open.metadata()?;
        let others_may = metadata.mode() & 0o077;
        if metadata.uid() == process::user() && others_may == 0 {
            Ok(Self { open })
        } else {
            Err(io::Error::other(format!("{} is not private to this user", path.display())))
        }
    }

    /// Leads to the open folder, not to what has its name now.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.open.as_raw_fd()))
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let (bytes, _) = files::read_regular(&self.path().join(name), BYTES_MAX).ok()?;
        Some(bytes)
    }

    /// Removes the oldest files beyond what may be kept.
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            files.push((metadata.modified()?, entry.path(), metadata.len()));
        }
        files.sort();
        let mut bytes = 0;
        for (count, (_, path, length)) in (1..).zip(files.iter().rev()) {
            bytes += length;
            if count > FILES_MAX || bytes > BYTES_MAX {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// What a file contains: the checksum and the code behind it.
pub(crate) fn sealed(code: &[u8]) -> Vec<u8> {
    [Sha256::digest(code).as_slice(), code].concat()
}

/// The code in a file, if every bit of it is as it was stored.
pub(crate) fn intact(stored: &[u8]) -> Option<&[u8]> {
    let (checksum, code) = stored.split_at_checked(CHECKSUM_BYTES)?;
    (checksum == Sha256::digest(code).as_slice()).then_some(code)
}

#[cfg(test)]
mod tests;
