//! CPU time, memory and files of processes, as the kernel counts them. Linux only.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The kernel tells CPU time to user space in hundredths of a second, whatever it counts in.
const TICK: Duration = Duration::from_millis(10);

/// What a line of `/proc/PID/stat` says.
struct Stat {
    parent: u32,
    own: Duration,
    reaped: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may contain anything, blanks and brackets too.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
        Some(Self {
            parent: ticks(1)?,
            own: TICK * (ticks(11)? + ticks(12)?),
            reaped: TICK * (ticks(13)? + ticks(14)?),
        })
    }
}

/// CPU time of a process, 0 when there is none. To the nanosecond where no thread has ended: only those
/// that live are counted so finely, and the ticks count all.
pub fn of_process(pid: u32) -> Duration {
    let ticks = Stat::read(pid).map_or(Duration::ZERO, |stat| stat.own);
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let fine: Duration = threads.map(|thread| of_thread(&thread.path())).sum();
    ticks.max(fine)
}

/// CPU time of the thread that asks.
pub fn of_this_thread() -> Duration {
    of_thread(Path::new("/proc/thread-self"))
}

fn of_thread(folder: &Path) -> Duration {
    let text = fs::read_to_string(folder.join("schedstat")).unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// CPU time of a process, its children, and all children that it has outlived.
pub fn of_tree(pid: u32) -> Duration {
    let reaped = |pid| Stat::read(pid).map_or(Duration::ZERO, |stat| stat.reaped);
    let children = children(pid);
    let all = children.iter().chain([&pid]);
    all.map(|&pid| of_process(pid) + reaped(pid)).sum()
}

/// Living children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let child = |it: &u32| Stat::read(*it).is_some_and(|stat| stat.parent == pid);
    processes.filter(child).collect()
}

/// CPU time that the whole machine has spent on anything.
pub fn of_machine() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u32> =
        line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    // user, nice, system; then idle and waiting for disks; interrupts, soft ones, stolen by other guests.
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|&index: &usize| ticks.get(index));
    Ok(TICK * busy.sum())
}

/// The most memory that this process ever had resident, in bytes.
pub fn peak_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM line")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kib * 1024)
}

/// Memory of a process and its children: what each has for itself, and once the most that one of them shares with
/// others. What is mapped from files is not counted.
pub fn memory_of_tree(pid: u32) -> u64 {
    let (mut own, mut shared) = (0, 0);
    for pid in children(pid).into_iter().chain([pid]) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let bytes = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or_default() * 1024
        };
        own += bytes("RssAnon:");
        shared = bytes("RssShmem:").max(shared);
    }
    own + shared
}

/// Threads of a process, 0 when there is none.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// What a folder takes on disk. Files that vanish in the meantime are not counted.
pub fn disk_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_of(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}
