//! The end of a transaction: positions, lineage and COMMIT in one round trip, and what took place when
//! the answer is missing.
//!
//! Why not `tokio_postgres::Transaction::commit`: Postgres answers the COMMIT of a failed transaction with the
//! command tag ROLLBACK and no error. The library reads tags only for their row counts and hands none out, so
//! its commit returns Ok for a transaction that left nothing behind. What cannot lie is the order: `advance`
//! is the last statement before COMMIT, and a transaction in which it succeeded has not failed. So a batch
//! is committed when *both* answered without error, and only then.

use futures_util::future::join;
use tokio_postgres::Statement;

use super::definition::Definitions;
use super::postgres::connection::{Session, fault, fault_of_ours, fault_with_rows};
use super::{Envelope, Range, Version};
use crate::fault::Fault;

/// Prepared for each plan of a session. What is compared comes behind the COPY, and so under its lock.
pub(super) fn advance_statement(definitions: &Definitions) -> String {
    format!(
        "SELECT {}, sluice.advance($1, $2, $3::text::uuid, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        definitions.expectation()
    )
}

/// FOR UPDATE: the server may still be at work on the COMMIT whose answer we miss; wait for it.
const STAND: &str = "SELECT partition, epoch, next_offset FROM sluice.positions \
     WHERE pipeline = $1 AND topic = $2 AND topic_id = $3::text::uuid AND partition = ANY($4) ORDER BY partition FOR UPDATE";

/// Moves the positions and commits. An error says nothing about the outcome: see [`outcome`].
pub(super) async fn advance_and_commit(
    session: &Session,
    advance: &Statement,
    head: &Envelope,
    version: &Version,
    ranges: &[Range],
) -> Result<(), Fault> {
    let column = |value: fn(&Range) -> i64| ranges.iter().map(value).collect::<Vec<i64>>();
    let topic_id = head.topic_id.to_string();
    let partitions: Vec<i32> = ranges.iter().map(|range| range.partition).collect();
    let epochs = column(|range| range.epoch);
    let (from, to) = (column(|range| range.from), column(|range| range.to));
    let messages = column(|range| range.messages as i64);
    let rows_from = column(|range| range.rows_from as i64);
    let rows = column(|range| range.rows as i64);
    let filtered = column(|range| range.filtered as i64);
    let rejected = column(|range| range.rejected as i64);
    let parked = column(|range| range.parked as i64);
    let (last_offsets, leader_epochs): (Vec<Option<i64>>, Vec<Option<i32>>) = ranges
        .iter()
        .map(|range| range.last.map(|last| (last.offset, last.leader_epoch)).unzip())
        .unzip();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 18] = [
        &head.pipeline,
        &head.topic,
        &topic_id,
        &version.digest,
        &version.plugin,
        &version.version,
        &partitions,
        &epochs,
        &from,
        &to,
        &messages,
        &rows_from,
        &rows,
        &filtered,
        &rejected,
        &parked,
        &last_offsets,
        &leader_epochs,
    ];
    // Polled in this order, so sent in this order, without waiting in between.
    let (advanced, committed) =
        join(session.query(advance, &parameters), session.batch_execute("COMMIT")).await;
    advanced.map_err(|error| fault_of_ours("move the positions", &error))?;
    // What was deferred is checked now.
    committed.map_err(|error| fault_with_rows("commit", &error))
}

/// What became of a transaction whose COMMIT was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It took place.
    Committed,
    /// It did not, and the partitions stand where they stood: it may be sent again.
    NotCommitted,
    /// These partitions moved or changed hands without us.
    Fenced(Vec<i32>),
}

/// Reads from the positions what became of the batch. `session` must be a new one.
pub(super) async fn outcome(
    session: &Session,
    head: &Envelope,
    ranges: &[Range],
) -> Result<Outcome, Fault> {
    let partitions: Vec<i32> = ranges.iter().map(|range| range.partition).collect();
    let rows = session
        .query(STAND, &[&head.pipeline, &head.topic, &head.topic_id.to_string(), &partitions])
        .await
        .map_err(|error| fault("read the positions", &error))?;
    let stand = |range: &Range| {
        let row = rows.iter().find(|row| row.get::<_, i32>("partition") == range.partition)?;
        Some((row.get("epoch"), row.get("next_offset")))
    };
    Ok(outcome_of(ranges, stand))
}

/// Partitions of one batch move together, so one that moved under our claim proves the COMMIT, unless another stands
/// elsewhere under it: then it was a batch of ours from before, thrown away while its COMMIT was on its way, that moved them.
fn outcome_of(ranges: &[Range], stand: impl Fn(&Range) -> Option<(i64, i64)>) -> Outcome {
    let is_at = |range: &Range, offset| stand(range) == Some((range.epoch, offset));
    let moved = ranges.iter().any(|range| range.to != range.from && is_at(range, range.to));
    let is_elsewhere = |range: &Range| {
        stand(range).is_some_and(|(epoch, offset)| epoch == range.epoch && offset != range.to)
    };
    if moved && !ranges.iter().any(is_elsewhere) {
        return Outcome::Committed;
    }
    let fenced: Vec<i32> = (ranges.iter())
        .filter(|range| stand(range) != Some((range.epoch, range.from)))
        .map(|range| range.partition)
        .collect();
    if fenced.is_empty() { Outcome::NotCommitted } else { Outcome::Fenced(fenced) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(partition: i32, from: i64, to: i64) -> Range {
        Range { partition, from, to, epoch: 7, ..Range::default() }
    }

    fn check(stands: &[Option<(i64, i64)>], expected: &Outcome) {
        let ranges = [range(0, 10, 20), range(1, 100, 200)];
        let outcome = outcome_of(&ranges, |range| stands[range.partition as usize]);
        assert_eq!(outcome, *expected, "{stands:?}");
    }

    #[test]
    fn the_positions_tell_what_became_of_a_commit() {
        check(&[Some((7, 20)), Some((7, 200))], &Outcome::Committed);
        check(&[Some((7, 10)), Some((7, 100))], &Outcome::NotCommitted);
        // Committed, and one partition was claimed by another host a moment later.
        check(&[Some((8, 20)), Some((7, 200))], &Outcome::Committed);
        check(&[Some((8, 10)), Some((7, 100))], &Outcome::Fenced(vec![0]));
        check(&[Some((8, 10)), Some((9, 100))], &Outcome::Fenced(vec![0, 1]));
        check(&[Some((8, 25)), Some((8, 200))], &Outcome::Fenced(vec![0, 1]));
        // A batch from before was committed, of which only one partition ends where this one does.
        check(&[Some((7, 20)), Some((7, 150))], &Outcome::Fenced(vec![0, 1]));
        check(&[Some((7, 20)), Some((7, 100))], &Outcome::Fenced(vec![0]));
        // Moved by hand, or gone.
        check(&[Some((7, 15)), Some((7, 100))], &Outcome::Fenced(vec![0]));
        check(&[None, Some((7, 100))], &Outcome::Fenced(vec![0]));
    }
}
