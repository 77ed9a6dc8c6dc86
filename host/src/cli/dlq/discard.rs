//! `sluice dlq discard`: dead letters are given up, and kept with the reason.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::selection::DeliberateArgs;
use crate::cli::output::{self, count};
use crate::cli::{Format, block_on, database};
use crate::settings::Settings;
use crate::sink::dead_letters::discard::discard;
use crate::sink::dead_letters::read;

/// Arguments of `sluice dlq discard`.
#[derive(Debug, Args)]
pub struct DiscardArgs {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    selection: DeliberateArgs,
    /// Why: kept with the dead letters
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn reason(text: &str) -> Result<String, &'static str> {
    if text.trim().is_empty() { Err("say why") } else { Ok(text.trim().to_owned()) }
}

/// Discards them and says how many.
pub fn run(args: &DiscardArgs, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&args.file)?;
    let (pipeline, selection) = (&settings.pipeline.name, args.selection.selection());
    let (discarded, left) = block_on(async {
        let session = database::connect(&settings).await?;
        let discarded = discard(&session, pipeline, &selection, &args.reason).await?;
        Ok((discarded, read::count(&session, pipeline, &selection).await?))
    })?;
    let value = json!({ "pipeline": pipeline, "discarded": discarded, "left": left });
    output::print(format, &value, || sentence(pipeline, discarded, left))
}

fn sentence(pipeline: &str, discarded: u64, left: u64) -> String {
    let discarded = count(discarded as i64);
    let mut text = format!("pipeline {pipeline}: discarded {discarded} dead letters");
    if left > 0 {
        let left = count(left as i64);
        text.push_str(&format!("; {left} more came in the meantime or are being replayed"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_one_sentence() {
        assert_eq!(sentence("energy", 1204, 0), "pipeline energy: discarded 1,204 dead letters");
        assert_eq!(
            sentence("energy", 0, 3),
            "pipeline energy: discarded 0 dead letters; 3 more came in the meantime or are being replayed"
        );
    }

    #[test]
    fn a_reason_is_more_than_blanks() {
        assert!(reason(" \t").is_err());
        assert_eq!(reason(" test data ").unwrap(), "test data");
    }
}
