//! Owners that ended without a word: how they are told from those that live and those that said goodbye,
//! and how often that has happened where a position stands.

use tokio_postgres::Row;

use super::{Claims, Position, schema_fault};
use crate::fault::Fault;
use crate::sink::postgres::connection::Session;
use crate::sink::postgres::sessions::heartbeat::{Heartbeat, LOCK};

const STORED: &str = "\
SELECT p.partition, p.topic_id::text AS topic_id, p.next_offset, p.epoch, p.owner,
    CASE WHEN p.vanished_at = p.next_offset THEN p.vanished ELSE 0 END AS deaths,
    NOT p.released AND p.owner <> $3 AND NOT EXISTS (
        SELECT FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.classid::bigint = $4::integer AND l.objid::bigint = hashtext(p.owner)::bigint & 4294967295
    ) AS vanished
FROM sluice.positions AS p
WHERE p.pipeline = $1 AND p.topic = $2
ORDER BY p.partition";

/// What was counted at another offset counts no more.
const TAKE_NOTE: &str = "\
UPDATE sluice.positions AS p
SET released = true,
    vanished = CASE WHEN NOT v.counts THEN p.vanished WHEN p.vanished_at = p.next_offset THEN p.vanished + 1 ELSE 1 END,
    vanished_at = CASE WHEN v.counts THEN p.next_offset ELSE p.vanished_at END
FROM unnest($3::integer[], $4::text[], $5::boolean[]) AS v (partition, owner, counts)
WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = v.partition AND p.owner = v.owner AND NOT p.released";

const FORGIVE: &str = "UPDATE sluice.positions SET vanished = 0, vanished_at = NULL \
    WHERE pipeline = $1 AND topic = $2 AND partition = $3";

const GOODBYE: &str = "\
WITH struck AS (
    DELETE FROM sluice.holds WHERE pipeline = $1 AND topic = $2 AND owner = $3 AND partition >= 0
), left_hosts AS (
    DELETE FROM sluice.hosts WHERE pipeline = $1 AND owner = $3
)
UPDATE sluice.positions SET released = true, vanished = 0, vanished_at = NULL
WHERE pipeline = $1 AND topic = $2 AND owner = $3 AND NOT released";

/// An owner that has vanished, and whether it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vanished {
    /// The partition it had.
    pub partition: i32,
    /// Its name.
    pub owner: String,
    /// False when there was nothing to read that could have killed it.
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

    /// Takes note of owners that have vanished, each once however many hosts see it.
    pub async fn take_note(&self, session: &Session, vanished: &[Vanished]) -> Result<(), Fault> {
        let partitions: Vec<i32> = vanished.iter().map(|it| it.partition).collect();
        let owners: Vec<&str> = vanished.iter().map(|it| it.owner.as_str()).collect();
        let counts: Vec<bool> = vanished.iter().map(|it| it.counts).collect();
        session
            .execute(TAKE_NOTE, &[&self.pipeline, &self.topic, &partitions, &owners, &counts])
            .await
            .map(drop)
            .map_err(|error| schema_fault("take note of owners that vanished", &error))
    }

    /// What was counted for `partition` counts no more: its messages have been met and nobody vanished.
    pub async fn forgive(&self, session: &Session, partition: i32) -> Result<(), Fault> {
        session
            .execute(FORGIVE, &[&self.pipeline, &self.topic, &partition])
            .await
            .map(drop)
            .map_err(|error| schema_fault("clear a partition of suspicion", &error))
    }

    /// Says that this owner ends of its own will, with all that it claimed: it did not die of that.
    pub async fn say_goodbye(&self, session: &Session) -> Result<(), Fault> {
        session
            .execute(GOODBYE, &[&self.pipeline, &self.topic, &self.owner])
            .await
            .map(drop)
            .map_err(|error| schema_fault("say goodbye", &error))
    }
}

fn position(row: &Row) -> Position {
    Position {
        partition: row.get("partition"),
        topic_id: row.get::<_, &str>("topic_id").parse().unwrap_or_default(),
        next_offset: row.get("next_offset"),
        epoch: row.get("epoch"),
        owner: row.get("owner"),
        vanished: row.get("vanished"),
        deaths: row.get("deaths"),
    }
}
