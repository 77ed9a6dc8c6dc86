//! Dead letters that are tried once more: taken from the oldest to the newest, and settled with the rows made of
//! them. Knows no plugin.

use std::time::SystemTime;

use tokio::runtime::Handle;

use super::cut::IS_COMPLETE;
use super::read::{DEAD_LETTER, DeadLetter};
use super::selection::{Condition, Selection};
use super::storable;
use crate::fault::Fault;
use crate::rows::Rejection;
use crate::settings::BatchSettings;
use crate::sink::plan::Plan;
use crate::sink::postgres::Diagnosis;
use crate::sink::postgres::connection::fault_of_ours;
pub use crate::sink::postgres::settle::End;
use crate::sink::postgres::settle::{Settler, Statement};
use crate::sink::postgres::{Options, Session};
use crate::sink::{Prepared, Version};

/// Removes dead letters that passed and leaves word of which version made their rows.
const PASSED: &str = "WITH passed AS (
    DELETE FROM sluice.dead_letters AS l USING unnest($1::bigint[], $2::integer[]) AS p (id, rows) WHERE l.id = p.id
    RETURNING l.id, l.pipeline, l.topic, l.topic_id, l.partition, l.\"offset\", p.rows
)
INSERT INTO sluice.replayed_dead_letters (id, pipeline, topic, topic_id, partition, \"offset\", digest, plugin, version, rows)
SELECT id, pipeline, topic, topic_id, partition, \"offset\", $3, $4, $5, rows FROM passed";

const REJECTED: &str = "UPDATE sluice.dead_letters AS l
SET stage = r.stage, code = r.code, reason = r.reason, digest = $5, attempts = attempts + 1, last_rejected_at = now()
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[]) AS r (id, stage, code, reason) WHERE l.id = r.id";

/// Takes the dead letters of a selection, batch by batch, each once.
#[derive(Debug)]
pub struct Replay {
    options: Options,
    pipeline: String,
    selection: Selection,
    end: End,
    settler: Settler,
    session: Session,
    /// Dead letters rejected since are left alone: those that arrive in the meantime, and those that fail again.
    began: SystemTime,
    /// Dead letters up to this id were dealt with.
    done: i64,
}

/// What became of taken dead letters.
#[derive(Debug, Default)]
pub struct Results {
    /// Ids of those that passed, with the number of their rows.
    pub passed: Vec<(i64, u32)>,
    /// Ids of those that were rejected again, and why.
    pub rejected: Vec<(i64, Rejection)>,
}

impl Replay {
    /// Connects. Moves nothing yet; [`End::RollBack`]: nor later.
    pub async fn open(
        options: &Options,
        pipeline: &str,
        selection: Selection,
        end: End,
    ) -> Result<Self, Fault> {
        let session = options.connect().await?;
        let now = session.query_one("SELECT clock_timestamp()", &[]).await;
        let now = now.map_err(|error| fault_of_ours("read the server's clock", &error))?;
        Ok(Self {
            options: options.clone(),
            pipeline: pipeline.to_owned(),
            selection,
            end,
            settler: Settler::new(options),
            session,
            began: now.get(0),
            done: 0,
        })
    }

    /// How many dead letters are selected.
    pub async fn count(&self) -> Result<u64, Fault> {
        let condition = self.condition();
        let query = format!("SELECT count(*) FROM sluice.dead_letters WHERE {}", condition.text);
        let row = self.session.query_one(&query, &condition.parameters()).await;
        let row = row.map_err(|error| fault_of_ours("count dead letters", &error))?;
        Ok(row.get::<_, i64>(0) as u64)
    }

    /// How many of the selected dead letters keep but a part of their message, which cannot be replayed.
    pub async fn count_cut(&self) -> Result<u64, Fault> {
        let condition = self.selection.condition(&self.pipeline);
        let query = format!(
            "SELECT count(*) FROM sluice.dead_letters WHERE {} AND NOT ({IS_COMPLETE})",
            condition.text
        );
        let row = self.session.query_one(&query, &condition.parameters()).await;
        let row = row.map_err(|error| fault_of_ours("count dead letters", &error))?;
        Ok(row.get::<_, i64>(0) as u64)
    }

    fn condition(&self) -> Condition {
        let mut condition = self.selection.condition(&self.pipeline);
        condition.text.push_str(" AND ");
        condition.text.push_str(IS_COMPLETE);
        condition.and("id >", self.done);
        condition.and("coalesce(last_rejected_at, rejected_at) <", self.began);
        condition
    }

