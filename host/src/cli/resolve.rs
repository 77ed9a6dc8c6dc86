//! `sluice resolve`: a person decides where blocked partitions go on. Shows what is lost, skipped or read again,
//! and records it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::output::{self, count};
use super::table::Table;
use super::{Format, block_on, database, topic};
use crate::fault::{Fault, broker};
use crate::settings::Settings;
use crate::sink::claims::blocks::{self, Block, host_name};
use crate::sink::claims::resolve::Decision;
use crate::sink::claims::{Claims, Position};
use crate::sink::postgres::Options;

mod decide;

use decide::{Left, Resolved, Stand};

/// Which partitions, and where they go on.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to go on
    #[command(flatten)]
    pub choice: Choice,
    /// Only this partition (may be given several times); all that are blocked without
    #[arg(long = "partition", value_name = "NUMBER")]
    pub partitions: Vec<i32>,
    /// Also a partition that is not blocked; it must be named
    #[arg(long, requires = "partitions")]
    pub force: bool,
    /// Why, for those who look at sluice.gaps later
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Where to go on.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct Choice {
    /// At the oldest message that the topic has
    #[arg(long)]
    pub earliest: bool,
    /// Behind the newest message that the topic has now
    #[arg(long)]
    pub latest: bool,
    /// At this offset
    #[arg(long, value_name = "NUMBER", requires = "partitions")]
    pub offset: Option<i64>,
    /// Where it stands: the cause was mended, or hosts crashed there for another reason
    #[arg(long)]
    pub retry: bool,
}

/// So often it is tried when partitions change hands at that moment.
const ATTEMPTS_MAX: usize = 10;

/// What is printed.
#[derive(Debug, Serialize)]
struct Resolution {
    pipeline: String,
    topic: String,
    reason: String,
    dry_run: bool,
    resolved: Vec<Resolved>,
    left_alone: Vec<Left>,
}

fn reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if text.is_empty() { Err("a reason is wanted that others understand") } else { Ok(text.into()) }
}

/// Decides, shows and records.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&arguments.file)?;
    let (pipeline, name) = (&settings.pipeline.name, &settings.source.topic);
    let options = Options::of(&settings.sink)?;
    let claims = Claims::new(&options, pipeline, name, "resolve");
    let decide = || {
        // In this order: a partition at work must not seem to stand behind its end.
        let (positions, blocks) = block_on(read(&settings, &claims))?;
        let topic = topic::read(&settings.source)?;
        let stand = |position: Position| {
            let block = blocks.iter().find(|block| block.partition == position.partition);
            Stand::new(&position, &topic, block)
        };
        let stands: Vec<Stand> = positions.into_iter().map(stand).collect();
        Ok::<_, anyhow::Error>((decide::decide(&stands, arguments)?, topic.id))
    };
    let ((mut resolved, left_alone), topic_id) = decide()?;
    let by = format!("{}@{}", user(), host_name());
    let mut attempts = 0;
    while !arguments.dry_run && !resolved.is_empty() {
        let decisions: Vec<Decision> = resolved.iter().map(|it| it.decision.clone()).collect();
        let resolving = claims.resolve(topic_id, &decisions, &arguments.reason, &by);
        let Err(fault) = block_on(async { Ok(resolving.await) })? else { break };
        attempts += 1;
        if fault.code != broker::UNDECIDABLE || attempts == ATTEMPTS_MAX {
            return Err(fault.into());
        }
        // Hosts claim again and again what is blocked: that is no other position.
        let (decided, id) = decide()?;
        resolved = decided.0;
        let places = resolved.iter().map(|it| it.decision.place());
        if id != topic_id || places.ne(decisions.iter().map(Decision::place)) {
            return Err(fault.into());
        }
    }
    let resolution = Resolution {
        pipeline: pipeline.clone(),
        topic: name.clone(),
        reason: arguments.reason.clone(),
        dry_run: arguments.dry_run,
        resolved,
        left_alone,
    };
    output::print(format, &resolution, || resolution.text())
}

