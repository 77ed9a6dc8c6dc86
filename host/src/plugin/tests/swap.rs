//! Swaps by replacing the file: what is taken over, what is refused, and that the old one goes on.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::fault::Fault;
use crate::plugin::watch::{Look, Watch};
use crate::threads;

/// What a lane would work with: the generation and what the gate made of it.
type Active = (String, Arc<Generation>);

type Gate = fn(&Arc<Generation>) -> Result<Active, Fault>;

#[allow(clippy::unnecessary_wraps, reason = "a gate")]
fn admit(generation: &Arc<Generation>) -> Result<Active, Fault> {
    Ok((generation.digest.clone(), Arc::clone(generation)))
}

/// A running plugin in a temporary file, and its watch.
struct Running {
    folder: tempfile::TempDir,
    slot: Arc<Slot<Active>>,
    watch: Watch<Active, Gate>,
    first: Arc<Generation>,
}

impl Running {
    fn new(gate: Gate) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("plugin.wasm");
        fs::copy(component("hostile"), &file).expect("copy");
        let loader = loader(json!({}));
        let first = loader.load_file(&file).expect("a plugin that loads");
        let slot = Arc::new(Slot::new(Arc::new(admit(&first).expect("admitted"))));
        let watch = Watch::new(file, loader, Arc::clone(&slot), Arc::clone(&first), gate);
        Self { folder, slot, watch, first }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("plugin.wasm")
    }

    /// Replaces the file as a deployment does: written beside, renamed.
    fn deploy(&self, bytes: &[u8]) {
        let temporary = self.folder.path().join("next");
        fs::write(&temporary, bytes).expect("write");
        fs::rename(temporary, self.file()).expect("rename");
    }

    /// Looks until there is nothing new, and says what was found.
    fn look(&mut self) -> Vec<String> {
        let mut found = Vec::new();
        for _ in 0..10 {
            found.push(match self.watch.look() {
                Look::Same => return found,
                Look::Settling => "settling".into(),
                Look::Missing => "missing".into(),
                Look::Published(_) => "published".into(),
                Look::Refused(fault) => fault.to_string(),
                Look::PutOff(fault) => format!("put off: {fault}"),
            });
        }
        found
    }

    fn assert_unchanged(&self) {
        assert_eq!(self.slot.current().0, self.first.digest);
    }
}

fn bytes_of(name: &str) -> Vec<u8> {
    fs::read(component(name)).expect("a component")
}

/// The same plugin with another digest: a custom section, which nobody reads, is appended.
fn next_version(mark: u8) -> Vec<u8> {
    let mut bytes = bytes_of("hostile");
    bytes.extend([0, 3, 1, b'v', mark]);
    bytes
}

#[test]
fn a_new_version_is_published_once_it_is_found_twice() {
    let mut running = Running::new(admit);
    assert_eq!(running.look(), [""; 0]);
    let lane = running.slot.current();
    running.deploy(&next_version(1));
    assert_eq!(running.look(), ["settling", "published"]);
    let lane = running.slot.newer_than(&lane).expect("a newer version");
    assert_eq!(lane.0, load::digest_of(&next_version(1)));
    assert_eq!(running.look(), [""; 0]);
    // Back to the first one, which the watch has seen before.
    running.deploy(&bytes_of("hostile"));
    assert_eq!(running.look(), ["settling", "published"]);
    running.assert_unchanged();
}

