//! Rows that Postgres did not put into their tables though it took the batch: a trigger BEFORE INSERT or UPDATE has
//! returned NULL for them. Counted, and logged now and then; knows no batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines about one table.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// What triggers have dropped, since the pipeline was started on this host.
#[derive(Debug, Default)]
pub struct DroppedRows {
    all: AtomicU64,
    tables: Mutex<BTreeMap<String, Table>>,
}

/// In rows.
#[derive(Debug, Default)]
struct Table {
    sent: u64,
    dropped: u64,
    logged: Option<Instant>,
}

impl DroppedRows {
    /// Rows, over all tables.
    pub fn rows(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Counts the rows `sent` to the tables called `names`, and how many of them were `dropped`: one number a table, or
    /// none at all when none was. Returns how many that are together.
    pub fn note<'a>(
        &self,
        pipeline: &str,
        names: impl Iterator<Item = &'a str>,
        sent: impl Iterator<Item = usize>,
        dropped: &[u64],
    ) -> u64 {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (index, (name, sent)) in names.zip(sent).enumerate() {
            let table = tables.entry(name.to_owned()).or_default();
            let dropped = dropped.get(index).copied().unwrap_or_default();
            if table.note(sent as u64, dropped, now) {
                let Table { sent, dropped, .. } = *table;
                tracing::warn!(
                    pipeline,
                    table = name,
                    dropped,
                    sent,
                    "{}",
                    line(name, sent, dropped)
                );
            }
        }
        let all = dropped.iter().sum();
        self.all.fetch_add(all, Ordering::Relaxed);
        all
    }
}

impl Table {
    /// True when a line is due.
    fn note(&mut self, sent: u64, dropped: u64, now: Instant) -> bool {
        self.sent += sent;
        self.dropped += dropped;
        let due =
            self.logged.is_none_or(|logged| now.saturating_duration_since(logged) >= LOG_EVERY);
        let logs = dropped > 0 && due;
        if logs {
            self.logged = Some(now);
        }
        logs
    }
}

fn line(table: &str, sent: u64, dropped: u64) -> String {
    format!(
        "a trigger of table {table} drops rows: {dropped} of {sent} since the pipeline was started here"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_logged_at_once_and_then_once_a_minute() {
        let (mut table, start) = (Table::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!table.note(10, 0, start));
        assert!(table.note(10, 3, after(1)));
        assert!(!table.note(10, 1, after(60)));
        assert!(!table.note(10, 0, after(61)));
        assert!(table.note(10, 1, after(62)));
        assert_eq!(
            line("public.t", table.sent, table.dropped),
            "a trigger of table public.t drops rows: 5 of 50 since the pipeline was started here"
        );
    }

    #[test]
    fn rows_are_counted_by_table_and_together() {
        let rows = DroppedRows::default();
        let note = |sent: [usize; 2], dropped: &[u64]| {
            rows.note("pipeline", ["a", "b"].into_iter(), sent.into_iter(), dropped)
        };
        assert_eq!((note([3, 4], &[]), note([5, 6], &[0, 2]), note([7, 8], &[1, 1])), (0, 2, 2));
        assert_eq!(rows.rows(), 4);
        let tables = rows.tables.lock().unwrap();
        let counts: Vec<_> = tables.values().map(|table| (table.sent, table.dropped)).collect();
        assert_eq!(counts, [(15, 1), (18, 3)]);
    }
}
