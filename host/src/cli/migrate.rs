//! `sluice migrate`: the `sluice` schema, created or brought up to date.

use std::path::PathBuf;

use clap::Args;

use super::Format;
use crate::settings::Settings;

/// Which databases.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files whose databases are migrated
    #[arg(value_name = "FILE", required_unless_present = "url", conflicts_with = "url")]
    pub files: Vec<PathBuf>,
    /// Address of the database, instead of settings files
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Migrates each database once.
pub fn run(arguments: &Arguments, _format: Format) -> anyhow::Result<()> {
    let _urls = urls(arguments)?;
    Ok(())
}

fn urls(arguments: &Arguments) -> anyhow::Result<Vec<String>> {
    let mut urls: Vec<String> = match &arguments.url {
        Some(url) => vec![url.clone()],
        None => Settings::load_all(&arguments.files)?
            .into_iter()
            .map(|settings| settings.sink.url)
            .collect(),
    };
    urls.sort_unstable();
    urls.dedup();
    Ok(urls)
}
