//! Dead letters that somebody gives up: moved out of the way, and kept with the reason.

use tokio_postgres::Client;

use super::selection::Selection;
use crate::fault::Fault;
use crate::sink::postgres::connection::fault_of_ours;

/// Dead letters moved in one transaction.
const DEAD_LETTERS_MAX: u64 = 10_000;

const COLUMNS: &str = "id, pipeline, topic, topic_id, partition, \"offset\", \"timestamp\", log_append_time, key, payload, \
     header_names, header_values, stage, code, reason, digest, attempts, rejected_at, last_rejected_at, relayed_at";

/// Moves dead letters to `sluice.discarded_dead_letters`, all but those that a replay has locked at this moment. Answers how many.
///
/// # Errors
/// Whatever Postgres refuses; the dead letters before were moved, a transaction each ten thousand.
pub async fn discard(
    client: &Client,
    pipeline: &str,
    selection: &Selection,
    reason: &str,
) -> Result<u64, Fault> {
    let mut condition = selection.condition(pipeline);
    let reason = condition.parameter(reason.to_owned());
    let statement = format!(
        "WITH gone AS (\n    DELETE FROM sluice.dead_letters WHERE id IN (\n        \
         SELECT id FROM sluice.dead_letters WHERE {} ORDER BY id LIMIT {DEAD_LETTERS_MAX} FOR UPDATE SKIP LOCKED\n    ) \
         RETURNING {COLUMNS}\n)\n\
         INSERT INTO sluice.discarded_dead_letters ({COLUMNS}, discard_reason) SELECT {COLUMNS}, {reason} FROM gone",
        condition.text
    );
    let mut discarded = 0;
    loop {
        let moved = client.execute(&statement, &condition.parameters()).await;
        let moved = moved.map_err(|error| fault_of_ours("discard dead letters", &error))?;
        discarded += moved;
        if moved < DEAD_LETTERS_MAX {
            return Ok(discarded);
        }
    }
}