    /// Ids of the dead letters for the next batch: of one topic, and no more of them than `room` says, but at least
    /// one. Empty when all were dealt with.
    pub async fn next(&mut self, room: &BatchSettings) -> Result<Vec<i64>, Fault> {
        if self.session.is_closed() {
            self.session = self.options.connect().await?;
        }
        let condition = self.condition();
        let query = format!(
            "SELECT id, topic, topic_id::text, coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0) \
             + pg_column_size(header_names) + pg_column_size(header_values) \
             FROM sluice.dead_letters WHERE {} ORDER BY id LIMIT {}",
            condition.text, room.max_messages
        );
        let rows = self.session.query(&query, &condition.parameters()).await;
        let rows = rows.map_err(|error| fault_of_ours("find dead letters", &error))?;
        let topic = |index: usize| -> (&str, &str) { (rows[index].get(1), rows[index].get(2)) };
        let mut bytes = 0;
        let fits = |index: &usize| {
            bytes += rows[*index].get::<_, i32>(3) as usize;
            *index == 0 || bytes <= room.max_bytes && topic(*index) == topic(0)
        };
        Ok((0..rows.len()).take_while(fits).map(|index| rows[index].get(0)).collect())
    }

    /// Takes these dead letters; what another replay has locked or settled is not among them.
    pub async fn take(&mut self, plan: &Plan, ids: &[i64]) -> Result<Vec<DeadLetter>, Fault> {
        let lock = if self.end == End::Commit { "FOR UPDATE SKIP LOCKED" } else { "" };
        let text = format!(
            "SELECT {DEAD_LETTER} FROM sluice.dead_letters WHERE id = ANY($1) ORDER BY id {lock}"
        );
        let select = Statement { doing: "take dead letters", text: &text, parameters: &[&ids] };
        let rows = self.settler.take(plan, select).await?;
        rows.iter().map(DeadLetter::from_row).collect()
    }

    /// Does `work` on this thread; the dead letters stay taken.
    pub fn keep_open<T>(&self, runtime: &Handle, work: impl FnOnce() -> T) -> T {
        self.settler.keep_open(runtime, work)
    }

    /// Finds out why [`Replay::settle`] was rejected. Nothing is taken then.
    pub(crate) async fn diagnose(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
    ) -> Result<Diagnosis, Fault> {
        self.settler.diagnose(plan, prepared).await
    }

    /// Writes the rows of taken dead letters, removes those that passed, and says of the others why they did not. Returns how
    /// many rows triggers have dropped, by table.
    ///
    /// # Errors
    /// As `Settler::settle`.
    ///
    /// # Panics
    /// When no dead letters were taken.
    pub async fn settle(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        results: &Results,
        version: &Version,
    ) -> Result<Vec<u64>, Fault> {
        let Results { passed, rejected } = results;
        let (passed_ids, rows): (Vec<i64>, Vec<i32>) =
            passed.iter().map(|(id, rows)| (*id, *rows as i32)).unzip();
        let rejected_ids: Vec<i64> = rejected.iter().map(|(id, _)| *id).collect();
        let why = |text: fn(&Rejection) -> &str| -> Vec<String> {
            rejected.iter().map(|(_, rejection)| storable(text(rejection))).collect()
        };
        let stages = why(|rejection| rejection.stage.name());
        let (codes, reasons) =
            (why(|rejection| &rejection.code), why(|rejection| &rejection.reason));
        let Version { digest, plugin, version } = version;
        let remove = Statement {
            doing: "remove replayed dead letters",
            text: PASSED,
            parameters: &[&passed_ids, &rows, digest, plugin, version],
        };
        let keep = Statement {
            doing: "keep dead letters that were rejected again",
            text: REJECTED,
            parameters: &[&rejected_ids, &stages, &codes, &reasons, digest],
        };
        let changes = [(remove, passed_ids.len() as u64), (keep, rejected_ids.len() as u64)];
        // A dry run has locked no dead letter and changes none.
        let changes = if self.end == End::Commit { &changes[..] } else { &[] };
        self.settler.settle(plan, prepared, changes, self.end).await
    }

    /// Dead letters up to this id are dealt with.
    pub fn pass(&mut self, last: i64) {
        self.done = last;
    }
}
