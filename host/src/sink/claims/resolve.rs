//! Positions that a person sets: moved under a new epoch, so that no write that is under way passes, and
//! recorded together with what is skipped or read again by it.

use uuid::Uuid;

use super::{Claims, schema_fault};
use crate::fault::{Fault, broker};
use crate::sink::postgres::blockers::Blockers;
use crate::sink::postgres::connection::Session;

/// The owner of a position that a person has set and nobody has claimed since.
pub const RESOLVER: &str = "resolve";

/// Only positions that stand as they were shown, and those all or none. Lineage behind the new position is taken out, or
/// ends there, because the same offsets get lineage again, and is kept as it was with the record; of a range that is cut
/// the counts are cut in proportion. What was parked or dead-lettered of these offsets is about to be so again: parked
/// messages are removed, and dead letters are discarded.
const RESOLVE: &str = "\
WITH decided AS (
    SELECT * FROM unnest($4::integer[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::text[])
        AS d (partition, epoch, position_before, position_after, from_offset, to_offset, code)
), before AS (
    SELECT p.partition, p.topic_id, p.next_offset
    FROM sluice.positions AS p JOIN decided AS d ON d.partition = p.partition
    WHERE p.pipeline = $1 AND p.topic = $2 AND p.epoch = d.epoch AND p.next_offset = d.position_before
    ORDER BY p.partition FOR UPDATE OF p
), again AS (
    SELECT l.*, d.position_after FROM sluice.lineage AS l JOIN decided AS d ON l.partition = d.partition
    WHERE l.pipeline = $1 AND l.topic = $2 AND l.topic_id = $3::text::uuid AND l.to_offset > d.position_after
), taken_out AS (
    DELETE FROM sluice.lineage AS l USING again AS a
    WHERE l.pipeline = $1 AND l.topic = $2 AND l.topic_id = $3::text::uuid
        AND l.partition = a.partition AND l.from_offset = a.from_offset AND a.from_offset >= a.position_after
), shares AS (
    SELECT a.partition, a.from_offset, a.position_after AS to_offset, a.rows_from * s.share AS rows_from,
        a.rows * s.share AS rows, a.filtered * s.share AS filtered, a.rejected * s.share AS rejected,
        a.parked * s.share AS parked
    FROM again AS a, LATERAL (
        SELECT (a.position_after - a.from_offset)::numeric / (a.to_offset - a.from_offset) AS share
    ) AS s
    WHERE a.from_offset < a.position_after
), cut AS (
    UPDATE sluice.lineage AS l
    SET to_offset = s.to_offset,
        messages = round(s.rows_from) + round(s.filtered) + round(s.rejected) + round(s.parked),
        rows_from = round(s.rows_from), rows = round(s.rows), filtered = round(s.filtered),
        rejected = round(s.rejected), parked = round(s.parked)
    FROM shares AS s
    WHERE l.pipeline = $1 AND l.topic = $2 AND l.topic_id = $3::text::uuid
        AND l.partition = s.partition AND l.from_offset = s.from_offset
), unparked AS (
    DELETE FROM sluice.parked AS p USING decided AS d
    WHERE p.pipeline = $1 AND p.topic = $2 AND p.topic_id = $3::text::uuid
        AND p.partition = d.partition AND p.\"offset\" >= d.position_after
), unwritten AS (
    DELETE FROM sluice.dead_letters AS l USING decided AS d
    WHERE l.pipeline = $1 AND l.topic = $2 AND l.topic_id = $3::text::uuid
        AND l.partition = d.partition AND l.\"offset\" >= d.position_after
    RETURNING l.*
), discarded AS (
    INSERT INTO sluice.discarded_dead_letters (id, pipeline, topic, topic_id, partition, \"offset\", \"timestamp\",
        log_append_time, key, payload, header_names, header_values, stage, code, reason, digest, attempts,
        rejected_at, last_rejected_at, relayed_at, discard_reason)
    SELECT id, pipeline, topic, topic_id, partition, \"offset\", \"timestamp\", log_append_time, key, payload,
        header_names, header_values, stage, code, reason, digest, attempts, rejected_at, last_rejected_at,
        relayed_at, 'read again: ' || $12
    FROM unwritten
), moved AS (
    UPDATE sluice.positions AS p
    SET next_offset = d.position_after, topic_id = $3::text::uuid, epoch = p.epoch + 1, owner = $11,
        backend_pid = NULL, released = true, vanished = 0, vanished_at = NULL,
        last_offset = NULL, leader_epoch = NULL, digest = NULL, digest_since = NULL, updated_at = now()
    FROM before AS b JOIN decided AS d ON d.partition = b.partition
    WHERE p.pipeline = $1 AND p.topic = $2 AND p.partition = b.partition
    RETURNING p.partition
), recorded AS (
    INSERT INTO sluice.gaps (pipeline, topic, partition, topic_id_before, topic_id_after, position_before,
        position_after, from_offset, to_offset, code, reason, lineage, resolved_by)
    SELECT $1, $2, d.partition, b.topic_id, $3::text::uuid, d.position_before, d.position_after, d.from_offset,
        d.to_offset, d.code, $12,
        (SELECT jsonb_agg(to_jsonb(a) - 'position_after' ORDER BY a.from_offset)
            FROM again AS a WHERE a.partition = d.partition), $13
    FROM moved AS m JOIN decided AS d ON d.partition = m.partition JOIN before AS b ON b.partition = m.partition
), freed AS (
    DELETE FROM sluice.blocks AS h USING moved AS m
    WHERE h.pipeline = $1 AND h.topic = $2 AND h.partition = m.partition
)
SELECT count(*) FROM moved";

