//! `sluice dlq replay`: dead letters go through the pipeline's plugin once more.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use serde_json::{Value, json};

use super::selection::DeliberateArgs;
use crate::cli::Format;
use crate::cli::output::{self, count};
use crate::cli::table::Table;
use crate::fault::Fault;
use crate::pipeline;
use crate::pipeline::replay::{Replay, StillRejected, Tally};
use crate::progress::{Progress, Stream};
use crate::settings::Settings;
use crate::shutdown::interrupted;
use crate::sink::Version;

/// Characters of a reason on the screen.
const REASON_MAX: usize = 80;

/// Sends dead letters through the pipeline's plugin, as it is in the settings now.
///
/// Dead letters that pass leave their table in the transaction that writes their rows; those that are rejected
/// again stay, with one more attempt and the new reason. It may be interrupted at any time and run again.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    selection: DeliberateArgs,
    /// Change nothing and say what would happen: every transaction is rolled back
    #[arg(long)]
    dry_run: bool,
    /// Replay at most so many, the oldest ones
    #[arg(long, value_name = "DEAD_LETTERS")]
    limit: Option<u64>,
}

/// What was done, or would be.
#[derive(Debug)]
struct Report {
    pipeline: String,
    dry_run: bool,
    version: Version,
    tables: Vec<String>,
    tally: Tally,
    /// Selected, and neither dealt with nor skipped: it was interrupted.
    left: u64,
    /// Selected, and of no use: their messages were too large to be kept.
    cut: u64,
}

/// Replays and says what became of the dead letters, also when it ends early.
pub fn run(args: &ReplayArgs, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&args.file)?;
    let runtime = pipeline::runtime()?;
    let selection = args.selection.selection();
    let mut replay = Replay::open(&settings, selection, args.dry_run, runtime.handle())?;
    let cut = replay.count_cut()?;
    let selected = replay.count()?.min(args.limit.unwrap_or(u64::MAX));
    let end = work(&mut replay, selected, &interrupted());
    let tally = replay.tally().clone();
    let report = Report {
        pipeline: settings.pipeline.name,
        dry_run: args.dry_run,
        version: replay.version().clone(),
        tables: replay.tables(),
        left: selected.saturating_sub(tally.dead_letters + tally.busy),
        cut,
        tally,
    };
    output::print(format, &report.value(), || report.text())?;
    Ok(end?)
}

/// Goes on until all are dealt with or somebody has had enough.
fn work(replay: &mut Replay, selected: u64, stop: &AtomicBool) -> Result<(), Fault> {
    let mut progress = Progress::new(Stream::Stderr, selected);
    let mut result = Ok(());
    loop {
        let done = replay.tally().dead_letters + replay.tally().busy;
        if progress.is_due() {
            progress.show(done, &progress_line(replay.tally(), selected));
        }
        if done >= selected || stop.load(Ordering::Relaxed) {
            break;
        }
        match replay.step(selected - done) {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => {
                result = Err(fault);
                break;
            }
        }
    }
    progress.finish();
    result
}

fn progress_line(tally: &Tally, selected: u64) -> String {
    let [done, selected, rejected] =
        [tally.dead_letters, selected, rejected_again(tally)].map(|number| count(number as i64));
    format!("{done} of {selected} dead letters, {rejected} rejected again")
}

fn rejected_again(tally: &Tally) -> u64 {
    tally.rejected.iter().map(|rejected| rejected.dead_letters).sum()
}

impl Report {
    fn text(&self) -> String {
        let Self { pipeline, dry_run, version, tables, tally, left, cut } = self;
        let number = |number: u64| count(number as i64);
        let dead_letters = number(tally.dead_letters);
        let Version { plugin, version, digest } = version;
        let plugin = format!("{plugin} {version} (sha256:{})", digest.get(..12).unwrap_or(digest));
        let mut text = if *dry_run {
            format!(
                "pipeline {pipeline}: {dead_letters} dead letters tried with {plugin}, nothing was changed\n"
            )
        } else {
            format!("pipeline {pipeline}: {dead_letters} dead letters replayed with {plugin}\n")
        };
        let mut line = |number: u64, what: &str| {
            if number > 0 {
                text.push_str(&format!("  {:>9}  {what}\n", count(number as i64)));
            }
        };
        let rows: Vec<String> = (tables.iter().zip(&tally.rows))
            .map(|(table, rows)| format!("{} in {table}", number(*rows)))
            .collect();
        line(tally.rows_from, &format!("become rows: {}", rows.join(", ")));
        line(tally.dropped, "rows are dropped by triggers of the tables");
        line(tally.filtered, "are filtered by the plugin");
        line(rejected_again(tally), "are rejected again and stay dead letters");
        line(tally.busy, "are locked by another replay");
        line(*left, "are left");
        line(
            *cut,
            "keep only the start of a message that was too large for Postgres: they cannot be replayed",
        );
        if !tally.rejected.is_empty() {
            text.push_str(&format!("\n{}", rejected_table(&tally.rejected)));
        }
        text
    }