#[test]
fn a_version_that_is_not_fit_is_refused_once_and_the_old_one_goes_on() {
    let mut running = Running::new(admit);
    let mut table = String::new();
    for bytes in [
        b"not a component at all".as_slice(),
        &bytes_of("hostile-wrong-world"),
        &bytes_of("hostile-forbidden-import"),
    ] {
        running.deploy(bytes);
        let found = running.look();
        assert_eq!((found.len(), found[0].as_str()), (2, "settling"));
        table.push_str(&found[1]);
        table.push('\n');
        assert_eq!(running.look(), [""; 0], "a refused version is not checked again");
        running.assert_unchanged();
    }
    insta::assert_snapshot!(table, @r"
    SL-G001: plugin is not a WebAssembly component: it does not start like a WebAssembly file
    SL-G004: plugin does not export sluice:plugin/transform@0.1.0, but hostile:other/run@1.0.0
    SL-G003: plugin imports what sluice does not offer: hostile:greedy/network@1.0.0
    ");
    running.deploy(&bytes_of("hostile")[..70_000]);
    assert!(running.look()[1].starts_with("SL-G007: plugin cannot be compiled: "));
    running.assert_unchanged();
    running.deploy(&next_version(2));
    assert_eq!(running.look(), ["settling", "published"]);
}

#[test]
fn a_file_that_is_still_being_written_is_not_checked() {
    let mut running = Running::new(admit);
    let next = next_version(3);
    for end in [10, 5_000, 60_000, next.len() - 1] {
        fs::write(running.file(), &next[..end]).expect("write");
        assert!(matches!(running.watch.look(), Look::Settling), "{end} bytes");
        running.assert_unchanged();
    }
    fs::write(running.file(), &next).expect("write");
    assert_eq!(running.look(), ["settling", "published"]);
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    let mut running = Running::new(admit);
    fs::remove_file(running.file()).expect("remove");
    assert_eq!(running.look(), ["missing"; 10]);
    running.assert_unchanged();
    running.deploy(&bytes_of("hostile"));
    assert_eq!(running.look(), [""; 0]);
}

/// Whoever may write to the folder can put there what is no file, or what never ends.
#[test]
fn what_is_no_regular_file_or_never_ends_is_refused_and_the_old_version_goes_on() {
    let mut running = Running::new(admit);
    let file = running.file();
    let make = |what: &dyn Fn()| {
        fs::remove_file(&file).expect("remove");
        what();
    };
    let no_file = "SL-G001: plugin is not a WebAssembly component: it is not a regular file";
    make(&|| std::os::unix::fs::symlink("/dev/zero", &file).expect("a link"));
    assert_eq!(running.look(), [no_file]);
    make(&|| {
        let name = std::ffi::CString::new(file.to_str().expect("a name")).expect("a name");
        // SAFETY: the name is a valid C string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    });
    assert_eq!(running.look(), [no_file]);
    make(&|| fs::create_dir(&file).expect("a folder"));
    assert_eq!(running.look(), [no_file]);
    fs::remove_dir(&file).expect("remove");
    fs::File::create(&file).and_then(|it| it.set_len(1 << 30)).expect("a file full of nothing");
    let too_big = "SL-G002: plugin has 1073741824 bytes, more than the 67108864 allowed";
    assert_eq!(running.look(), [too_big]);
    // Says that it is empty, and is endless.
    make(&|| std::os::unix::fs::symlink("/proc/self/mem", &file).expect("a link"));
    assert_eq!(running.look(), ["missing"; 10]);
    running.assert_unchanged();
    fs::remove_file(&file).expect("remove");
    running.deploy(&next_version(7));
    assert_eq!(running.look(), ["settling", "published"]);
}

/// A file that is longer when it is read than when it was looked at.
#[test]
fn no_more_of_a_file_is_read_than_a_component_may_have() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("grows.wasm");
    let limits = Limits { component_bytes_max: 1 << 20, ..limits() };
    let loader = loader(serde_json::json!({})).with_limits(limits);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::write(&file, "").expect("write");
                for _ in 0..300 {
                    let mut end = fs::OpenOptions::new().append(true).open(&file).expect("open");
                    std::io::Write::write_all(&mut end, &[0; 8192]).expect("write");
                }
            }
        });
        for _ in 0..300 {
            match loader.read(&file) {
                Ok((bytes, _)) => assert!(bytes.len() <= 1 << 20),
                Err(PluginFault::TooBig { bytes, .. }) => assert!(bytes > 1 << 20),
                Err(PluginFault::Read { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A defect of the host or of wasmtime must not end the watch.
#[test]
fn a_panic_while_a_version_is_checked_does_not_end_hot_swapping() {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let running = Running::new(|generation| {
        if generation.digest == load::digest_of(&next_version(8)) {
            PANICKED.store(true, Ordering::Relaxed);
            panic!("a defect");
        }
        admit(generation)
    });
    let lane = running.slot.current();
    let Running { folder, slot, watch, .. } = running;
    let runtime = threads::runtime().expect("threads");
    let watcher = Watcher::start(watch, runtime.handle());
    deploy_in(folder.path(), &next_version(8));
    watcher.check_now();
    wait_until("it has panicked", || PANICKED.load(Ordering::Relaxed));
    deploy_in(folder.path(), &next_version(9));
    watcher.check_now();
    wait_until("there is a new version", || slot.newer_than(&lane).is_some());
    assert_eq!(slot.current().0, load::digest_of(&next_version(9)));
    drop(watcher);
}

#[test]
fn the_gate_has_the_last_word_and_can_be_asked_again() {
    let mut running = Running::new(|_| Err(Fault::block("SL-P999", "column `length` is missing")));
    running.deploy(&next_version(4));
    assert_eq!(running.look(), ["settling", "SL-P999: column `length` is missing"]);
    assert_eq!(running.look(), [""; 0]);
    running.watch.again();
    assert_eq!(running.look(), ["settling", "SL-P999: column `length` is missing"]);
    running.assert_unchanged();
}

#[test]
fn a_version_that_meets_an_outage_is_checked_again_and_again() {
    static AWAY: AtomicBool = AtomicBool::new(true);
    let mut running = Running::new(|generation| {
        if AWAY.load(Ordering::Relaxed) {
            Err(Fault::retry("SL-P001", "not reachable"))
        } else {
            admit(generation)
        }
    });
    let put_off = "put off: SL-P001: not reachable";
    running.deploy(&next_version(6));
    assert_eq!(running.look(), ["settling", put_off, put_off]);
    // Touched, which changes nothing.
    running.deploy(&next_version(6));
    assert_eq!(running.look(), [""; 0]);
    assert_eq!(running.look(), [put_off]);
    // Taken back before it could be checked: it must not come through later.
    running.deploy(&bytes_of("hostile"));
    assert_eq!(running.look(), ["settling"]);
    AWAY.store(false, Ordering::Relaxed);
    for _ in 0..100 {
        assert_eq!(running.look(), [""; 0]);
    }
    running.assert_unchanged();
    AWAY.store(true, Ordering::Relaxed);
    running.deploy(&next_version(6));
    assert_eq!(running.look(), ["settling", put_off, put_off]);
    AWAY.store(false, Ordering::Relaxed);
    assert_eq!(running.look(), ["published"]);
    assert_eq!(running.slot.current().0, load::digest_of(&next_version(6)));
}

#[test]
fn a_watcher_finds_a_new_version_by_itself_and_ends_when_dropped() {
    let running = Running::new(admit);
    let lane = running.slot.current();
    let Running { folder, slot, watch, .. } = running;
    let runtime = threads::runtime().expect("threads");
    let watcher = Watcher::start(watch, runtime.handle());
    deploy_in(folder.path(), &next_version(5));
    watcher.check_now();
    wait_until("there is a new version", || slot.newer_than(&lane).is_some());
    drop(watcher);
    assert_eq!(Arc::strong_count(&slot), 1, "the thread is gone");
}

fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_true() {
        assert!(Instant::now() < deadline, "in vain for 30 s until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn deploy_in(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join("next"), bytes).expect("write");
    fs::rename(folder.join("next"), folder.join("plugin.wasm")).expect("rename");
}
