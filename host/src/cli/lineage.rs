//! `sluice lineage`: which plugin version made which range of offsets.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::database;
use super::output::{self, count};
use super::table::Table;
use super::{Format, block_on};
use crate::settings::Settings;

/// Which pipeline.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only this partition
    #[arg(long, value_name = "NUMBER")]
    pub partition: Option<i32>,
}

/// A range of offsets of one partition, made by one plugin version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Range {
    topic_id: String,
    partition: i32,
    from: i64,
    to: i64,
    plugin: String,
    version: String,
    digest: String,
    messages: i64,
    rows: i64,
    filtered: i64,
    rejected: i64,
    parked: i64,
    first: Timestamp,
    last: Timestamp,
}

/// Prints the ranges.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&arguments.file)?;
    let ranges = join(block_on(read(&settings, arguments.partition))?);
    output::print(format, &ranges, || show(&settings, &ranges))
}

async fn read(settings: &Settings, partition: Option<i32>) -> anyhow::Result<Vec<Range>> {
    let session = database::connect(settings).await?;
    let (pipeline, topic) = (&settings.pipeline.name, &settings.source.topic);
    // A topic that was deleted and created again starts over with another id: its ranges follow the old one's.
    let query = "SELECT topic_id::text, partition, from_offset, to_offset, plugin, version, digest, messages, rows, \
        filtered, rejected, parked, (extract(epoch from first_at) * 1e6)::bigint, (extract(epoch from last_at) * 1e6)::bigint, \
        min(first_at) OVER (PARTITION BY topic_id) AS created_at \
        FROM sluice.lineage WHERE pipeline = $1 AND topic = $2 AND partition = coalesce($3, partition) \
        ORDER BY created_at, topic_id, partition, from_offset";
    let rows =
        database::query(&session, "read lineage", query, &[pipeline, topic, &partition]).await?;
    rows.iter().map(|row| Ok(range(row)?)).collect()
}

fn range(row: &tokio_postgres::Row) -> Result<Range, jiff::Error> {
    Ok(Range {
        topic_id: row.get(0),
        partition: row.get(1),
        from: row.get(2),
        to: row.get(3),
        plugin: row.get(4),
        version: row.get(5),
        digest: row.get(6),
        messages: row.get(7),
        rows: row.get(8),
        filtered: row.get(9),
        rejected: row.get(10),
        parked: row.get(11),
        first: Timestamp::from_microsecond(row.get(12))?,
        last: Timestamp::from_microsecond(row.get(13))?,
    })
}

/// Ranges of one version that follow each other without a gap become one, as after a change of owner.
fn join(ranges: Vec<Range>) -> Vec<Range> {
    let mut joined: Vec<Range> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.is_continued_by(&range) => {
                last.to = range.to;
                last.messages += range.messages;
                last.rows += range.rows;
                last.filtered += range.filtered;
                last.rejected += range.rejected;
                last.parked += range.parked;
                last.last = range.last.max(last.last);
            }
            _ => joined.push(range),
        }
    }
    joined
}

impl Range {
    fn follows(&self, before: &Self) -> bool {
        before.topic_id == self.topic_id && before.partition == self.partition
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        next.follows(self) && next.from == self.to && next.digest == self.digest
    }
}

fn show(settings: &Settings, ranges: &[Range]) -> String {
    let (pipeline, topic) = (&settings.pipeline.name, &settings.source.topic);
    if ranges.is_empty() {
        return format!("nothing of {topic} was written by the pipeline {pipeline} yet");
    }
    let mut text = table(ranges);
    for pair in
        ranges.windows(2).filter(|pair| pair[1].follows(&pair[0]) && pair[1].from != pair[0].to)
    {
        let (from, to) = (pair[0].to, pair[1].from);
        let _ = write!(
            text,
            "\npartition {}: offsets {from} to {to} are in no range",
            pair[1].partition
        );
    }
    text
}

