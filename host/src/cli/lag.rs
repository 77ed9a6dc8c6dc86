//! `sluice lag`: how far each partition is behind, from the positions in Postgres and the ends in Kafka, what is blocked and
//! parked, and the relay of dead letters, if there is one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::database;
use super::output::{self, count};
use super::table::Table;
use super::topic::{self, Topic};
use super::{Format, block_on};
use crate::printable::escaped;
use crate::settings::{Settings, Start};
use crate::sink::claims::blocks::{self, Block, WHOLE_PIPELINE};
use crate::sink::dead_letters::outbox::Standing;
use crate::sink::parked::due::Standing as Parked;
use crate::sink::postgres::Session;

/// Which pipeline.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings file of the pipeline
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Where a partition stands in Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    next_offset: i64,
    owner: String,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct PartitionLag {
    partition: i32,
    /// `null` as long as nobody claimed the partition.
    next_offset: Option<i64>,
    oldest_offset: Option<i64>,
    /// `null` when the topic no longer has the partition.
    end_offset: Option<i64>,
    lag: i64,
    owner: Option<String>,
    updated_at: Option<Timestamp>,
    /// Messages that nobody can read yet, because a transaction is open; they are not counted as lag.
    not_readable: i64,
    /// When its first message was sent.
    not_readable_since: Option<Timestamp>,
}

