//! Compiles components in a process of their own: a component can be made so that compiling it takes gigabytes and
//! hours, or makes the compiler panic, and wasmtime counts none of that as a defect. The process has limits, and whatever
//! becomes of it, pipelines go on.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use wasmtime::component::Component;

use super::engine::engine;
use super::fault::{PluginFault, printable};
use super::load::on_one_line;
use crate::shutdown::Stop;

/// Processor time. A Python plugin with its interpreter, the largest that people ship, takes 10 s.
const CPU_MAX: Duration = Duration::from_secs(60);
/// Time in all, also on a machine that has little to spare.
const TIME_MAX: Duration = Duration::from_mins(5);
/// Address space.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Open files.
const FILES_MAX: u64 = 16;
/// Lanes come first.
const NICE: libc::c_int = 10;

/// How often it is looked whether the process has ended.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// Of what it wrote to its standard error, as an operator reads it.
const TEXT_BYTES_MAX: usize = 300;

/// First byte of the answer: what follows is compiled, or says why it cannot be.
const COMPILED: u8 = 1;
const REFUSED: u8 = 0;

/// A component that was compiled.
#[derive(Debug)]
pub(super) struct Compiled {
    pub component: Component,
    /// Its compiled form, for the cache.
    pub code: Vec<u8>,
}

/// Compiles the component in `bytes`. Ends early when `stop` says so.
pub(super) fn compile(bytes: &[u8], stop: &Stop) -> Result<Compiled, PluginFault> {
    let compilation = Compilation::start(command(), bytes).map_err(PluginFault::Compiler)?;
    let code = compilation.finish(stop)?;
    // SAFETY: the bytes are what this very program has compiled for us, in a process of our own user which nobody else
    // can write to. Code of another wasmtime or configuration is refused by `deserialize` itself.
    let component = unsafe { Component::deserialize(engine(), &code) }
        .map_err(|error| PluginFault::Compile(on_one_line(&error)))?;
    Ok(Compiled { component, code })
}

/// No command for people, and so none that is listed.
const ARGUMENTS: [&str; 2] = ["plugin", "compile-standard-input"];

/// True when this process was started to compile. A program that loads plugins must ask first of all, and then be
/// [`child`] and nothing else.
pub fn is_asked_for() -> bool {
    std::env::args_os().skip(1).eq(ARGUMENTS)
}

/// This program, asked to be [`child`].
#[cfg(not(test))]
fn command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(ARGUMENTS).env_clear();
    command
}

#[cfg(test)]
use tests::command;

/// A process that compiles.
struct Compilation {
    child: Child,
    /// What it is given on standard input, and writes its answer over.
    exchange: File,
    /// Its standard error.
    text: File,
    begun: Instant,
}

impl Compilation {
    fn start(mut command: Command, bytes: &[u8]) -> io::Result<Self> {
        let (mut exchange, text) = (in_memory(c"component")?, in_memory(c"errors")?);
        exchange.write_all(bytes)?;
        exchange.rewind()?;
        command
            .stdin(Stdio::from(exchange.try_clone()?))
            .stdout(Stdio::null())
            .stderr(Stdio::from(text.try_clone()?));
        Ok(Self { child: command.spawn()?, exchange, text, begun: Instant::now() })
    }

    fn finish(mut self, stop: &Stop) -> Result<Vec<u8>, PluginFault> {
        let status = loop {
            if let Some(status) = self.child.try_wait().map_err(PluginFault::Compiler)? {
                break status;
            }
            if stop.is_set() {
                return Err(PluginFault::Interrupted);
            }
            if self.begun.elapsed() > TIME_MAX {
                return Err(PluginFault::CompileLimit(format!("took longer than {TIME_MAX:?}")));
            }
            std::thread::sleep(LOOK_PERIOD);
        };
        if !status.success() {
            return Err(PluginFault::CompileLimit(self.how_it_ended(status)));
        }
        let mut answer = Vec::new();
        let read = self.exchange.rewind().and_then(|()| self.exchange.read_to_end(&mut answer));
        read.map_err(PluginFault::Compiler)?;
        match answer.first() {
            Some(&COMPILED) => {
                answer.remove(0);
                Ok(answer)
            }
            Some(&REFUSED) => {
                Err(PluginFault::Compile(String::from_utf8_lossy(&answer[1..]).into_owned()))
            }
            _ => Err(PluginFault::Compiler(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    fn how_it_ended(&mut self, status: ExitStatus) -> String {
        let mut text = String::new();
        let read = self.text.rewind().and_then(|()| self.text.read_to_string(&mut text));
        let text = if read.is_ok() { text.as_str() } else { "" };
        match status.signal() {
            Some(libc::SIGXCPU) => format!("took more than {CPU_MAX:?} of processor time"),
            Some(libc::SIGABRT) if text.contains("memory allocation of") => {
                format!("took more than {} GiB of memory", MEMORY_BYTES_MAX >> 30)
            }
            Some(libc::SIGKILL) => {
                "was ended by the system, which happens when memory is short".to_owned()
            }
            _ => format!("failed ({status}): {}", printable(text.trim(), TEXT_BYTES_MAX)),
        }
    }
}

/// Not left to go on when nobody waits for it any more.
impl Drop for Compilation {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It can have ended in the meantime, and then it is only waited for.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A file that has no name and lies in memory: there may be no folder to write to.
fn in_memory(name: &std::ffi::CStr) -> io::Result<File> {
    // SAFETY: the name is a valid C string.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was opened just now, and belongs to nobody else.
    Ok(unsafe { File::from_raw_fd(descriptor) })
}

/// What the process does that was started to compile: reads a component from standard input, and writes over it what it
/// becomes. Standard input must be a file that can be written to.
pub fn child() -> ExitCode {
    limit_this_process();
    match compile_standard_input() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compile_standard_input() -> io::Result<()> {
    let mut exchange = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut bytes = Vec::new();
    exchange.read_to_end(&mut bytes)?;
    let (kind, answer) = match engine().precompile_component(&bytes) {
        Ok(compiled) => (COMPILED, compiled),
        Err(error) => (REFUSED, on_one_line(&error).into_bytes()),
    };
    exchange.rewind()?;
    exchange.set_len(0)?;
    exchange.write_all(&[kind])?;
    exchange.write_all(&answer)
}

/// `beyond` is what lies between the limit and the one that cannot be raised.
fn limit(resource: libc::__rlimit_resource_t, max: u64, beyond: u64) {
    let limit = libc::rlimit { rlim_cur: max, rlim_max: max + beyond };
    // SAFETY: the limit is valid for as long as the call takes.
    unsafe { libc::setrlimit(resource, &raw const limit) };
}

/// Best effort: where the system does not know one of them, the others apply.
fn limit_this_process() {
    limit(libc::RLIMIT_AS, MEMORY_BYTES_MAX, 0);
    // At the second one the system would kill without saying why.
    limit(libc::RLIMIT_CPU, CPU_MAX.as_secs(), 1);
    limit(libc::RLIMIT_CORE, 0, 0);
    limit(libc::RLIMIT_NOFILE, FILES_MAX, 0);
    // SAFETY: these change nothing but how the system treats this process. It ends with the thread that waits for it.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::nice(NICE);
    }
    // Where memory is short, this process is the one to end.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

#[cfg(test)]
mod tests;
