//! `sluice plugin`: build plugins, and look into one.

use clap::{Args, Subcommand};

use super::Format;

pub mod build;
pub mod inspect;

/// Arguments of `sluice plugin`.
#[derive(Debug, Args)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, Subcommand)]
enum PluginCommand {
    /// Build the plugins of a cargo workspace to target/plugins/NAME.wasm
    Build(build::BuildArgs),
    /// Show what a plugin reads, produces and imports
    Inspect(inspect::InspectArgs),
}

/// Runs `sluice plugin`.
pub fn run(args: &PluginArgs, format: Format) -> anyhow::Result<()> {
    match &args.command {
        PluginCommand::Build(args) => build::run(args),
        PluginCommand::Inspect(args) => inspect::run(args, format),
    }
}

/// `1.5 MiB`, `92 KiB`: a size as people say it.
fn size(bytes: usize) -> String {
    if bytes >= 1 << 20 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    }
}
