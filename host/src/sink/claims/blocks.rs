//! What does not go on now, written down where every host and every operator can see it.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::{Claims, schema_fault};
use crate::fault::Fault;
use crate::sink::dead_letters::{in_ascii, storable};
use crate::sink::postgres::connection::Session;

/// In the place of a partition: the whole pipeline on one host.
pub const WHOLE_PIPELINE: i32 = -1;

/// A partition has one holder: what another host wrote about it is old. Hosts that block a pipeline are many; those
/// that have not checked theirs for long are gone.
const BLOCK: &str = "\
WITH gone AS (
    DELETE FROM sluice.blocks
    WHERE pipeline = $1 AND topic = $2 AND owner <> $3 AND partition = ANY ($5)
        AND (partition >= 0 OR checked_at < now() - interval '10 minutes')
)
INSERT INTO sluice.blocks AS h (pipeline, topic, owner, host, partition, code, reason)
SELECT $1, $2, $3, $4, partition, $6, $7 FROM unnest($5::integer[]) AS p (partition) ORDER BY partition
ON CONFLICT (pipeline, topic, partition, owner) DO UPDATE
SET code = excluded.code, reason = excluded.reason, checked_at = now()";

const UNBLOCK: &str = "DELETE FROM sluice.blocks \
    WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3) AND (owner = $4 OR $5)";

const READ: &str = "\
SELECT partition, owner, host, code, reason, (extract(epoch FROM blocked_since) * 1e6)::bigint AS blocked_since,
    (extract(epoch FROM checked_at) * 1e6)::bigint AS checked_at
FROM sluice.blocks WHERE pipeline = $1 AND topic = $2 ORDER BY partition, blocked_since";

/// Something that does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The partition, or [`WHOLE_PIPELINE`].
    pub partition: i32,
    /// Who blocks it.
    pub owner: String,
    /// On which machine.
    pub host: String,
    /// Why.
    pub code: String,
    /// The same in words.
    pub reason: String,
    /// Since when.
    pub blocked_since: Timestamp,
    /// When its holder last found that it does not go on.
    pub checked_at: Timestamp,
}

impl Claims {
    /// Writes down that `partitions` are blocked, or are still blocked.
    pub async fn block(
        &self,
        session: &Session,
        partitions: &[i32],
        fault: &Fault,
    ) -> Result<(), Fault> {
        let reason = storable(&fault.message);
        let written = match self.write_block(session, partitions, fault.code, &reason).await {
            // A database of another encoding.
            Err(error) if error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER) => {
                let reason = in_ascii(&fault.message);
                self.write_block(session, partitions, fault.code, &reason).await
            }
            written => written,
        };
        written.map_err(|error| schema_fault("write down what is blocked", &error))
    }

    async fn write_block(
        &self,
        session: &Session,
        partitions: &[i32],
        code: &str,
        reason: &str,
    ) -> Result<(), tokio_postgres::Error> {
        let Self { pipeline, topic, owner, .. } = self;
        let host = host_name();
        let parameters: [&(dyn ToSql + Sync); 7] =
            [pipeline, topic, owner, &host, &partitions, &code, &reason];
        session.execute(BLOCK, &parameters).await.map(drop)
    }

    /// Strikes out that `partitions` are blocked: by this owner, or by `anybody`.
    pub async fn unblock(
        &self,
        session: &Session,
        partitions: &[i32],
        anybody: bool,
    ) -> Result<(), Fault> {
        session
            .execute(UNBLOCK, &[&self.pipeline, &self.topic, &partitions, &self.owner, &anybody])
            .await
            .map(drop)
            .map_err(|error| schema_fault("strike out what was blocked", &error))
    }
}

/// All that is blocked of `pipeline` and `topic`.
pub async fn read(session: &Session, pipeline: &str, topic: &str) -> Result<Vec<Block>, Fault> {
    let rows = session
        .query(READ, &[&pipeline, &topic])
        .await
        .map_err(|error| schema_fault("read what is blocked", &error))?;
    Ok(rows.iter().map(block).collect())
}

fn block(row: &Row) -> Block {
    let time = |name| Timestamp::from_microsecond(row.get(name)).unwrap_or_default();
    Block {
        partition: row.get("partition"),
        owner: row.get("owner"),
        host: row.get("host"),
        code: row.get("code"),
        reason: row.get("reason"),
        blocked_since: time("blocked_since"),
        checked_at: time("checked_at"),
    }
}

/// The name of this machine, as far as it has one.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
