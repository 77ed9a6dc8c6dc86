//! The binary: arguments, logs, the command, its exit code.

use std::process::ExitCode;

use clap::Parser as _;
use sluice::cli::{self, CommandLine};

fn main() -> ExitCode {
    if sluice::plugin::compile::is_asked_for() {
        return sluice::plugin::compile::child();
    }
    sluice::process::keep_secrets();
    sluice::memory::keep_freed_memory();
    let line = CommandLine::parse();
    cli::log::start(&line.log, line.command.log_level());
    match cli::run(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report::print(&error, line.format),
    }
}
