//! Dead letters as people and programs look at them. Changes nothing.

use std::time::SystemTime;

use jiff::Timestamp;
use postgres_types::ToSql;
use tokio_postgres::{Client, Row};

use super::selection::Selection;
use crate::fault::Fault;
use crate::sink::postgres::connection::fault_of_ours;

/// Dead letters of one stage with one code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Where.
    pub stage: String,
    /// Why.
    pub code: String,
    /// How many.
    pub dead_letters: i64,
    /// Most attempts that one of them has had.
    pub attempts_max: i32,
    /// When the first of them was first rejected.
    pub first: Timestamp,
    /// When one of them was rejected last.
    pub last: Timestamp,
    /// Id of the newest of them.
    pub example: i64,
    /// Its reason.
    pub reason: String,
}

/// A whole dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Unique among all dead letters of all pipelines.
    pub id: i64,
    /// Topic of the message.
    pub topic: String,
    /// Kafka's id of the topic.
    pub topic_id: String,
    /// Partition of the message.
    pub partition: i32,
    /// Offset of the message.
    pub offset: i64,
    /// The message's own time, in microseconds since 1970-01-01T00:00:00Z.
    pub timestamp_us: Option<i64>,
    /// True when that is the time of the broker's append and not the producer's.
    pub log_append_time: bool,
    /// The message's key.
    pub key: Option<Vec<u8>>,
    /// The message's payload.
    pub payload: Option<Vec<u8>>,
    /// Names and values, in the order of the message.
    pub headers: Vec<Header>,
    /// Stage that rejected it.
    pub stage: String,
    /// Why, for counting.
    pub code: String,
    /// Why, for people.
    pub reason: String,
    /// SHA-256 of the plugin that was asked last.
    pub digest: String,
    /// How often the message was tried.
    pub attempts: i32,
    /// When it was rejected first.
    pub rejected_at: Timestamp,
    /// When it was rejected last.
    pub last_rejected_at: Timestamp,
}

impl DeadLetter {
    /// About as many bytes as it takes in a topic.
    pub fn bytes(&self) -> usize {
        /// What a relay adds: headers with names, codes and numbers.
        const ADDED: usize = 1024;
        let of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + of(value) + 8);
        let message = of(&self.key) + of(&self.payload) + headers.sum::<usize>();
        // The reason is in two headers.
        message + 2 * self.reason.len() + ADDED
    }
}

/// Name and value.
pub type Header = (Vec<u8>, Option<Vec<u8>>);

/// Columns of a dead letter, in the order of [`DeadLetter::from_row`]. Times in microseconds, because a message may claim
/// a time that only Postgres can represent.
pub(super) const DEAD_LETTER: &str = "id, topic, topic_id::text, partition, \"offset\", \
     (extract(epoch FROM \"timestamp\") OPERATOR(pg_catalog.*) 1000000)::bigint, key, payload, header_names, header_values, stage, code, \
     reason, digest, attempts, rejected_at, coalesce(last_rejected_at, rejected_at), log_append_time";

/// Dead letters by stage and code, the most frequent first.
pub async fn groups(
    client: &Client,
    pipeline: &str,
    selection: &Selection,
) -> Result<Vec<Group>, Fault> {
    let condition = selection.condition(pipeline);
    let query = format!(
        "WITH groups AS (\n    \
         SELECT stage, code, count(*) AS dead_letters, max(attempts) AS attempts_max, min(rejected_at) AS first, \
         max(coalesce(last_rejected_at, rejected_at)) AS last, max(id) AS example \
         FROM sluice.dead_letters WHERE {} GROUP BY stage, code\n)\n\
         SELECT g.stage, g.code, dead_letters, attempts_max, first, last, example, reason \
         FROM groups AS g JOIN sluice.dead_letters ON id = example ORDER BY dead_letters DESC, g.stage, g.code",
        condition.text
    );
    let rows = ask(client, "list dead letters", &query, &condition.parameters()).await?;
    let group = |row: &Row| Group {
        stage: row.get(0),
        code: row.get(1),
        dead_letters: row.get(2),
        attempts_max: row.get(3),
        first: time(row, 4),
        last: time(row, 5),
        example: row.get(6),
        reason: row.get(7),
    };
    Ok(rows.iter().map(group).collect())
}

/// How many dead letters there are.
pub async fn count(client: &Client, pipeline: &str, selection: &Selection) -> Result<u64, Fault> {
    let condition = selection.condition(pipeline);
    let query = format!("SELECT count(*) FROM sluice.dead_letters WHERE {}", condition.text);
    let rows = ask(client, "count dead letters", &query, &condition.parameters()).await?;
    Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0) as u64))
}

/// The oldest dead letters, at most `max` of them.
pub async fn dead_letters(
    client: &Client,
    pipeline: &str,
    selection: &Selection,
    max: u32,
) -> Result<Vec<DeadLetter>, Fault> {
    let condition = selection.condition(pipeline);
    let query = format!(
        "SELECT {DEAD_LETTER} FROM sluice.dead_letters WHERE {} ORDER BY id LIMIT {max}",
        condition.text
    );
    let rows = ask(client, "read dead letters", &query, &condition.parameters()).await?;
    rows.iter().map(DeadLetter::from_row).collect()
}

/// All rows of a query on our own tables.
async fn ask(
    client: &Client,
    doing: &str,
    query: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Fault> {
    client.query(query, parameters).await.map_err(|error| fault_of_ours(doing, &error))
}

impl DeadLetter {
    pub(in crate::sink) fn from_row(row: &Row) -> Result<Self, Fault> {
        let id = row.get(0);
        Ok(Self {
            id,
            topic: row.get(1),
            topic_id: row.get(2),
            partition: row.get(3),
            offset: row.get(4),
            timestamp_us: row.get(5),
            log_append_time: row.get(17),
            key: row.get(6),
            payload: row.get(7),
            headers: headers(id, row.get(8), row.get(9))?,
            stage: row.get(10),
            code: row.get(11),
            reason: row.get(12),
            digest: row.get(13),
            attempts: row.get(14),
            rejected_at: time(row, 15),
            last_rejected_at: time(row, 16),
        })
    }
}

/// Names and values are columns of their own in Postgres, whose arrays have one type of element.
fn headers(
    id: i64,
    names: Vec<Vec<u8>>,
    values: Vec<Option<Vec<u8>>>,
) -> Result<Vec<Header>, Fault> {
    if names.len() != values.len() {
        let (names, values) = (names.len(), values.len());
        let message =
            format!("read dead letter {id}: {names} names and {values} values of headers");
        return Err(Fault::block("SL-D001", message));
    }
    Ok(names.into_iter().zip(values).collect())
}

/// A time that our own server gave.
fn time(row: &Row, index: usize) -> Timestamp {
    Timestamp::try_from(row.get::<_, SystemTime>(index)).unwrap_or(Timestamp::MAX)
}