/// What does not go on, and why.
#[derive(Debug, Serialize)]
struct Blocked {
    /// `null`: the whole pipeline on that host.
    partition: Option<i32>,
    host: String,
    owner: String,
    code: String,
    reason: String,
    blocked_since: Timestamp,
    checked_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Lag {
    pipeline: String,
    topic: String,
    total: i64,
    partitions: Vec<PartitionLag>,
    blocked: Vec<Blocked>,
    parked: Parked,
    /// `null` without `[dead_letters] topic`.
    dead_letters: Option<DeadLetterLag>,
}

#[derive(Debug, Serialize)]
struct DeadLetterLag {
    topic: String,
    #[serde(flatten)]
    standing: Standing,
}

/// Prints the lag of each partition and of all together.
pub fn run(arguments: &Arguments, format: Format) -> anyhow::Result<()> {
    let settings = Settings::load(&arguments.file)?;
    let stored = block_on(stored(&settings))?;
    let topic = topic::read(&settings.source)?;
    let lag = lag(&settings, &topic, stored);
    output::print(format, &lag, || show(&lag))
}

/// What Postgres knows.
#[derive(Debug, Default)]
struct Stored {
    positions: BTreeMap<i32, Position>,
    blocks: Vec<Block>,
    parked: Parked,
    /// `None` without `[dead_letters] topic`.
    relay: Option<Standing>,
}

async fn stored(settings: &Settings) -> anyhow::Result<Stored> {
    let session = database::connect(settings).await?;
    let Settings { pipeline, source, dead_letters, .. } = settings;
    let relay = match dead_letters.topic {
        Some(_) => Some(Standing::read(&session, &pipeline.name).await?),
        None => None,
    };
    Ok(Stored {
        positions: positions(&session, settings).await?,
        blocks: blocks::read(&session, &pipeline.name, &source.topic).await?,
        parked: Parked::read(&session, &pipeline.name).await?,
        relay,
    })
}

async fn positions(
    session: &Session,
    settings: &Settings,
) -> anyhow::Result<BTreeMap<i32, Position>> {
    let query = "SELECT partition, next_offset, owner, (extract(epoch from updated_at) * 1e6)::bigint \
        FROM sluice.positions WHERE pipeline = $1 AND topic = $2";
    let (pipeline, topic) = (&settings.pipeline.name, &settings.source.topic);
    let rows = database::query(session, "read positions", query, &[pipeline, topic]).await?;
    rows.iter()
        .map(|row| {
            let updated_at = Timestamp::from_microsecond(row.get(3))?;
            Ok((row.get(0), Position { next_offset: row.get(1), owner: row.get(2), updated_at }))
        })
        .collect()
}

fn lag(settings: &Settings, topic: &Topic, stored: Stored) -> Lag {
    let Stored { positions, blocks, parked, relay } = stored;
    let mut numbers: Vec<i32> = positions.keys().chain(topic.ends.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    let start = settings.source.start;
    let partitions: Vec<PartitionLag> = numbers
        .into_iter()
        .map(|partition| partition_lag(partition, positions.get(&partition), topic, start))
        .collect();
    Lag {
        pipeline: settings.pipeline.name.clone(),
        topic: settings.source.topic.clone(),
        total: partitions.iter().map(|partition| partition.lag).sum(),
        partitions,
        blocked: blocks.into_iter().map(Blocked::from).collect(),
        parked,
        dead_letters: settings
            .dead_letters
            .topic
            .clone()
            .zip(relay)
            .map(|(topic, standing)| DeadLetterLag { topic, standing }),
    }
}

impl From<Block> for Blocked {
    fn from(block: Block) -> Self {
        let Block { partition, owner, host, code, reason, blocked_since, checked_at } = block;
        let partition = (partition != WHOLE_PIPELINE).then_some(partition);
        Self { partition, host, owner, code, reason, blocked_since, checked_at }
    }
}

impl Blocked {
    fn text(&self) -> String {
        let Self { partition, host, owner, code, reason, blocked_since, checked_at } = self;
        let what = match partition {
            Some(partition) => format!("partition {partition} is blocked"),
            None => "the pipeline is blocked".to_owned(),
        };
        let (since, checked) = (database::time(*blocked_since), database::time(*checked_at));
        // It may repeat what a server or a plugin said, on one line here.
        let reason = escaped(reason);
        format!(
            "{what} by {owner} on {host} since {since}, last checked {checked}: {code}: {reason}"
        )
    }
}

fn partition_lag(
    partition: i32,
    position: Option<&Position>,
    topic: &Topic,
    start: Start,
) -> PartitionLag {
    let (ends, open) = (topic.ends.get(&partition), topic.open.get(&partition));
    let next_offset = position.map(|position| position.next_offset);
    let lag = match (next_offset, ends) {
        (Some(next), Some((_, high))) => (high - next).max(0),
        // It will begin where `start` says.
        (None, Some((low, high))) if start == Start::Earliest => high - low,
        _ => 0,
    };
    PartitionLag {
        partition,
        next_offset,
        oldest_offset: ends.map(|(low, _)| *low),
        end_offset: ends.map(|(_, high)| *high),
        lag,
        owner: position.map(|position| position.owner.clone()),
        updated_at: position.map(|position| position.updated_at),
        not_readable: open.map_or(0, |open| open.messages),
        not_readable_since: open.and_then(|open| open.since),
    }
}

fn show(lag: &Lag) -> String {
    let mut table = Table::new(&["partition", ">next offset", ">end", ">lag", "owner", "updated"]);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for partition in &lag.partitions {
        table.row([
            partition.partition.to_string(),
            or_dash(partition.next_offset.map(|offset| offset.to_string())),
            or_dash(partition.end_offset.map(|offset| offset.to_string())),
            count(partition.lag),
            or_dash(partition.owner.clone()),
            or_dash(partition.updated_at.map(database::time)),
        ]);
    }
    let Lag { pipeline, topic, total, partitions, blocked, parked, dead_letters } = lag;
    let mut text = table.render();
    text.push_str(&format!(
        "\npipeline {pipeline}, topic {topic}: {} messages behind",
        count(*total)
    ));
    for partition in partitions {
        let number = partition.partition;
        if partition.not_readable > 0 {
            let messages = count(partition.not_readable);
            let since = partition.not_readable_since.map(database::time);
            let since = since.map_or_else(String::new, |it| format!(" since {it}"));
            text.push_str(&format!(
                "\npartition {number}: an open transaction keeps {messages} messages from being read{since}; they are no lag"
            ));
        }
        let Some(next) = partition.next_offset else { continue };
        match (partition.oldest_offset, partition.end_offset) {
            (Some(low), _) if next < low => {
                text.push_str(&format!(
                    "\npartition {number}: offsets {next} to {low} are gone from the topic"
                ));
            }
            (_, Some(end)) if next > end => {
                text.push_str(&format!("\npartition {number}: the topic ends before its position"));
            }
            (None, None) => {
                text.push_str(&format!("\npartition {number}: the topic no longer has it"));
            }
            _ => {}
        }
    }
    text.extend(blocked.iter().map(|blocked| format!("\n{}", blocked.text())));
    text.push_str(&parked_text(parked));
    text.extend(dead_letters.iter().map(DeadLetterLag::text));
    text
}

fn parked_text(parked: &Parked) -> String {
    let Parked { messages, behind, next_seconds } = *parked;
    if messages == 0 {
        return String::new();
    }
    let mut text = format!("\nparked: {} messages", count(messages));
    if behind > 0 {
        text.push_str(&format!(", {} of them behind another of their key", count(behind)));
    }
    match next_seconds {
        Some(pause @ 1..) => {
            text.push_str(&format!("; the next is tried in {}", seconds(pause as u64)));
        }
        Some(_) => text.push_str("; the next is due"),
        None => {}
    }
    text
}

fn seconds(seconds: u64) -> impl std::fmt::Display {
    humantime::format_duration(Duration::from_secs(seconds))
}

impl DeadLetterLag {
    fn text(&self) -> String {
        let Self { topic, standing } = self;
        let Standing { waiting, oldest_seconds, refused, fault, fault_seconds } = standing;
        let mut text = match waiting {
            0 => format!("\ndead letters: none waits for topic {topic}"),
            _ => format!(
                "\ndead letters: {} wait for topic {topic}, the first for {}",
                count(*waiting as i64),
                seconds(*oldest_seconds)
            ),
        };
        if let Some(fault) = fault {
            let since = fault_seconds.unwrap_or_default().max(0) as u64;
            text.push_str(&format!("\nthe relay waits for {}: {fault}", seconds(since)));
        }
        if *refused > 0 {
            let refused = count(*refused as i64);
            text.push_str(&format!("\n{refused} cannot be relayed, see `sluice explain SL-D303`"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::cli::topic::{Ends, Open};

    fn settings(start: &str) -> Settings {
        let text = format!(
            "[pipeline]\nname = \"energy\"\n[source]\nbrokers = \"b\"\ntopic = \"hems\"\nstart = \"{start}\"\n\
            [plugin]\npath = \"p\"\n[sink]\nurl = \"postgres://d\"\ntable = \"t\"\n"
        );
        Settings::parse("energy.toml", &text, &|_| None).unwrap()
    }

    fn position(next_offset: i64) -> Position {
        let updated_at = Timestamp::from_second(1_700_000_000).unwrap();
        Position { next_offset, owner: "host-1".into(), updated_at }
    }

    fn topic(ends: &[(i32, Ends)]) -> Topic {
        let ends = ends.iter().copied().collect();
        Topic { id: uuid::Uuid::nil(), ends, open: BTreeMap::new() }
    }

    fn block(partition: i32, code: &str) -> Block {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        Block {
            partition,
            owner: "77-0a".into(),
            host: "host-1".into(),
            code: code.into(),
            reason: "it does not fit".into(),
            blocked_since: time,
            checked_at: time,
        }
    }

    #[test]
    fn each_partition_is_compared_with_its_end() {
        let positions = BTreeMap::from([
            (0, position(1_200)),
            (1, position(10)),
            (2, position(90)),
            (9, position(5)),
        ]);
        let ends = [(0, (0, 9_999)), (1, (50, 60)), (2, (0, 80)), (3, (100, 160))];
        let since = Some(Timestamp::from_second(1_700_000_000).unwrap());
        let open = [(0, Open { messages: 1_234, since }), (3, Open { messages: 2, since: None })];
        let topic = Topic { open: open.into(), ..topic(&ends) };
        let blocks = vec![block(WHOLE_PIPELINE, "SL-P007"), block(1, "SL-K010")];
        let stored = Stored { positions, blocks, ..Stored::default() };
        assert_snapshot!(show(&lag(&settings("earliest"), &topic, stored)), @"
        partition  next offset   end    lag  owner   updated
        0                 1200  9999  8,799  host-1  2023-11-14T22:13:20Z
        1                   10    60     50  host-1  2023-11-14T22:13:20Z
        2                   90    80      0  host-1  2023-11-14T22:13:20Z
        3                    -   160     60  -       -
        9                    5     -      0  host-1  2023-11-14T22:13:20Z

        pipeline energy, topic hems: 8,909 messages behind
        partition 0: an open transaction keeps 1,234 messages from being read since 2023-11-14T22:13:20Z; they are no lag
        partition 1: offsets 10 to 50 are gone from the topic
        partition 2: the topic ends before its position
        partition 3: an open transaction keeps 2 messages from being read; they are no lag
        partition 9: the topic no longer has it
        the pipeline is blocked by 77-0a on host-1 since 2023-11-14T22:13:20Z, last checked 2023-11-14T22:13:20Z: SL-P007: it does not fit
        partition 1 is blocked by 77-0a on host-1 since 2023-11-14T22:13:20Z, last checked 2023-11-14T22:13:20Z: SL-K010: it does not fit
        ");
    }

    #[test]
    fn an_unclaimed_partition_that_starts_at_the_end_is_not_behind() {
        let topic = topic(&[(3, (100, 160))]);
        let total = |start| lag(&settings(start), &topic, Stored::default()).total;
        assert_eq!((total("latest"), total("earliest")), (0, 60));
    }

    #[test]
    fn parked_messages_are_told_of_when_there_are_any() {
        let text = |messages, behind, next_seconds| {
            parked_text(&Parked { messages, behind, next_seconds })
        };
        let texts =
            [text(0, 0, None), text(1375, 0, Some(64)), text(12, 10, Some(-2)), text(1, 1, None)];
        assert_snapshot!(texts.concat(), @"

        parked: 1,375 messages; the next is tried in 1m 4s
        parked: 12 messages, 10 of them behind another of their key; the next is due
        parked: 1 messages, 1 of them behind another of their key
        ");
    }

    #[test]
    fn the_relay_of_dead_letters_has_a_lag_of_its_own() {
        let text = |standing| DeadLetterLag { topic: "orders.dlt".into(), standing }.text();
        let idle = text(Standing::default());
        let behind = text(Standing {
            waiting: 12_345,
            oldest_seconds: 200,
            refused: 3,
            fault: Some("SL-D301: there is no topic orders.dlt for dead letters".into()),
            fault_seconds: Some(61),
        });
        assert_snapshot!(format!("{idle}{behind}"), @"

        dead letters: none waits for topic orders.dlt
        dead letters: 12,345 wait for topic orders.dlt, the first for 3m 20s
        the relay waits for 1m 1s: SL-D301: there is no topic orders.dlt for dead letters
        3 cannot be relayed, see `sluice explain SL-D303`
        ");
    }
}
