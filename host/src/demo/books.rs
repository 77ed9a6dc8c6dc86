//! Checks every number on the last screen: what was sent against what the tables say. Works on numbers
//! alone.

use super::PARTITIONS;
use super::database::Written;

/// What the producer knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages handed to the producer.
    pub messages: u64,
    /// Those that the generator calls good.
    pub good: u64,
    /// Those that the broker acknowledged.
    pub acknowledged: u64,
    /// The offset behind the last one, by partition.
    pub ends: Vec<i64>,
}

/// Both sides of the books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Books {
    /// What went in.
    pub sent: Sent,
    /// What came out.
    pub written: Written,
}

impl Books {
    /// Dead letters, all codes together.
    pub fn rejected(&self) -> u64 {
        self.written.dead_letters.iter().map(|(_, count)| count).sum()
    }

    /// Everything that does not fit; empty when all is accounted for.
    pub fn differences(&self) -> Vec<String> {
        let (sent, rows, rejected) = (&self.sent, self.written.rows, self.rejected());
        let sum = |count: fn(&super::database::Stretch) -> u64| {
            self.written.lineage.iter().map(count).sum::<u64>()
        };
        let mut differences = Vec::new();
        let mut expect = |what: &str, expected: u64, found: u64| {
            if expected != found {
                differences.push(format!("{what}: {expected} expected, {found} found"));
            }
        };
        expect("messages acknowledged", sent.messages, sent.acknowledged);
        expect("rows and dead letters", sent.messages, rows + rejected);
        expect("rows", sent.good, rows);
        expect("dead letters", sent.messages.saturating_sub(sent.good), rejected);
        expect("messages in lineage", sent.messages, sum(|stretch| stretch.messages));
        expect("rows in lineage", rows, sum(|stretch| stretch.rows));
        expect("dead letters in lineage", rejected, sum(|stretch| stretch.rejected));
        for partition in 0..PARTITIONS {
            differences.extend(self.gap(partition));
        }
        differences
    }

    /// What is wrong with the offsets of `partition`: lineage has to cover them without gap or overlap,
    /// from the first to the stored position, which has to be the end of the partition.
    fn gap(&self, partition: i32) -> Option<String> {
        let end = self.sent.ends.get(partition as usize).copied().unwrap_or(0);
        let mut next = 0;
        for stretch in self.written.lineage.iter().filter(|stretch| stretch.partition == partition)
        {
            if stretch.from != next {
                let from = stretch.from;
                return Some(format!(
                    "partition {partition}: lineage goes on at {from} instead of {next}"
                ));
            }
            next = stretch.to;
        }
        let position = self.written.positions.iter().find(|(of, _)| *of == partition);
        let position = position.map_or(0, |(_, next)| *next);
        (next != end || position != end).then(|| {
            format!(
                "partition {partition}: ends at {end}, lineage at {next}, position at {position}"
            )
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::database::Stretch;
    use super::*;

    pub(in crate::demo) fn stretch(partition: i32, from: i64, to: i64, digest: &str) -> Stretch {
        let messages = (to - from) as u64;
        Stretch {
            partition,
            from,
            to,
            plugin: "readings".to_owned(),
            version: "0.1.0".to_owned(),
            digest: digest.repeat(8),
            messages,
            rows: messages - 1,
            rejected: 1,
        }
    }

    /// 100 messages a partition, two versions, one bad message for each partition and version.
    pub(in crate::demo) fn books() -> Books {
        let lineage = (0..PARTITIONS).flat_map(|partition| {
            [stretch(partition, 0, 60, "3f2a91c0"), stretch(partition, 60, 100, "91bcd0e2")]
        });
        Books {
            sent: Sent { messages: 1200, good: 1176, acknowledged: 1200, ends: vec![100; 12] },
            written: Written {
                rows: 1176,
                dead_letters: vec![("malformed".to_owned(), 20), ("unknown-status".to_owned(), 4)],
                lineage: lineage.collect(),
                positions: (0..PARTITIONS).map(|partition| (partition, 100)).collect(),
            },
        }
    }

    #[test]
    fn books_that_fit_have_no_differences() {
        assert_eq!(books().differences(), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_found() {
        let check = |spoil: fn(&mut Books), expected: &[&str]| {
            let mut books = books();
            spoil(&mut books);
            assert_eq!(books.differences(), expected);
        };
        check(
            |books| books.written.rows += 1,
            &[
                "rows and dead letters: 1200 expected, 1201 found",
                "rows: 1176 expected, 1177 found",
                "rows in lineage: 1177 expected, 1176 found",
            ],
        );
        check(
            |books| {
                books.written.dead_letters.pop();
            },
            &[
                "rows and dead letters: 1200 expected, 1196 found",
                "dead letters: 24 expected, 20 found",
                "dead letters in lineage: 20 expected, 24 found",
            ],
        );
        check(
            |books| books.sent.acknowledged -= 1,
            &["messages acknowledged: 1200 expected, 1199 found"],
        );
        check(
            |books| books.written.lineage[3].from = 59,
            &["partition 1: lineage goes on at 59 instead of 60"],
        );
        check(
            |books| books.written.positions[11].1 = 99,
            &["partition 11: ends at 100, lineage at 100, position at 99"],
        );
        check(
            |books| books.sent.ends[0] = 101,
            &["partition 0: ends at 101, lineage at 100, position at 100"],
        );
    }
}