    fn value(&self) -> Value {
        let Self { pipeline, dry_run, version, tables, tally, left, cut } = self;
        let rows = (tables.iter().zip(&tally.rows))
            .map(|(table, rows)| json!({ "table": table, "rows": rows }));
        let rejected = tally.rejected.iter().map(|rejected| {
            let StillRejected { stage, code, dead_letters, example, reason } = rejected;
            let first = json!({ "id": example, "reason": reason });
            json!({ "stage": stage.name(), "code": code, "dead_letters": dead_letters, "first": first })
        });
        json!({
            "pipeline": pipeline,
            "dry_run": dry_run,
            "plugin": version.plugin,
            "version": version.version,
            "digest": version.digest,
            "dead_letters": tally.dead_letters,
            "rows_from": tally.rows_from,
            "rows": rows.collect::<Vec<_>>(),
            "dropped": tally.dropped,
            "filtered": tally.filtered,
            "rejected": rejected.collect::<Vec<_>>(),
            "busy": tally.busy,
            "left": left,
            "truncated": cut,
        })
    }
}

fn rejected_table(all: &[StillRejected]) -> String {
    let mut table = Table::new(&["stage", "code", ">dead letters", ">first", "its reason"]);
    for rejected in all {
        table.row([
            rejected.stage.name().to_owned(),
            output::line(&rejected.code, REASON_MAX),
            count(rejected.dead_letters as i64),
            rejected.example.to_string(),
            output::line(&rejected.reason, REASON_MAX),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::rows::Stage;

    fn report() -> Report {
        let rejected = |stage, code: &str, dead_letters, example| StillRejected {
            stage,
            code: code.into(),
            dead_letters,
            example,
            reason: format!("because of {code}"),
        };
        Report {
            pipeline: "shop".into(),
            dry_run: false,
            version: Version {
                digest: "0123456789abcdef".repeat(4),
                plugin: "orders".into(),
                version: "1.1.0".into(),
            },
            tables: vec!["public.orders".into(), "public.order_lines".into()],
            tally: Tally {
                dead_letters: 1_020,
                rows_from: 1_000,
                rows: vec![1_000, 3_456],
                dropped: 2,
                filtered: 5,
                rejected: vec![
                    rejected(Stage::Plugin, "no-lines", 12, 17),
                    rejected(Stage::Decode, "malformed", 3, 4711),
                ],
                busy: 7,
            },
            left: 0,
            cut: 4,
        }
    }

    #[test]
    fn a_replay_says_what_became_of_the_dead_letters() {
        assert_snapshot!(report().text(), @"
        pipeline shop: 1,020 dead letters replayed with orders 1.1.0 (sha256:0123456789ab)
              1,000  become rows: 1,000 in public.orders, 3,456 in public.order_lines
                  2  rows are dropped by triggers of the tables
                  5  are filtered by the plugin
                 15  are rejected again and stay dead letters
                  7  are locked by another replay
                  4  keep only the start of a message that was too large for Postgres: they cannot be replayed

        stage   code       dead letters  first  its reason
        plugin  no-lines             12     17  because of no-lines
        decode  malformed             3   4711  because of malformed
        ");
        assert_snapshot!(report().value(), @r#"{"busy":7,"dead_letters":1020,"digest":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","dropped":2,"dry_run":false,"filtered":5,"left":0,"pipeline":"shop","plugin":"orders","rejected":[{"code":"no-lines","dead_letters":12,"first":{"id":17,"reason":"because of no-lines"},"stage":"plugin"},{"code":"malformed","dead_letters":3,"first":{"id":4711,"reason":"because of malformed"},"stage":"decode"}],"rows":[{"rows":1000,"table":"public.orders"},{"rows":3456,"table":"public.order_lines"}],"rows_from":1000,"truncated":4,"version":"1.1.0"}"#);
    }

    #[test]
    fn a_dry_run_says_what_would() {
        let tally = Tally { dead_letters: 3, rows_from: 3, rows: vec![3, 0], ..Tally::default() };
        let dry_run = Report { dry_run: true, left: 2, cut: 0, tally, ..report() };
        assert_snapshot!(dry_run.text(), @"
        pipeline shop: 3 dead letters tried with orders 1.1.0 (sha256:0123456789ab), nothing was changed
                  3  become rows: 3 in public.orders, 0 in public.order_lines
                  2  are left
        ");
    }
}
