//! Reads files whose place others may write to: whoever may do that can put a pipe or a device there, or go on writing.

use std::fs::{Metadata, OpenOptions};
use std::io::{Error, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Changes whenever a file is written to or replaced, as far as the file system tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    modified: (i64, i64),
    bytes: u64,
    inode: u64,
}

impl Stamp {
    /// Of the file as it is now; `None` when there is none.
    pub fn of(file: &Path) -> Option<Self> {
        std::fs::metadata(file).ok().map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        Self { modified, bytes: metadata.len(), inode: metadata.ino() }
    }
}

/// Why a file was not read.
#[derive(Debug)]
pub enum Unread {
    /// The system says so.
    Failed(Error),
    /// It is a folder, a pipe, a socket or a device.
    NotRegular,
    /// It has at least so many bytes, which is too many.
    TooLarge(u64),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// All of a regular file of at most `bytes_max`, and what the system says of it. Waits for nobody, and reads no more than
/// that, whatever the file's length is said to be.
///
/// # Errors
/// As [`Unread`] says.
pub fn read_regular(path: &Path, bytes_max: u64) -> Result<(Vec<u8>, Metadata), Unread> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unread::NotRegular);
    }
    if metadata.len() > bytes_max {
        return Err(Unread::TooLarge(metadata.len()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    let count = bytes.len() as u64;
    if count > bytes_max { Err(Unread::TooLarge(count)) } else { Ok((bytes, metadata)) }
}
