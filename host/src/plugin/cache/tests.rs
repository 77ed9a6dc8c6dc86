//! The compile cache gives back what it was given, or nothing.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::plugin::engine::engine;

/// The smallest component there is.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

fn compiled() -> Vec<u8> {
    engine().precompile_component(EMPTY).expect("an empty component")
}

fn stored(folder: &Path) -> Cache {
    let cache = Cache::at(folder.join("compiled"));
    cache.store(engine(), "digest", &compiled()).expect("stored");
    cache
}

#[test]
fn a_component_is_found_again_by_its_digest() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = stored(folder.path());
    assert!(cache.find(engine(), "digest").is_some());
    assert!(cache.find(engine(), "another").is_none());
    let mode = fs::metadata(folder.path().join("compiled")).expect("the folder").mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_folder_that_others_can_enter_is_not_trusted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = stored(folder.path());
    let compiled = folder.path().join("compiled");
    for (mode, trusted) in [(0o777, false), (0o750, false), (0o700, true)] {
        fs::set_permissions(&compiled, fs::Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(cache.find(engine(), "digest").is_some(), trusted, "{mode:o}");
    }
}

#[test]
fn a_damaged_file_is_not_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = stored(folder.path());
    let file = cache.folder.join(file_name(engine(), "digest"));
    let intact = fs::read(&file).expect("the file");
    for at in (0..intact.len()).step_by(97).chain([0, intact.len() - 1]) {
        let mut damaged = intact.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).expect("write");
        assert!(cache.find(engine(), "digest").is_none(), "byte {at}");
    }
    for bytes in [0, 10, CHECKSUM_BYTES, intact.len() - 1] {
        fs::write(&file, &intact[..bytes]).expect("write");
        assert!(cache.find(engine(), "digest").is_none(), "{bytes} bytes");
    }
    fs::write(&file, &intact).expect("write");
    assert!(cache.find(engine(), "digest").is_some());
}

#[test]
fn the_folder_does_not_grow_without_bound() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = stored(folder.path());
    for number in 0..FILES_MAX + 5 {
        fs::write(cache.folder.join(number.to_string()), "").expect("write");
    }
    cache.store(engine(), "newest", &compiled()).expect("stored");
    assert_eq!(fs::read_dir(&cache.folder).expect("the folder").count(), FILES_MAX);
    assert!(cache.find(engine(), "newest").is_some());
}

#[test]
fn the_folder_has_a_bound_in_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = stored(folder.path());
    // They take no room on the disk.
    let sparse = |name: &str, bytes: u64| {
        let file = File::create(cache.folder.join(name)).expect("create");
        file.set_len(bytes).expect("a length");
        let age = std::time::Duration::from_secs(u64::from(name.as_bytes()[0] - b'a') + 1);
        file.set_modified(std::time::SystemTime::now() - age).expect("a time");
    };
    sparse("a", BYTES_MAX / 2);
    sparse("b", BYTES_MAX / 4);
    sparse("c", BYTES_MAX / 4);
    sparse("d", 1);
    cache.store(engine(), "newest", &compiled()).expect("stored");
    let is_there = |name: &str| cache.folder.join(name).exists();
    // With the newest one `c` passes the bound, and all that is older goes.
    assert_eq!(["a", "b", "c", "d"].map(is_there), [true, true, false, false]);
    assert!(cache.find(engine(), "newest").is_some());
}

#[test]
fn a_folder_that_is_swapped_for_a_link_is_not_followed() {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let (ours, theirs) = (parent.path().join("compiled"), parent.path().join("theirs"));
    for (path, content) in [(&ours, "ours"), (&theirs, "theirs")] {
        DirBuilder::new().mode(0o700).create(path).expect("a folder");
        fs::write(path.join("code"), content).expect("write");
    }
    let open = Folder::open(&ours).expect("private");
    fs::rename(&ours, parent.path().join("moved")).expect("rename");
    std::os::unix::fs::symlink(&theirs, &ours).expect("a link");
    // What was checked is read, and what has its place now is refused.
    assert_eq!(open.read("code").as_deref(), Some(&b"ours"[..]));
    assert!(Folder::open(&ours).is_err());
    assert!(Cache::at(ours).find(engine(), "digest").is_none());
}
