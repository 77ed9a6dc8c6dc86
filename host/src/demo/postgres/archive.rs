//! The archive with the Postgres server's programs: known by its hash, and unpacked into one folder and nowhere else.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Component, Path};

use anyhow::{Context, Result, bail};
use liblzma::read::XzDecoder;
use tar::{Archive, Entry, EntryType};
use zip::ZipArchive;

/// Pinned, so that everyone sees the same; the hashes below are of this version.
pub(super) const VERSION: &str = "17.11.0";

/// For each system and processor the SHA-256 of the archive on Maven Central,
/// `io.zonky.test.postgres:embedded-postgres-binaries-*`. The repository names a checksum itself; whoever could
/// replace the one could replace the other.
const ARCHIVES: [(&str, &str, &str); 4] = [
    ("linux", "x86_64", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d"),
    ("linux", "aarch64", "8b042e0ea418b1927d95399207950da0734d27fe01e29503ade3bdc464ad4c2b"),
    ("macos", "x86_64", "d464ff178e9860ba204662ac23fa547504b7fd392392ff2fb92e3fd73b5bdb64"),
    ("macos", "aarch64", "a1c2786acb0c398f9b2d76806fc52f5dc8b222cbc8e9383a9b9702084daaf3a5"),
];

/// The SHA-256 of this machine's archive, in hexadecimal.
///
/// # Errors
/// When there is none for this machine.
pub(super) fn expected_here() -> Result<&'static str> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    let found = ARCHIVES.iter().find(|known| (known.0, known.1) == (system, processor));
    match found {
        Some((.., hash)) => Ok(hash),
        None => bail!("no archive is known for {system} on {processor}"),
    }
}

/// Unpacks `archive` into `home`, which appears complete or not at all.
///
/// # Errors
/// When the archive's hash is another one than `expected`, or something in it lies outside of `home`.
pub(super) fn install(archive: &[u8], expected: &str, home: &Path) -> Result<()> {
    let found = crate::plugin::load::digest_of(archive);
    if found != expected {
        bail!("the archive is not the one that is known: its SHA-256 is {found}, not {expected}");
    }
    let parent = home.parent().context("the folder is in no other")?;
    fs::create_dir_all(parent)?;
    let folder = tempfile::tempdir_in(parent)?;
    unpack(archive, folder.path())?;
    // Somebody else may have been faster: theirs is the same.
    match fs::rename(folder.path(), home) {
        Err(error) if !home.is_dir() => Err(error).context("move the programs to their folder"),
        _ => Ok(()),
    }
}

/// The archive is a zip with one compressed tar in it.
fn unpack(archive: &[u8], folder: &Path) -> Result<()> {
    let mut zip = ZipArchive::new(Cursor::new(archive)).context("read the archive")?;
    let is_programs = |index: &usize| match zip.name_for_index(*index) {
        Some(Ok(name)) => name.ends_with(".txz"),
        _ => false,
    };
    let inner = (0..zip.len()).find(is_programs);
    let inner = zip.by_index(inner.context("the archive has no programs in it")?)?;
    let mut tar = Archive::new(XzDecoder::new(inner));
    for entry in tar.entries()? {
        put(&mut entry?, folder)?;
    }
    Ok(())
}

fn put(entry: &mut Entry<'_, impl Read>, folder: &Path) -> Result<()> {
    let path = entry.path()?.into_owned();
    if depth(&path, 0).is_none() {
        bail!("the archive would write outside of its folder: {}", path.display());
    }
    let kind = entry.header().entry_type();
    let link = entry.link_name()?;
    let from = match kind {
        EntryType::Regular | EntryType::Directory => None,
        // The one leads on from where it is, the other names a file of the archive.
        EntryType::Symlink => depth(path.parent().unwrap_or(Path::new("")), 0),
        EntryType::Link => Some(0),
        other => bail!("the archive has {other:?} in it: {}", path.display()),
    };
    let inside = from.is_none_or(|from| link.is_some_and(|link| depth(&link, from).is_some()));
    // The library checks again, and links that were unpacked before as well.
    if !inside || !entry.unpack_in(folder)? {
        bail!("the archive would write outside of its folder: {}", path.display());
    }
    Ok(())
}

