//! Child processes that end with the test process, whatever ends it. Knows nothing of what they do.

use std::ffi::OsStr;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context, Result, bail};

type Order = (Command, Sender<std::io::Result<Child>>);

/// A command whose process is killed when this process ends. Start it with [`spawn`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Starts `command` from a thread that lives as long as this process does: the kernel sends the signal
/// asked for with [`command`] when the starting *thread* ends, and a test's thread ends with the test.
pub fn spawn(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                // The asker may have gone; then nobody wants the child.
                if let Err(unwanted) = answer.send(command.spawn())
                    && let Ok(mut child) = unwanted.0
                {
                    drop(child.kill());
                }
            }
        });
        sender
    });
    let what = format!("{:?}", command.get_args().collect::<Vec<_>>());
    let (answer, child) = channel();
    spawner.send((command, answer)).ok().context("the spawning thread has ended")?;
    child.recv().context("the spawning thread has ended")?.with_context(|| format!("start {what}"))
}

/// A signal, by the name that `kill` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends a process at once.
    Kill,
    /// Asks a process to end.
    Terminate,
    /// Freezes a process.
    Stop,
    /// Lets a frozen process go on.
    Continue,
    /// Asks a process to look at its plugin again.
    HangUp,
    /// Ends a Postgres server at once, its sessions too.
    Quit,
}

/// Sends `signal` to the process `pid`.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let name = match signal {
        Signal::Kill => "KILL",
        Signal::Terminate => "TERM",
        Signal::Stop => "STOP",
        Signal::Continue => "CONT",
        Signal::HangUp => "HUP",
        Signal::Quit => "QUIT",
    };
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
    if !status.success() {
        bail!("kill -{name} {pid}: {status}");
    }
    Ok(())
}

/// Memory of a process that is resident now, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS line")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
    Ok(kib * 1024)
}

/// CPU time that a process has taken so far, in the program and in the kernel.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may contain anything: state, ten more, then the two times.
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks =
        |index: usize| -> Result<f64> { Ok(fields.get(index).context("no time")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_can_be_measured_and_ended() -> Result<()> {
        let mut sleeper = command("sleep");
        sleeper.arg("60");
        let mut child = spawn(sleeper)?;
        assert!(resident_bytes(child.id())? > 0);
        signal(child.id(), Signal::Kill)?;
        assert!(!child.wait()?.success());
        Ok(())
    }
}
