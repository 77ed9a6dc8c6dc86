//! `sluice dlq list`: which dead letters there are, by stage and code.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::selection::SelectionArgs;
use crate::cli::output::{self, count};
use crate::cli::table::Table;
use crate::cli::{Format, block_on, database};
use crate::settings::Settings;
use crate::sink::dead_letters::read::{Group, groups};

/// Characters of a reason on the screen; the whole is in `show` and in JSON.
const REASON_MAX: usize = 80;

/// Arguments of `sluice dlq list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    selection: SelectionArgs,
}

/// Prints the groups.
pub fn run(args: &ListArgs, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&args.file)?;
    let pipeline = &settings.pipeline.name;
    let groups = block_on(async {
        let session = database::connect(&settings).await?;
        Ok(groups(&session, pipeline, &args.selection.selection()).await?)
    })?;
    output::print(format, &value(pipeline, &groups), || text(pipeline, &groups))
}

fn total(groups: &[Group]) -> i64 {
    groups.iter().map(|group| group.dead_letters).sum()
}

fn text(pipeline: &str, groups: &[Group]) -> String {
    if groups.is_empty() {
        return format!("pipeline {pipeline}: no dead letters");
    }
    let mut table = Table::new(&[
        "stage",
        "code",
        ">dead letters",
        ">attempts",
        "first",
        "last",
        ">newest",
        "its reason",
    ]);
    for group in groups {
        table.row([
            group.stage.clone(),
            output::line(&group.code, REASON_MAX),
            count(group.dead_letters),
            group.attempts_max.to_string(),
            database::time(group.first),
            database::time(group.last),
            group.example.to_string(),
            output::line(&group.reason, REASON_MAX),
        ]);
    }
    format!("{}\npipeline {pipeline}: {} dead letters", table.render(), count(total(groups)))
}

fn value(pipeline: &str, groups: &[Group]) -> Value {
    let group = |group: &Group| {
        json!({
            "stage": group.stage,
            "code": group.code,
            "dead_letters": group.dead_letters,
            "attempts_max": group.attempts_max,
            "first": group.first,
            "last": group.last,
            "newest": { "id": group.example, "reason": group.reason },
        })
    };
    let all: Vec<Value> = groups.iter().map(group).collect();
    json!({ "pipeline": pipeline, "dead_letters": total(groups), "groups": all })
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use jiff::Timestamp;

    use super::*;

    fn group(stage: &str, code: &str, dead_letters: i64, reason: &str) -> Group {
        Group {
            stage: stage.into(),
            code: code.into(),
            dead_letters,
            attempts_max: 2,
            first: Timestamp::from_second(1_700_000_000).unwrap(),
            last: Timestamp::from_second(1_700_003_600).unwrap(),
            example: 4711,
            reason: reason.into(),
        }
    }

    #[test]
    fn groups_are_counted_with_an_example() {
        let groups = [
            group("decode", "malformed", 12_040, "line 1 column 8: expected a colon"),
            group("plugin", "power-out-of-range", 3, &format!("60000 W\nis {}", "far ".repeat(30))),
        ];
        assert_snapshot!(text("energy", &groups), @"
        stage   code                dead letters  attempts  first                 last                  newest  its reason
        decode  malformed                 12,040         2  2023-11-14T22:13:20Z  2023-11-14T23:13:20Z    4711  line 1 column 8: expected a colon
        plugin  power-out-of-range             3         2  2023-11-14T22:13:20Z  2023-11-14T23:13:20Z    4711  60000 W is far far far far far far far far far far far far far far far far far f...

        pipeline energy: 12,043 dead letters
        ");
        assert_snapshot!(value("energy", &groups[..1]), @r#"{"dead_letters":12040,"groups":[{"attempts_max":2,"code":"malformed","dead_letters":12040,"first":"2023-11-14T22:13:20Z","last":"2023-11-14T23:13:20Z","newest":{"id":4711,"reason":"line 1 column 8: expected a colon"},"stage":"decode"}],"pipeline":"energy"}"#);
    }

    #[test]
    fn nothing_is_said_in_a_sentence() {
        assert_snapshot!(text("energy", &[]), @"pipeline energy: no dead letters");
        assert_snapshot!(value("energy", &[]), @r#"{"dead_letters":0,"groups":[],"pipeline":"energy"}"#);
    }
}
