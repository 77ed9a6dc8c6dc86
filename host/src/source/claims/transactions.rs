//! Transactions of producers that stay open: whoever reads committed messages gets nothing behind the first message of
//! one, however long its producer takes. Pure book-keeping.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Told of once it is so old: most last less than a second.
const OLD: Duration = Duration::from_secs(60);

/// Those that were seen, by partition.
#[derive(Debug, Default)]
pub struct OpenTransactions {
    open: BTreeMap<i32, Open>,
}

#[derive(Debug)]
struct Open {
    /// Of its first message.
    offset: i64,
    since: Instant,
    told: bool,
}

/// One that is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldTransaction {
    /// The partition.
    pub partition: i32,
    /// Offset of its first message.
    pub offset: i64,
    /// Messages that can not be read, markers and messages of other transactions included.
    pub messages: i64,
    /// For at least so long.
    pub seconds: u64,
}

impl OpenTransactions {
    /// Compares where partitions end for readers with where they end. Returns those that have become old.
    pub fn look(
        &mut self,
        readable: &BTreeMap<i32, i64>,
        written: &BTreeMap<i32, i64>,
        now: Instant,
    ) -> Vec<OldTransaction> {
        let ends = readable.iter().filter_map(|(partition, &end)| {
            written.get(partition).map(|&written| (*partition, end, written))
        });
        let mut old = Vec::new();
        let mut open = BTreeMap::new();
        for (partition, offset, end) in ends.filter(|(_, offset, end)| end > offset) {
            let known = self.open.remove(&partition).filter(|it| it.offset == offset);
            let mut known = known.unwrap_or(Open { offset, since: now, told: false });
            let age = now - known.since;
            if age >= OLD && !known.told {
                known.told = true;
                let (messages, seconds) = (end - offset, age.as_secs());
                old.push(OldTransaction { partition, offset, messages, seconds });
            }
            open.insert(partition, known);
        }
        self.open = open;
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_stays_open_is_told_once() {
        let mut transactions = OpenTransactions::default();
        let start = Instant::now();
        let mut look = |seconds: u64, readable: [i64; 2], written: [i64; 2]| {
            let now = start + Duration::from_secs(seconds);
            let ends = |ends: [i64; 2]| (0..).zip(ends).collect();
            transactions.look(&ends(readable), &ends(written), now)
        };
        assert_eq!(look(0, [10, 5], [10, 8]), []);
        assert_eq!(look(59, [20, 5], [30, 9]), [], "the first one is another");
        let old = OldTransaction { partition: 1, offset: 5, messages: 4, seconds: 60 };
        assert_eq!(look(60, [30, 5], [31, 9]), [old]);
        assert_eq!(look(200, [31, 5], [31, 9]), [], "told");
        assert_eq!(look(210, [31, 9], [31, 12]), [], "another one");
        let next = OldTransaction { partition: 1, offset: 9, messages: 3, seconds: 70 };
        assert_eq!(look(280, [31, 9], [31, 12]), [next]);
        assert_eq!(look(281, [31, 12], [31, 12]), []);
        assert_eq!(look(400, [31, 12], [31, 13]), [], "it was over in between");
    }
}
