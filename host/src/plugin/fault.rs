//! What can be wrong with a plugin, as the operator reads it. Each has a code that `sluice explain` knows.

use std::fmt::Write as _;
use std::time::Duration;

use thiserror::Error;

use crate::fault::Fault;
use crate::printable::is_unprintable;

/// The export in which something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Making an instance, the component's start functions included.
    Instantiate,
    /// `configure`
    Configure,
    /// `describe`
    Describe,
    /// `process`
    Process,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Instantiate => "while it was instantiated",
            Self::Configure => "in configure",
            Self::Describe => "in describe",
            Self::Process => "in process",
        })
    }
}

/// What is wrong with a plugin. The first group ends a deployment, the second a batch.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PluginFault {
    /// The file is not a component.
    #[error("plugin is not a WebAssembly component: {0}")]
    NotComponent(String),
    /// The file is larger than allowed.
    #[error("plugin has {bytes} bytes, more than the {max} allowed")]
    TooBig {
        /// Size of the file.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// The component wants something that no plugin gets.
    #[error("plugin imports what sluice does not offer: {}", .0.join(", "))]
    ForbiddenImport(Vec<String>),
    /// The component does not export the contract.
    #[error("plugin does not export {expected}{}", found_exports(.found))]
    WrongWorld {
        /// The interface that is missing.
        expected: &'static str,
        /// What it exports instead.
        found: Vec<String>,
    },
    /// The component was built for another version of the contract.
    #[error("plugin was built for {found}, this sluice offers {offered}")]
    WrongVersion {
        /// The interface with the component's version.
        found: String,
        /// The interface with our version.
        offered: &'static str,
    },
    /// The component has the right interface under the right version, but not its types.
    #[error("plugin does not fit the contract: {0}")]
    WrongTypes(String),
    /// The component is not valid, or uses a proposal that is off.
    #[error("plugin cannot be compiled: {0}")]
    Compile(String),
    /// Compiling it takes more than it may, or makes the compiler fail.
    #[error("plugin cannot be compiled: compiling it {0}")]
    CompileLimit(String),
    /// Nothing can be compiled.
    #[error("failed to start the process that compiles plugins: {0}")]
    Compiler(std::io::Error),
    /// The pipeline is ending, or the file is watched no more.
    #[error("plugin not loaded or called to the end, because the pipeline ends")]
    Interrupted,
    /// `configure` said no.
    #[error("plugin refuses its settings: {0}")]
    Settings(String),
    /// The description contradicts itself or the contract.
    #[error("plugin describes itself wrongly: {}", .0.join("; "))]
    Description(Vec<String>),
    /// The file cannot be read.
    #[error("failed to read plugin {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The guest gave up, or did what WebAssembly forbids.
    #[error("plugin trapped {phase}: {text}{}", frame_list(.frames))]
    Trap {
        /// Where.
        phase: Phase,
        /// The guest's own panic text when it logged one, else wasmtime's.
        text: String,
        /// Functions of the guest, the innermost first.
        frames: Vec<String>,
    },
    /// The guest took too long.
    #[error("plugin took longer than {max:?} {phase}{}", frame_list(.frames))]
    Timeout {
        /// Where.
        phase: Phase,
        /// What is allowed.
        max: Duration,
        /// Functions of the guest, the innermost first.
        frames: Vec<String>,
    },
    /// The guest wanted more memory or tables than allowed.
    #[error("plugin wants more than the {allowed} it may have {phase}{}", frame_list(.frames))]
    Resource {
        /// Where.
        phase: Phase,
        /// Such as `256 MiB of memory` or `100000 table elements`.
        allowed: String,
        /// Functions of the guest, the innermost first.
        frames: Vec<String>,
    },
    /// The guest called itself too deeply.
    #[error("plugin overflowed its stack {phase}{}", frame_list(.frames))]
    StackOverflow {
        /// Where.
        phase: Phase,
        /// Functions of the guest, the innermost first.
        frames: Vec<String>,
    },
    /// The guest returned more than allowed.
    #[error("plugin returned {found}, allowed are {allowed}")]
    OutputTooLarge {
        /// How much, with its unit.
        found: String,
        /// What is allowed, with its unit.
        allowed: String,
    },
    /// What the guest returned is not what it said it would return.
    #[error("plugin broke the contract: {0}")]
    Breach(String),
    /// `process` returned an error.
    #[error("plugin failed: {0}")]
    Failed(String),
    /// The plugin failed on one message after the other.
    #[error("plugin failed on {count} messages in a row, each alone; on the last one: {last}")]
    Poisoned {
        /// How many.
        count: u32,
        /// How it failed on the last one.
        last: Box<Self>,
    },
    /// So many messages of a batch failed that finding them all would have kept its lane for too long.
    #[error(
        "plugin fails on so many messages that they were not found within {max:?}; on the last one: {last}"
    )]
    TooManyFail {
        /// What is allowed.
        max: Duration,
        /// How it failed last.
        last: Box<Self>,
    },
}