/// How many folders deep `path` leads, from a place `from` deep; `None` when it leads outside on the way.
fn depth(path: &Path, from: usize) -> Option<usize> {
    path.components().try_fold(from, |depth, part| match part {
        Component::Normal(_) => Some(depth + 1),
        Component::CurDir => Some(depth),
        Component::ParentDir => depth.checked_sub(1),
        Component::RootDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use tar::Header;

    use super::*;

    /// An entry: its kind, its name, and what it links to.
    type Part = (EntryType, &'static str, &'static str);

    const PROGRAM: Part = (EntryType::Regular, "bin/postgres", "");

    fn archive(parts: &[Part]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (kind, name, link) in parts {
            let content: &[u8] = if *kind == EntryType::Regular { b"program" } else { b"" };
            let mut header = Header::new_old();
            // Written as they are: the library itself would reject some of them.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_cksum();
            tar.append(&header, content).unwrap();
        }
        let mut compressed = liblzma::write::XzEncoder::new(Vec::new(), 1);
        compressed.write_all(&tar.into_inner().unwrap()).unwrap();
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("postgres.txz", options).unwrap();
        zip.write_all(&compressed.finish().unwrap()).unwrap();
        zip.finish().unwrap().into_inner()
    }

    /// Installs it into a folder of its own; what it says, and the folder.
    fn installed(archive: &[u8], expected: &str) -> (Result<(), String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let result = install(archive, expected, &folder.path().join("cache/home"));
        (result.map_err(|error| format!("{error:#}")), folder)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn programs_and_links_among_them_are_unpacked() {
        let archive = archive(&[
            (EntryType::Directory, "bin/", ""),
            PROGRAM,
            (EntryType::Symlink, "lib/here", "../bin/./postgres"),
            (EntryType::Link, "bin/same", "bin/postgres"),
        ]);
        let (result, folder) = installed(&archive, &crate::plugin::load::digest_of(&archive));
        assert_eq!(result, Ok(()));
        let home = folder.path().join("cache/home");
        for name in ["bin/postgres", "lib/here", "bin/same"] {
            assert_eq!(fs::read(home.join(name)).unwrap(), b"program", "{name}");
        }
        let mode = fs::metadata(home.join("bin/postgres")).unwrap().permissions().mode();
        assert_eq!(mode & 0o100, 0o100);
        assert_eq!(names(&folder.path().join("cache")), ["home"]);
    }

    #[test]
    fn nothing_is_written_outside_of_the_folder() {
        for part in [
            (EntryType::Regular, "../evil", ""),
            (EntryType::Regular, "bin/../../evil", ""),
            (EntryType::Regular, "/tmp/sluice-evil", ""),
            (EntryType::Symlink, "bin/evil", "/etc"),
            (EntryType::Symlink, "bin/evil", "../../evil"),
            (EntryType::Link, "bin/evil", "../evil"),
            (EntryType::Link, "bin/evil", "/etc/passwd"),
            (EntryType::Fifo, "bin/evil", ""),
        ] {
            let archive = archive(&[PROGRAM, part]);
            let (result, folder) = installed(&archive, &crate::plugin::load::digest_of(&archive));
            let error = result.expect_err("refused");
            assert!(error.starts_with("the archive "), "{part:?}: {error}");
            assert_eq!(names(folder.path()), ["cache"], "{part:?}");
            assert_eq!(names(&folder.path().join("cache")), [""; 0], "{part:?}");
        }
        assert!(!Path::new("/tmp/sluice-evil").exists());
    }

    #[test]
    fn another_archive_than_the_known_one_is_not_even_read() {
        let archive = archive(&[PROGRAM]);
        let (result, folder) = installed(&archive, expected_here().unwrap());
        let error = result.expect_err("refused");
        assert!(error.starts_with("the archive is not the one that is known"), "{error}");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}