fn table(ranges: &[Range]) -> String {
    let recreated = ranges.iter().any(|range| range.topic_id != ranges[0].topic_id);
    let columns = [
        "partition",
        ">from",
        ">to",
        "plugin",
        "digest",
        ">messages",
        ">rows",
        ">filtered",
        ">rejected",
        ">parked",
        "first",
        "last",
    ];
    let topic_id = if recreated { &["topic id"][..] } else { &[] };
    let mut table = Table::new(&[topic_id, &columns[..]].concat());
    for range in ranges {
        let topic_id = recreated.then(|| range.topic_id.clone());
        table.row(topic_id.into_iter().chain([
            range.partition.to_string(),
            range.from.to_string(),
            range.to.to_string(),
            format!("{} {}", range.plugin, range.version),
            range.digest.chars().take(12).collect(),
            count(range.messages),
            count(range.rows),
            count(range.filtered),
            count(range.rejected),
            count(range.parked),
            database::time(range.first),
            database::time(range.last),
        ]));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn range(topic: u128, partition: i32, from: i64, to: i64, digest: char) -> Range {
        Range {
            topic_id: uuid::Uuid::from_u128(topic).to_string(),
            partition,
            from,
            to,
            plugin: "readings".into(),
            version: format!("1.0.{digest}"),
            digest: digest.to_string().repeat(64),
            messages: to - from,
            rows: to - from - 1,
            filtered: 0,
            rejected: 1,
            parked: 0,
            first: Timestamp::from_second(1_700_000_000 + from).unwrap(),
            last: Timestamp::from_second(1_700_000_000 + to).unwrap(),
        }
    }

    fn settings() -> Settings {
        let text = "[pipeline]\nname = \"energy\"\n[source]\nbrokers = \"b\"\ntopic = \"hems\"\n\
            [plugin]\npath = \"p\"\n[sink]\nurl = \"postgres://d\"\ntable = \"t\"\n";
        Settings::parse("energy.toml", text, &|_| None).unwrap()
    }

    #[test]
    fn ranges_of_one_version_are_joined_over_owners_and_not_over_gaps() {
        let ranges = vec![
            range(1, 0, 0, 1000, 'a'),
            range(1, 0, 1000, 5000, 'a'),
            range(1, 0, 5000, 9000, 'b'),
            range(1, 1, 9000, 9100, 'b'),
            range(1, 1, 9200, 9300, 'b'),
        ];
        assert_snapshot!(show(&settings(), &join(ranges)), @r"
    partition  from    to  plugin          digest        messages   rows  filtered  rejected  parked  first                 last
    0             0  5000  readings 1.0.a  aaaaaaaaaaaa     5,000  4,998         0         2       0  2023-11-14T22:13:20Z  2023-11-14T23:36:40Z
    0          5000  9000  readings 1.0.b  bbbbbbbbbbbb     4,000  3,999         0         1       0  2023-11-14T23:36:40Z  2023-11-15T00:43:20Z
    1          9000  9100  readings 1.0.b  bbbbbbbbbbbb       100     99         0         1       0  2023-11-15T00:43:20Z  2023-11-15T00:45:00Z
    1          9200  9300  readings 1.0.b  bbbbbbbbbbbb       100     99         0         1       0  2023-11-15T00:46:40Z  2023-11-15T00:48:20Z

    partition 1: offsets 9100 to 9200 are in no range
    ");
    }

    #[test]
    fn a_topic_created_again_shows_its_ids() {
        assert_snapshot!(show(&settings(), &join(vec![range(1, 0, 0, 10, 'a'), range(2, 0, 10, 20, 'a')])), @r"
    topic id                              partition  from  to  plugin          digest        messages  rows  filtered  rejected  parked  first                 last
    00000000-0000-0000-0000-000000000001  0             0  10  readings 1.0.a  aaaaaaaaaaaa        10     9         0         1       0  2023-11-14T22:13:20Z  2023-11-14T22:13:30Z
    00000000-0000-0000-0000-000000000002  0            10  20  readings 1.0.a  aaaaaaaaaaaa        10     9         0         1       0  2023-11-14T22:13:30Z  2023-11-14T22:13:40Z
    ");
    }

    #[test]
    fn nothing_written_is_said() {
        assert_snapshot!(show(&settings(), &[]), @"nothing of hems was written by the pipeline energy yet");
    }
}