async fn read(settings: &Settings, claims: &Claims) -> anyhow::Result<(Vec<Position>, Vec<Block>)> {
    let session = database::connect(settings).await?;
    let positions = claims.stored_on(&session).await?;
    let blocks = blocks::read(&session, &settings.pipeline.name, &settings.source.topic).await?;
    Ok((positions, blocks))
}

fn user() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    name.unwrap_or_else(|_| "unknown".to_owned())
}

/// Not what the operator thinks it is.
fn refuse(message: impl Into<String>) -> Fault {
    Fault::block(broker::UNDECIDABLE, message)
}

impl Resolution {
    fn text(&self) -> String {
        let Self { pipeline, topic, resolved, left_alone, .. } = self;
        if resolved.is_empty() && left_alone.is_empty() {
            return format!("pipeline {pipeline}, topic {topic}: no partition is blocked");
        }
        let columns = [
            "partition",
            "blocked",
            ">stood at",
            ">goes on at",
            ">lost",
            ">skipped",
            ">read again",
        ];
        let mut table = Table::new(&columns);
        for one in resolved {
            table.row([
                one.partition.to_string(),
                one.code.clone().unwrap_or_else(|| "-".to_owned()),
                one.position_before.to_string(),
                one.position_after.to_string(),
                count(one.lost),
                count(one.skipped),
                count(one.read_again),
            ]);
        }
        let mut text = if resolved.is_empty() { String::new() } else { table.render() + "\n" };
        for Left { partition, why } in left_alone {
            text.push_str(&format!("partition {partition} was left alone: {why}\n"));
        }
        if resolved.iter().any(|one| one.other_topic) {
            text.push_str(
                "What the topic that was deleted had behind these positions is lost, too; nobody can say how much.\n",
            );
        }
        if resolved.iter().any(|one| one.read_again > 0) {
            text.push_str(
                "What is read again is written again: twice in tables with mode append.\n",
            );
        }
        text.push_str(match (self.dry_run, resolved.is_empty()) {
            (true, _) => "Dry run: nothing was changed.",
            (false, true) => "Nothing was changed.",
            (false, false) => {
                "Recorded in sluice.gaps. Running hosts go on by themselves in a few seconds."
            }
        });
        text
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn resolved(partition: i32, before: i64, after: i64) -> Resolved {
        Resolved {
            partition,
            code: Some("SL-K010".into()),
            position_before: before,
            position_after: after,
            lost: 50,
            skipped: 1_250,
            read_again: 0,
            other_topic: false,
            decision: Decision {
                partition,
                epoch: 1,
                position_before: before,
                position_after: after,
                skipped: None,
                code: None,
            },
        }
    }

    fn resolution(resolved: Vec<Resolved>, left_alone: Vec<Left>, dry_run: bool) -> String {
        let (pipeline, topic) = ("energy".to_owned(), "hems".to_owned());
        let reason = "retention".to_owned();
        Resolution { pipeline, topic, reason, dry_run, resolved, left_alone }.text()
    }

    #[test]
    fn what_is_done_can_be_read() {
        let left = Left { partition: 7, why: "12 messages would be read again".into() };
        let again = Resolved { read_again: 3, other_topic: true, code: None, ..resolved(12, 3, 0) };
        assert_snapshot!(resolution(vec![resolved(1, 100, 1350), again], vec![left], false), @"
        partition  blocked  stood at  goes on at  lost  skipped  read again
        1          SL-K010       100        1350    50    1,250           0
        12         -               3           0    50    1,250           3

        partition 7 was left alone: 12 messages would be read again
        What the topic that was deleted had behind these positions is lost, too; nobody can say how much.
        What is read again is written again: twice in tables with mode append.
        Recorded in sluice.gaps. Running hosts go on by themselves in a few seconds.
        ");
        assert_snapshot!(resolution(vec![resolved(1, 100, 1350)], vec![], true), @"
        partition  blocked  stood at  goes on at  lost  skipped  read again
        1          SL-K010       100        1350    50    1,250           0

        Dry run: nothing was changed.
        ");
        assert_snapshot!(resolution(vec![], vec![], false), @"pipeline energy, topic hems: no partition is blocked");
    }
}
