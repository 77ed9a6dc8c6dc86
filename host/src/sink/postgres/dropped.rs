//! Rows that a trigger keeps out of their table by returning NULL: the server's own count of what it wrote shows them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use super::connection::{Session, fault, fault_with_rows};
use crate::fault::Fault;
use crate::sink::plan::{Route, TablePlan};
use crate::sink::prepared::TableCopy;

/// How long it is taken for granted that a table has no trigger that could drop rows. Only where rows are staged: there
/// Postgres writes fewer rows than were sent because keys repeat, too.
const CHECK_EVERY: Duration = Duration::from_mins(1);

/// Triggers BEFORE, FOR EACH ROW, of the table or its partitions. An INSERT never reaches what inherits otherwise.
const MAY_DROP: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g \
     WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype::integer & 3 = 3 AND (g.tgrelid = $1::text::regclass \
        OR g.tgrelid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1::text::regclass) AS t)))";

/// What one attempt to write has left out, by table of the plan.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    rows: Mutex<Vec<u64>>,
}

impl Dropped {
    /// Of `expected` rows for table `index`, Postgres says that it wrote `written`.
    pub fn note(&self, index: usize, expected: u64, written: u64) {
        let dropped = expected.saturating_sub(written);
        if dropped > 0 {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let tables = rows.len().max(index + 1);
            rows.resize(tables, 0);
            rows[index] += dropped;
        }
    }

    /// One number a table; those at the end, or all, are left out where it is 0.
    pub fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// When the triggers of a table were read last, and whether any of them could drop rows.
#[derive(Debug, Default)]
pub(super) struct TriggerCheck(Mutex<Option<(Instant, bool)>>);

impl TriggerCheck {
    async fn may_drop(&self, session: &Session, table: &TablePlan) -> Result<bool, Fault> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, may_drop)) = known
            && at.elapsed() < CHECK_EVERY
        {
            return Ok(may_drop);
        }
        let row = session.query_one(MAY_DROP, &[&table.table]).await;
        let row =
            row.map_err(|error| fault(&format!("read the triggers of {}", table.table), &error))?;
        let may_drop = row.get(0);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), may_drop));
        Ok(may_drop)
    }
}

/// Moves the staged rows of table `index` on, and notes how many of them triggers have dropped.
pub(super) async fn apply(
    session: &Session,
    (index, table): (usize, &TablePlan),
    rows: &TableCopy,
    triggers: &TriggerCheck,
    dropped: &Dropped,
) -> Result<(), Fault> {
    let doing = format!("write rows into {}", table.table);
    let applied = session.simple_query(table.apply_statement(rows.deletes)).await;
    let applied = applied.map_err(|error| fault_with_rows(&doing, &error))?;
    let written = applied.iter().find_map(|message| match message {
        SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
        _ => None,
    });
    let (Some(written), Route::Staged { expected, .. }) = (written, &table.route) else {
        return Ok(());
    };
    let staged = rows.messages.len() as u64;
    let Some(expected) = expected.as_ref().filter(|_| written < staged) else { return Ok(()) };
    if triggers.may_drop(session, table).await? {
        let row = session.query_one(expected.as_str(), &[]).await;
        let row = row.map_err(|error| fault_with_rows(&doing, &error))?;
        dropped.note(index, row.get::<_, i64>(0) as u64, written);
    }
    Ok(())
}