/// What was decided about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The partition.
    pub partition: i32,
    /// Where it stood when it was decided: the claim.
    pub epoch: i64,
    /// And the next offset.
    pub position_before: i64,
    /// Where it is to go on.
    pub position_after: i64,
    /// Offsets of the present topic that are skipped: the first, and the one behind the last.
    pub skipped: Option<(i64, i64)>,
    /// Why it was blocked.
    pub code: Option<String>,
}

impl Decision {
    /// Partition, position before and after.
    pub fn place(&self) -> (i32, i64, i64) {
        (self.partition, self.position_before, self.position_after)
    }
}

impl Claims {
    /// Moves positions to the topic `topic_id` and the offsets that were decided, and records it with `reason`.
    ///
    /// # Errors
    /// `SL-K018` when one of them does not stand any more where it stood; then nothing was changed.
    pub async fn resolve(
        &self,
        topic_id: Uuid,
        decisions: &[Decision],
        reason: &str,
        by: &str,
    ) -> Result<(), Fault> {
        let session = self.options.connect().await?;
        let mut blockers = Blockers::default();
        tokio::select! {
            resolved = self.resolve_on(&session, topic_id, decisions, reason, by) => resolved,
            () = blockers.end_abandoned(&self.options, session.pid()) => unreachable!("it never returns"),
        }
    }

    async fn resolve_on(
        &self,
        session: &Session,
        topic_id: Uuid,
        decisions: &[Decision],
        reason: &str,
        by: &str,
    ) -> Result<(), Fault> {
        let translate = |error: tokio_postgres::Error| schema_fault("set positions", &error);
        let column =
            |value: fn(&Decision) -> i64| decisions.iter().map(value).collect::<Vec<i64>>();
        let partitions: Vec<i32> = decisions.iter().map(|it| it.partition).collect();
        let from: Vec<Option<i64>> = decisions.iter().map(|it| it.skipped.map(|it| it.0)).collect();
        let to: Vec<Option<i64>> = decisions.iter().map(|it| it.skipped.map(|it| it.1)).collect();
        let codes: Vec<Option<&str>> = decisions.iter().map(|it| it.code.as_deref()).collect();
        session.begin().await?;
        let moved: i64 = session
            .query_one(
                RESOLVE,
                &[
                    &self.pipeline,
                    &self.topic,
                    &topic_id.to_string(),
                    &partitions,
                    &column(|it| it.epoch),
                    &column(|it| it.position_before),
                    &column(|it| it.position_after),
                    &from,
                    &to,
                    &codes,
                    &RESOLVER,
                    &reason,
                    &by,
                ],
            )
            .await
            .map_err(translate)?
            .get(0);
        if usize::try_from(moved) != Ok(decisions.len()) {
            // Rolled back with the session.
            let message =
                "a partition has moved or changed hands in the meantime; nothing was changed";
            return Err(Fault::block(broker::UNDECIDABLE, message));
        }
        session.batch_execute("COMMIT").await.map_err(|error| {
            schema_fault("commit (whether it took place, `sluice lag` shows)", &error)
        })
    }
}
