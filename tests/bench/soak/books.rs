//! Is every message accounted for? What was sent against what the host counted, and both against what Postgres
//! says. The rows themselves are gone by then; lineage has counted them in the transactions that wrote them.

use std::fmt;

use anyhow::{Context as _, Result};
use sluice::pipeline::counters::Snapshot;
use sluice_tests::postgres::Database;

use crate::inside::Fed;

/// What was compared: its name, what it should be, what it is.
pub struct Books {
    entries: Vec<(&'static str, u64, u64)>,
}

const GAPS: &str = "SELECT count(*) FROM (SELECT from_offset, \
    lag(to_offset, 1, 0::bigint) OVER (PARTITION BY partition ORDER BY from_offset) AS before \
    FROM sluice.lineage) AS ranges WHERE from_offset <> before";

impl Books {
    /// Compares everything.
    pub fn check(
        database: &Database,
        fed: &Fed,
        counts: &Snapshot,
        swaps: u64,
        lanes: u64,
    ) -> Result<Self> {
        let number = |sql: &str| -> Result<u64> { Ok(u64::try_from(database.number(sql)?)?) };
        let lineage = |sum: &str| number(&format!("SELECT {sum} FROM sluice.lineage"));
        let ends = database.query(
            "SELECT next_offset, (SELECT max(to_offset) FROM sluice.lineage AS l \
             WHERE l.partition = p.partition) FROM sluice.positions AS p ORDER BY partition",
            &[],
        )?;
        let column = |index: usize| -> Result<Vec<i64>> {
            ends.iter()
                .map(|row| row.try_get(index).context("a partition without lineage"))
                .collect()
        };
        let (positions, ranges_end) = (column(0)?, column(1)?);
        let Snapshot { messages, rows, filtered, rejected, .. } = *counts;
        let partitions = fed.ends.len() as u64;
        let versions = swaps.min(1) + 1;
        let entries = vec![
            ("messages acknowledged", fed.sent, fed.acknowledged),
            ("messages counted by the host", fed.sent, messages),
            ("rows, filtered and rejected", messages, rows + filtered + rejected),
            ("rows", fed.sent - fed.bad, rows),
            ("rejected", fed.bad, rejected),
            ("positions at the ends of partitions", partitions, same(&positions, &fed.ends)),
            ("lineage up to the ends of partitions", partitions, same(&ranges_end, &fed.ends)),
            ("offsets covered by lineage", fed.sent, lineage("sum(to_offset - from_offset)")?),
            ("gaps and overlaps of lineage", 0, number(GAPS)?),
            ("messages in lineage", messages, lineage("sum(messages)")?),
            ("rows in lineage", rows, lineage("sum(rows)")?),
            ("filtered in lineage", filtered, lineage("sum(filtered)")?),
            ("rejected in lineage", rejected, lineage("sum(rejected)")?),
            ("swaps of all lanes", swaps * lanes, counts.swaps),
            ("ranges of lineage", (swaps + 1) * partitions, lineage("count(*)")?),
            ("versions in lineage", versions, lineage("count(DISTINCT digest)")?),
            ("batches refused", 0, counts.fenced),
        ];
        Ok(Self { entries })
    }

    /// True when everything is as it should be.
    pub fn fit(&self) -> bool {
        self.entries.iter().all(|(_, expected, found)| expected == found)
    }
}

impl fmt::Display for Books {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, expected, found) in &self.entries {
            let found_text = sluice::progress::count(*found);
            write!(formatter, "{what:<40}{found_text:>16}")?;
            if expected == found {
                writeln!(formatter, "  as expected")?;
            } else {
                writeln!(formatter, "  WRONG: {expected} expected")?;
            }
        }
        Ok(())
    }
}

/// How many partitions stand at their end.
fn same(positions: &[i64], ends: &[i64]) -> u64 {
    positions.iter().zip(ends).filter(|(position, end)| position == end).count() as u64
}
