//! `sluice run`: pipelines, until SIGTERM.

use std::path::PathBuf;

use clap::Args;

use crate::settings::Settings;

/// Which pipelines to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files, one pipeline each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Runs the pipelines; one that fails does not stop the others.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = Settings::load_all(&arguments.files)?;
    anyhow::bail!("{} pipelines read, and nothing here yet runs them", settings.len())
}
