//! `sluice migrate`: the `sluice` schema, created or brought up to date.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Format, block_on, filled, output};
use crate::settings::Settings;
use crate::sink::migrate;
use crate::sink::postgres::Options;

/// Which databases.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings files whose databases are migrated
    #[arg(value_name = "FILE", required_unless_present = "url", conflicts_with = "url")]
    pub files: Vec<PathBuf>,
    /// Address of the database, instead of settings files; with `${VARIABLE}` or `${file:/path}` in single quotes, the
    /// password is in no list of processes
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// What was done to one database.
#[derive(Debug, Serialize)]
struct Migrated {
    database: String,
    applied: Vec<String>,
    version: i32,
}

/// Migrates each database once.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let options = databases(arguments)?;
    let mut all = Vec::new();
    for options in options {
        let report = block_on(async { Ok(migrate::migrate(&options).await?) })?;
        let migrate::Report { applied, version } = report;
        all.push(Migrated { database: options.to_string(), applied, version });
    }
    output::print(format, &all, || {
        all.iter().map(Migrated::sentence).collect::<Vec<_>>().join("\n")
    })
}

fn databases(arguments: &Arguments) -> anyhow::Result<Vec<Options>> {
    if let Some(url) = &arguments.url {
        return Ok(vec![Options::parse(&filled(url)?)?]);
    }
    let sinks = Settings::load_all(&arguments.files)?.into_iter().map(|settings| settings.sink);
    let mut sinks: Vec<_> = sinks.collect();
    sinks.sort_by(|one, other| one.url.cmp(&other.url));
    sinks.dedup_by(|one, other| one.url == other.url);
    Ok(sinks.iter().map(Options::of).collect::<Result<_, _>>()?)
}

impl Migrated {
    fn sentence(&self) -> String {
        let Self { database, applied, version } = self;
        match applied.as_slice() {
            [] => format!("{database}: schema sluice is up to date (version {version})"),
            applied => format!(
                "{database}: schema sluice is at version {version} now, applied {}",
                applied.join(", ")
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_sentence() {
        let migrated = |applied: &[&str]| Migrated {
            database: "db:5432/energy".into(),
            applied: applied.iter().map(|&name| name.to_owned()).collect(),
            version: 2,
        };
        insta::assert_snapshot!(migrated(&[]).sentence(), @"db:5432/energy: schema sluice is up to date (version 2)");
        insta::assert_snapshot!(migrated(&["V1__sluice", "V2__more"]).sentence(), @"db:5432/energy: schema sluice is at version 2 now, applied V1__sluice, V2__more");
    }
}
