//! A disk that can be filled to the last byte: a file system of its own in memory, which only root may mount.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _, stderr};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use sluice::demo::postgres::Throwaway;

const BLOCK_BYTES: usize = 4096;

/// Unmounts when its standard input ends, however we do.
const KEEPER: &str = r#"trap '' INT TERM HUP; cat > /dev/null; umount -l "$1"; rmdir "$1""#;

/// A mounted file system. Gone when it is dropped or its process ends.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
    keeper: Child,
}

impl SmallDisk {
    /// Mounts a disk of `mib`. None where this process may not mount; then a line says so that even those see
    /// who are shown nothing of tests that pass.
    pub fn mount(name: &str, mib: usize) -> Result<Option<Self>> {
        // Not in the target folder, which may lie where Postgres' user has no access.
        let folder =
            std::env::temp_dir().join(format!("sluice-disk-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "sluice"])
            .arg(&folder)
            .output()
            .context("run mount")?;
        if output.status.success() {
            return Self::keep(folder).map(Some);
        }
        fs::remove_dir(&folder)?;
        let reason = String::from_utf8_lossy(&output.stderr);
        // The harness keeps what `eprintln!` says to itself.
        writeln!(
            stderr(),
            "SKIPPED {name}: no disk can be mounted to be filled: {}",
            reason.trim()
        )?;
        Ok(None)
    }

    fn keep(folder: PathBuf) -> Result<Self> {
        let keeper = Command::new("setsid")
            .args(["sh", "-c", KEEPER, "sh"])
            .arg(&folder)
            .stdin(Stdio::piped())
            .spawn()
            .context("start the shell that unmounts")?;
        Ok(Self { folder, keeper })
    }

    /// Lets `server` write to it.
    pub fn give_to(&self, server: &Throwaway) -> Result<()> {
        let user = fs::metadata(server.socket_folder())?.uid();
        chown(&self.folder, Some(user), None).context("hand the disk to Postgres' user")
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes all space that is left.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::options().create(true).append(true).open(self.ballast())?;
        // Whole megabytes first; the last blocks one by one.
        for bytes in [1 << 20, BLOCK_BYTES] {
            let zeros = vec![0; bytes];
            loop {
                match ballast.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("fill {}: {error}", self.folder.display()),
                }
            }
        }
        Ok(())
    }

    /// Gives back what [`SmallDisk::fill`] took.
    pub fn free(&self) -> Result<()> {
        fs::remove_file(self.ballast()).context("free the disk")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}