impl PluginFault {
    /// The code that `sluice explain` knows.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotComponent(_) => "SL-G001",
            Self::TooBig { .. } => "SL-G002",
            Self::ForbiddenImport(_) => "SL-G003",
            Self::WrongWorld { .. } => "SL-G004",
            Self::WrongVersion { .. } => "SL-G005",
            Self::WrongTypes(_) => "SL-G006",
            Self::Compile(_) => "SL-G007",
            Self::Settings(_) => "SL-G008",
            Self::Description(_) => "SL-G009",
            Self::Read { .. } => "SL-G010",
            Self::Trap { .. } => "SL-G011",
            Self::Timeout { .. } => "SL-G012",
            Self::Resource { .. } => "SL-G013",
            Self::StackOverflow { .. } => "SL-G014",
            Self::OutputTooLarge { .. } => "SL-G015",
            Self::Breach(_) => "SL-G016",
            Self::Failed(_) => "SL-G017",
            Self::Poisoned { .. } | Self::TooManyFail { .. } => "SL-G018",
            Self::CompileLimit(_) => "SL-G019",
            Self::Compiler(_) => "SL-G025",
            Self::Interrupted => INTERRUPTED,
        }
    }

    /// The code of the dead letter when a single message may be what is wrong: for everything that goes
    /// wrong in `process`.
    pub fn rejection_code(&self) -> Option<&'static str> {
        match self {
            Self::Trap { phase: Phase::Process, .. } => Some("trap"),
            Self::Timeout { phase: Phase::Process, .. } => Some("timeout"),
            Self::Resource { phase: Phase::Process, .. } => Some("memory-limit"),
            Self::StackOverflow { phase: Phase::Process, .. } => Some("stack-overflow"),
            Self::OutputTooLarge { .. } => Some("output-too-large"),
            Self::Breach(_) => Some("contract-breach"),
            Self::Failed(_) => Some("failed"),
            _ => None,
        }
    }
}

/// Of what was given up because the pipeline ends: nobody reads it.
pub const INTERRUPTED: &str = "SL-G026";

/// True for what lies in a plugin's bytes and settings alone: another look at the same file finds the same.
pub fn is_of_the_file(code: &str) -> bool {
    ("SL-G001"..="SL-G009").contains(&code) || code == "SL-G019"
}

/// A failing plugin stops its pipeline: nothing is lost, offsets stay where they are.
impl From<PluginFault> for Fault {
    fn from(fault: PluginFault) -> Self {
        Self::block(fault.code(), fault.to_string())
    }
}

fn frame_list(frames: &[String]) -> String {
    if frames.is_empty() { String::new() } else { format!(" (at {})", frames.join(" < ")) }
}

fn found_exports(found: &[String]) -> String {
    if found.is_empty() {
        ", nor anything else".into()
    } else {
        format!(", but {}", found.join(", "))
    }
}

/// Text from a guest as it may be printed: on one line, control characters escaped, cut to `bytes_max`.
pub(super) fn printable(text: &str, bytes_max: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(bytes_max));
    for character in text.chars() {
        if clean.len() + character.len_utf8() > bytes_max {
            clean.push('…');
            break;
        }
        if matches!(character, '\n' | '\t') {
            clean.push(' ');
        } else if is_unprintable(character) {
            let _ = write!(clean, "{}", character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_guest_cannot_move_the_cursor_or_end_a_line() {
        let check = |text: &str, bytes_max, expected: &str| {
            assert_eq!(printable(text, bytes_max), expected, "{text:?}");
        };
        check("Grüße", 100, "Grüße");
        check("a\nb\u{1b}[2J\0", 100, r"a b\u{1b}[2J\u{0}");
        check("a\u{202e}b", 100, r"a\u{202e}b");
        check("abcdef", 3, "abc…");
        check("aüb", 2, "a…");
    }
}
