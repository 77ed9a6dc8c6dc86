//! Owners that crashed: how they are told from those that live and those that released their partitions cleanly, and how
//! often owners have crashed at one position.

use tokio_postgres::Row;

use super::{Claims, Position, schema_fault};
use crate::fault::Fault;
use crate::sink::postgres::connection::Session;
use crate::sink::postgres::sessions::heartbeat::{Heartbeat, LOCK};

const STORED: &str = "\
SELECT p.partition, p.topic_id::text AS topic_id, p.next_offset, p.epoch, p.owner,
    CASE WHEN p.vanished_at = p.next_offset THEN p.vanished ELSE 0 END AS crashes,
    NOT p.released AND p.owner <> $3 AND NOT EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.classid::bigint = $4::integer AND l.objid::bigint = hashtext(p.owner)::bigint & 4294967295
    ) AS owner_crashed
FROM sluice.positions AS p
WHERE p.pipeline = $1 AND p.topic = $2
ORDER BY p.partition";

/// Crashes that were counted at another offset count no more.
const RECORD_CRASHES: &str = "\
UPDATE sluice.positions AS p
SET released = true,
    vanished = CASE WHEN NOT v.counts THEN p.vanished WHEN p.vanished_at = p.next_offset THEN p.vanished + 1 ELSE 1 END,
    vanished_at = CASE WHEN v.counts THEN p.next_offset ELSE p.vanished_at END
FROM unnest($3::integer[], $4::text[], $5::boolean[]) AS v (partition, owner, counts)
WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = v.partition AND p.owner = v.owner AND NOT p.released";

const RESET_CRASHES: &str = "UPDATE sluice.positions SET vanished = 0, vanished_at = NULL \
    WHERE pipeline = $1 AND topic = $2 AND partition = $3";

const CLEAN_RELEASE: &str = "\
WITH struck AS (
    DELETE FROM sluice.blocks WHERE pipeline = $1 AND topic = $2 AND owner = $3 AND partition >= 0
), left_hosts AS (
    DELETE FROM sluice.hosts WHERE pipeline = $1 AND owner = $3
)
UPDATE sluice.positions SET released = true, vanished = 0, vanished_at = NULL
WHERE pipeline = $1 AND topic = $2 AND owner = $3 AND NOT released";

/// An owner that has crashed, and whether that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// The partition it had.
    pub partition: i32,
    /// Its name.
    pub owner: String,
    /// False when there was no message to read that could have been the cause.
    pub counts: bool,
}

impl Claims {
    /// Tells others that this owner lives, until the heartbeat is dropped or its session is lost.
    pub async fn heartbeat(&self) -> Result<Heartbeat, Fault> {
        self.options.heartbeat(&self.owner).await
    }

    /// Lets `ask` put a small question on a session that others use, too.
    pub async fn errand<T>(
        &self,
        doing: &str,
        ask: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.options.errand(doing, ask).await
    }

    /// All positions stored for the topic, asked on `session`.
    pub async fn stored_on(&self, session: &Session) -> Result<Vec<Position>, Fault> {
        let doing = format!("read the positions of topic {:?}", self.topic);
        let rows = session
            .query(STORED, &[&self.pipeline, &self.topic, &self.owner, &LOCK])
            .await
            .map_err(|error| schema_fault(&doing, &error))?;
        Ok(rows.iter().map(position).collect())
    }

    /// Records owners that have crashed, each once however many hosts see it.
    pub async fn record_crashes(&self, session: &Session, crashes: &[Crash]) -> Result<(), Fault> {
        let partitions: Vec<i32> = crashes.iter().map(|it| it.partition).collect();
        let owners: Vec<&str> = crashes.iter().map(|it| it.owner.as_str()).collect();
        let counts: Vec<bool> = crashes.iter().map(|it| it.counts).collect();
        session
            .execute(RECORD_CRASHES, &[&self.pipeline, &self.topic, &partitions, &owners, &counts])
            .await
            .map(drop)
            .map_err(|error| schema_fault("record owners that crashed", &error))
    }

    /// Resets the crashes of `partition`: its messages were read without another crash.
    pub async fn reset_crashes(&self, session: &Session, partition: i32) -> Result<(), Fault> {
        session
            .execute(RESET_CRASHES, &[&self.pipeline, &self.topic, &partition])
            .await
            .map(drop)
            .map_err(|error| schema_fault("reset the crashes of a partition", &error))
    }

    /// Records that this owner ends cleanly, with all that it claimed.
    pub async fn release_cleanly(&self, session: &Session) -> Result<(), Fault> {
        session
            .execute(CLEAN_RELEASE, &[&self.pipeline, &self.topic, &self.owner])
            .await
            .map(drop)
            .map_err(|error| schema_fault("release partitions", &error))
    }
}

fn position(row: &Row) -> Position {
    Position {
        partition: row.get("partition"),
        topic_id: row.get::<_, &str>("topic_id").parse().unwrap_or_default(),
        next_offset: row.get("next_offset"),
        epoch: row.get("epoch"),
        owner: row.get("owner"),
        owner_crashed: row.get("owner_crashed"),
        crashes: row.get("crashes"),
    }
}
