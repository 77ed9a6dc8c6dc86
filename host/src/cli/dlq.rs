//! `sluice dlq`: dead letters, looked at, replayed and discarded.

use clap::{Args, Subcommand};

use super::Format;

mod bytes;
pub mod discard;
pub mod list;
pub mod replay;
pub mod selection;
pub mod show;

/// Arguments of `sluice dlq`.
#[derive(Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// Show which dead letters there are, by stage and code
    List(list::ListArgs),
    /// Show dead letters whole: key, headers, payload, and why they were rejected
    Show(show::ShowArgs),
    /// Send dead letters through the pipeline's plugin once more
    Replay(replay::ReplayArgs),
    /// Give dead letters up; they are kept in `sluice.discarded_dead_letters`
    Discard(discard::DiscardArgs),
}

/// Runs `sluice dlq`.
pub fn run(args: &DlqArgs, format: Format) -> anyhow::Result<()> {
    match &args.command {
        DlqCommand::List(args) => list::run(args, format),
        DlqCommand::Show(args) => show::run(args, format),
        DlqCommand::Replay(args) => replay::run(args, format),
        DlqCommand::Discard(args) => discard::run(args, format),
    }
}
