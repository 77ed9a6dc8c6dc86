//! The tables as they are, read in one snapshot.

use anyhow::Result;

use super::shape::Table;
use crate::postgres::Database;

/// A row of one of the pipeline's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// Name of the table.
    pub table: &'static str,
    /// The row as text.
    pub text: String,
    /// When it arrived, counted.
    pub arrival: i64,
    /// Mark of the version that made it.
    pub marker: String,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Time of the message.
    pub timestamp_ms: Option<i64>,
    /// Who rejected it.
    pub stage: String,
    /// Short reason.
    pub code: String,
    /// Reason for a person.
    pub reason: String,
    /// Version that was asked.
    pub digest: String,
}

/// A row of `sluice.positions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Partition.
    pub partition: i32,
    /// Next offset.
    pub next_offset: i64,
    /// Id of the topic.
    pub topic_id: String,
}

/// A row of `sluice.lineage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Partition.
    pub partition: i32,
    /// First offset.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
    /// Id of the topic.
    pub topic_id: String,
    /// Version.
    pub digest: String,
    /// `messages`, `rows_from`, `rows`, `filtered`, `rejected`, `parked`.
    pub counts: [i64; 6],
}

/// A row of `sluice.replayed_dead_letters` or of `sluice.retried`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Version that made the rows.
    pub digest: String,
    /// How many.
    pub rows: i32,
}

/// A row of `sluice.gaps`: offsets that a person has skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Partition.
    pub partition: i32,
    /// First offset that is never read.
    pub from: i64,
    /// The offset behind the last.
    pub to: i64,
}

/// All that the pipeline has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Rows of its tables.
    pub rows: Vec<StoredRow>,
    /// Its dead letters, by position, those that were discarded among them.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that passed when they were replayed.
    pub replayed: Vec<Replayed>,
    /// Parked messages that passed when they were tried again.
    pub retried: Vec<Replayed>,
    /// Where it stands.
    pub positions: Vec<Position>,
    /// Its ranges, by partition and offset.
    pub lineage: Vec<Lineage>,
    /// What was skipped, by partition and offset.
    pub gaps: Vec<Gap>,
}

impl Tables {
    /// Reads all that `pipeline` wrote for `topic` (its last incarnation), in one snapshot.
    pub fn read(
        database: &Database,
        pipeline: &str,
        topic: &str,
        tables: &[Table],
    ) -> Result<Self> {
        let database = database.again()?;
        database.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let mut rows = Vec::new();
        for table in tables {
            rows.extend(read_rows(&database, table)?);
        }
        let positions = read_positions(&database, pipeline, topic)?;
        let all = Self {
            rows,
            dead_letters: read_dead_letters(&database, pipeline, topic)?,
            replayed: read_replayed(&database, "replayed_dead_letters", pipeline, topic)?,
            retried: read_replayed(&database, "retried", pipeline, topic)?,
            lineage: read_lineage(&database, pipeline, topic)?,
            gaps: read_gaps(&database, pipeline, topic)?,
            positions,
        };
        database.execute("COMMIT")?;
        Ok(all)
    }
}

fn read_rows(database: &Database, table: &Table) -> Result<Vec<StoredRow>> {
    let arrival = table.arrival.unwrap_or("0::bigint");
    let marker = if table.marker.is_empty() { "''" } else { table.marker };
    let sql = format!(
        "SELECT {text}, {arrival}, {marker} FROM {name}",
        text = table.text,
        name = table.name
    );
    let rows = database.query(&sql, &[])?;
    let stored = |row: &tokio_postgres::Row| StoredRow {
        table: table.name,
        text: row.get(0),
        arrival: row.get(1),
        marker: row.get(2),
    };
    Ok(rows.iter().map(stored).collect())
}

/// Restricts to the incarnation of the topic in which the pipeline stands.
const INCARNATION: &str =
    "topic_id IN (SELECT topic_id FROM sluice.positions WHERE pipeline = $1 AND topic = $2)";

fn read_dead_letters(database: &Database, pipeline: &str, topic: &str) -> Result<Vec<DeadLetter>> {
    let select = |table: &str| {
        format!(
            "SELECT partition, \"offset\", key, payload, header_names, header_values, \
             (extract(epoch FROM \"timestamp\") * 1000)::bigint, stage, code, reason, digest, id \
             FROM sluice.{table} WHERE pipeline = $1 AND topic = $2 AND {INCARNATION}"
        )
    };
    let sql = format!(
        "{} UNION ALL {} ORDER BY 1, 2, id",
        select("dead_letters"),
        select("discarded_dead_letters")
    );
    let rows = database.query(&sql, &[&pipeline, &topic])?;
    let dead_letter = |row: &tokio_postgres::Row| {
        let names: Vec<Vec<u8>> = row.get(4);
        let values: Vec<Option<Vec<u8>>> = row.get(5);
        DeadLetter {
            partition: row.get(0),
            offset: row.get(1),
            key: row.get(2),
            payload: row.get(3),
            headers: names.into_iter().zip(values).collect(),
            timestamp_ms: row.get(6),
            stage: row.get(7),
            code: row.get(8),
            reason: row.get(9),
            digest: row.get(10),
        }
    };
    Ok(rows.iter().map(dead_letter).collect())
}

fn read_replayed(
    database: &Database,
    table: &str,
    pipeline: &str,
    topic: &str,
) -> Result<Vec<Replayed>> {
    let sql = format!(
        "SELECT partition, \"offset\", digest, rows FROM sluice.{table} \
         WHERE pipeline = $1 AND topic = $2 AND {INCARNATION} ORDER BY partition, \"offset\""
    );
    let rows = database.query(&sql, &[&pipeline, &topic])?;
    let replayed = |row: &tokio_postgres::Row| Replayed {
        partition: row.get(0),
        offset: row.get(1),
        digest: row.get(2),
        rows: row.get(3),
    };
    Ok(rows.iter().map(replayed).collect())
}

fn read_positions(database: &Database, pipeline: &str, topic: &str) -> Result<Vec<Position>> {
    let sql = "SELECT partition, next_offset, topic_id::text FROM sluice.positions \
               WHERE pipeline = $1 AND topic = $2 ORDER BY partition";
    let rows = database.query(sql, &[&pipeline, &topic])?;
    let position = |row: &tokio_postgres::Row| Position {
        partition: row.get(0),
        next_offset: row.get(1),
        topic_id: row.get(2),
    };
    Ok(rows.iter().map(position).collect())
}

fn read_lineage(database: &Database, pipeline: &str, topic: &str) -> Result<Vec<Lineage>> {
    let sql = format!(
        "SELECT partition, from_offset, to_offset, topic_id::text, digest, \
         messages, rows_from, rows, filtered, rejected, parked \
         FROM sluice.lineage WHERE pipeline = $1 AND topic = $2 AND {INCARNATION} ORDER BY partition, from_offset"
    );
    let rows = database.query(&sql, &[&pipeline, &topic])?;
    let lineage = |row: &tokio_postgres::Row| Lineage {
        partition: row.get(0),
        from: row.get(1),
        to: row.get(2),
        topic_id: row.get(3),
        digest: row.get(4),
        counts: [row.get(5), row.get(6), row.get(7), row.get(8), row.get(9), row.get(10)],
    };
    Ok(rows.iter().map(lineage).collect())
}

fn read_gaps(database: &Database, pipeline: &str, topic: &str) -> Result<Vec<Gap>> {
    let incarnation = INCARNATION.replace("topic_id IN", "topic_id_after IN");
    let sql = format!(
        "SELECT partition, from_offset, to_offset FROM sluice.gaps \
         WHERE pipeline = $1 AND topic = $2 AND from_offset IS NOT NULL AND {incarnation} \
         ORDER BY partition, from_offset"
    );
    let rows = database.query(&sql, &[&pipeline, &topic])?;
    let gap =
        |row: &tokio_postgres::Row| Gap { partition: row.get(0), from: row.get(1), to: row.get(2) };
    Ok(rows.iter().map(gap).collect())
}
