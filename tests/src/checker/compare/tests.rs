//! Planted differences: each must be found, and nothing else.

use super::super::shape::Table;
use super::super::tables::Position;
use super::super::topic::PartitionLog;
use super::*;

const DIGEST: &str = "0123456789012345678901234567890123456789012345678901234567890123";

/// Rows of a table whose text is the message's payload.
#[derive(Debug)]
struct Plain(Keep);

impl Shape for Plain {
    fn tables(&self) -> Vec<Table> {
        let arrival = (self.0 == Keep::All).then_some("arrival");
        vec![Table { name: "plain", text: "", arrival, marker: "", keep: self.0 }]
    }

    fn disposition(&self, message: &Message) -> Disposition {
        let text =
            String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default()).into_owned();
        match message.truth() {
            "row" => Disposition::Rows(vec![Expected {
                table: "plain",
                key: text[..1].to_owned(),
                text,
                rank: 0,
            }]),
            "filtered" => Disposition::Rows(vec![]),
            stage => Disposition::DeadLetter(stage.to_owned()),
        }
    }
}

fn message(partition: i32, offset: i64, truth: &str) -> Message {
    Message {
        partition,
        offset,
        key: None,
        payload: Some(
            format!("{} {partition}:{offset}", if offset % 2 == 0 { 'e' } else { 'o' })
                .into_bytes(),
        ),
        headers: vec![(b"truth".to_vec(), Some(truth.as_bytes().to_vec())), (b"x".to_vec(), None)],
        timestamp_ms: 7,
    }
}

/// Two partitions from offset 10 to 20; every fifth message is bad, one is filtered.
fn log() -> Log {
    let truth = |offset| match offset {
        10 | 15 => "decode",
        12 => "filtered",
        _ => "row",
    };
    let partition = |partition| PartitionLog {
        start: 10,
        end: 20,
        messages: (10..20).map(|offset| message(partition, offset, truth(offset))).collect(),
    };
    Log { partitions: (0..2).map(|number| (number, partition(number))).collect() }
}

/// What a host without fault would have written for [`log`].
fn tables(log: &Log) -> Tables {
    let mut tables = Tables::default();
    for (&partition, entry) in &log.partitions {
        let topic_id = "t".to_owned();
        tables.positions.push(Position {
            partition,
            next_offset: entry.end,
            topic_id: topic_id.clone(),
        });
        for (from, to, counts) in [(10, 15, [5, 3, 3, 1, 1, 0]), (15, 20, [5, 4, 4, 0, 1, 0])] {
            let digest = DIGEST.to_owned();
            tables.lineage.push(Lineage {
                partition,
                from,
                to,
                topic_id: topic_id.clone(),
                digest,
                counts,
            });
        }
        for message in &entry.messages {
            match Plain(Keep::All).disposition(message) {
                Disposition::Rows(rows) => {
                    tables.rows.extend(rows.into_iter().map(|row| StoredRow {
                        table: "plain",
                        text: row.text,
                        arrival: message.offset,
                        marker: "a".to_owned(),
                    }));
                }
                Disposition::DeadLetter(stage) => {
                    tables.dead_letters.push(dead_letter(message, stage));
                }
            }
        }
    }
    tables
}

fn dead_letter(message: &Message, stage: String) -> DeadLetter {
    DeadLetter {
        partition: message.partition,
        offset: message.offset,
        key: message.key.clone(),
        payload: message.payload.clone(),
        headers: message.headers.clone(),
        timestamp_ms: Some(message.timestamp_ms),
        stage,
        code: "malformed".to_owned(),
        reason: "not JSON".to_owned(),
        digest: DIGEST.to_owned(),
    }
}

fn check(plant: impl FnOnce(&mut Log, &mut Tables), expected: &[&str]) {
    let mut log = log();
    let mut tables = tables(&log);
    plant(&mut log, &mut tables);
    let versions = [(DIGEST.to_owned(), "a"), (DIGEST.replace('0', "1"), "b")];
    let markers = versions.into_iter().map(|(digest, mark)| (digest, mark.to_owned())).collect();
    let found = compare(&log, &tables, &Plain(Keep::All), &markers);
    let kinds: Vec<&str> = found.iter().map(Difference::kind).collect();
    assert_eq!(kinds, expected, "{}", super::super::differences_text(&found));
}

#[test]
fn what_a_faultless_host_writes_has_no_difference() {
    check(|_, _| {}, &[]);
}

/// Offset 14 has the message of offset 13 once more, and so has the table.
fn send_twice(log: &mut Log, tables: &mut Tables) {
    let messages = &mut log.partitions.get_mut(&0).expect("it is in the log").messages;
    messages[4].payload = messages[3].payload.clone();
    tables.rows[2].text = tables.rows[1].text.clone();
}

#[test]
fn what_the_producer_sent_twice_is_there_twice() {
    check(send_twice, &[]);
    let once = |log: &mut Log, tables: &mut Tables| {
        send_twice(log, tables);
        tables.rows.remove(2);
    };
    check(once, &["missing row"]);
    let thrice = |log: &mut Log, tables: &mut Tables| {
        send_twice(log, tables);
        let third = StoredRow { arrival: 99, ..tables.rows[1].clone() };
        tables.rows.push(third);
    };
    check(thrice, &["duplicate row"]);
}

#[test]
fn planted_differences_in_rows_are_found() {
    check(|_, tables| drop(tables.rows.remove(3)), &["missing row"]);
    check(|_, tables| tables.rows.push(tables.rows[3].clone()), &["duplicate row"]);
    check(|_, tables| tables.rows[3].text.push('!'), &["missing row", "row of no message"]);
    check(|_, tables| tables.rows[3].arrival = 1, &["order of rows"]);
    check(
        |_, tables| tables.rows[3].marker = "b".to_owned(),
        &["row of another version than lineage says"],
    );
}

#[test]
fn planted_differences_in_dead_letters_are_found() {
    check(|_, tables| drop(tables.dead_letters.remove(1)), &["missing dead letter"]);
    check(
        |_, tables| tables.dead_letters.push(tables.dead_letters[1].clone()),
        &["duplicate dead letter"],
    );
    check(
        |_, tables| tables.dead_letters[1].offset = 13,
        &["missing dead letter", "dead letter of a good message"],
    );
    let differs = ["dead letter differs from its message"];
    check(|_, tables| tables.dead_letters[1].payload = None, &differs);
    check(|_, tables| tables.dead_letters[1].key = Some(vec![]), &differs);
    check(|_, tables| tables.dead_letters[1].headers.swap(0, 1), &differs);
    check(|_, tables| tables.dead_letters[1].headers[1].1 = Some(vec![]), &differs);
    check(|_, tables| tables.dead_letters[1].timestamp_ms = None, &differs);
    check(|_, tables| tables.dead_letters[1].stage = "plugin".to_owned(), &differs);
    check(|_, tables| tables.dead_letters[1].code.clear(), &differs);
}

/// Message 0:11 was a dead letter until version `b` made a row of it, after all others.
fn replay(_: &mut Log, tables: &mut Tables) {
    tables.lineage[0].counts = [5, 2, 2, 1, 2, 0];
    let row = tables.rows.iter_mut().find(|row| row.text == "o 0:11").unwrap();
    (row.arrival, row.marker) = (99, "b".to_owned());
    let digest = DIGEST.replace('0', "1");
    tables.replayed.push(Replayed { partition: 0, offset: 11, digest, rows: 1 });
}

#[test]
fn a_replayed_dead_letter_is_late_and_of_another_version() {
    check(replay, &[]);
}

#[test]
fn what_was_parked_passes_later_or_becomes_a_dead_letter() {
    let retry = |parked: i64, rejected: i64| {
        move |log: &mut Log, tables: &mut Tables| {
            replay(log, tables);
            tables.retried = std::mem::take(&mut tables.replayed);
            tables.lineage[0].counts = [5, 2, 2, 1, rejected, parked];
        }
    };
    check(retry(1, 1), &[]);
    check(retry(2, 0), &[]);
    check(retry(0, 2), &["counts in lineage"]);
    check(retry(2, 1), &["counts in lineage"]);
    check(retry(3, -1), &["counts in lineage"]);
}

#[test]
fn planted_differences_in_replays_are_found() {
    let check = |plant: fn(&mut Tables), expected: &[&str]| {
        check(
            |log, tables| {
                replay(log, tables);
                plant(tables);
            },
            expected,
        );
    };
    check(|tables| tables.replayed.push(tables.replayed[0].clone()), &["replayed dead letter"]);
    check(|tables| tables.replayed[0].rows = 2, &["replayed dead letter"]);
    check(
        |tables| tables.replayed.clear(),
        &["row of another version than lineage says", "order of rows", "counts in lineage"],
    );
    check(
        |tables| tables.replayed[0].digest = DIGEST.to_owned(),
        &["row of another version than lineage says"],
    );
    check(
        |tables| tables.replayed[0].offset = 10,
        &[
            "replayed dead letter",
            "row of another version than lineage says",
            "order of rows",
            "counts in lineage",
        ],
    );
}

#[test]
fn planted_differences_in_positions_are_found() {
    check(
        |_, tables| tables.positions[1].next_offset = 19,
        &["position is not the end of the log"],
    );
    check(
        |_, tables| drop(tables.positions.remove(1)),
        &["missing position", "lineage of another topic", "lineage of another topic"],
    );
    check(
        |_, tables| tables.positions[1].partition = 2,
        &[
            "missing position",
            "position of no partition",
            "lineage of another topic",
            "lineage of another topic",
        ],
    );
}

#[test]
fn planted_differences_in_lineage_are_found() {
    let unknown = "row of another version than lineage says";
    check(
        |_, tables| drop(tables.lineage.remove(0)),
        &[unknown, unknown, unknown, "gap in lineage"],
    );
    check(|_, tables| tables.lineage[1].from = 14, &["overlap in lineage", "counts in lineage"]);
    check(|_, tables| tables.lineage[1].to = 19, &[unknown, "counts in lineage", "gap in lineage"]);
    check(|_, tables| tables.lineage[1].to = 21, &["overlap in lineage"]);
    check(|_, tables| tables.lineage[0].topic_id.push('!'), &["lineage of another topic"]);
    check(|_, tables| tables.lineage[0].counts[2] += 1, &["counts in lineage"]);
}

/// Partition 0 skipped 10 to 15, and everything is as it must be then.
fn pass_over(tables: &mut Tables) {
    tables.gaps.push(Gap { partition: 0, from: 10, to: 15 });
    tables.lineage.retain(|range| (range.partition, range.from) != (0, 10));
    tables
        .dead_letters
        .retain(|dead_letter| dead_letter.partition != 0 || dead_letter.offset >= 15);
    tables.rows.retain(|row| !(10..15).any(|offset| row.text.ends_with(&format!(" 0:{offset}"))));
}

#[test]
fn what_was_skipped_has_become_nothing_and_is_accounted_for() {
    check(|_, tables| pass_over(tables), &[]);
    check(
        |_, tables| {
            pass_over(tables);
            tables.gaps[0].to = 14;
        },
        &["missing row", "gap in lineage"],
    );
    check(
        |_, tables| {
            pass_over(tables);
            tables.gaps.clear();
        },
        &["missing row", "missing row", "missing row", "missing dead letter", "gap in lineage"],
    );
    check(
        |_, tables| {
            let row = tables.rows[0].clone();
            pass_over(tables);
            tables.rows.push(row);
        },
        &["row of no message"],
    );
    check(
        |_, tables| tables.gaps.push(Gap { partition: 0, from: 10, to: 15 }),
        &[
            "row of no message",
            "row of no message",
            "row of no message",
            "dead letter of a good message",
            "overlap in lineage",
            "counts in lineage",
        ],
    );
}

#[test]
fn a_message_in_the_log_that_nothing_accounts_for_is_found() {
    check(
        |log, _| {
            let partition = log.partitions.entry(1).or_default();
            partition.messages.push(message(1, 20, "row"));
            partition.end = 21;
        },
        &["missing row", "position is not the end of the log", "gap in lineage"],
    );
}

#[test]
fn of_rows_with_a_key_the_last_or_the_first_must_stay() {
    let log = log();
    for (keep, offsets) in [(Keep::Last, [18, 19]), (Keep::First, [14, 11])] {
        let mut tables = tables(&log);
        let kept = |row: &StoredRow, partition: i32| {
            offsets.iter().any(|offset| row.text.ends_with(&format!("{partition}:{offset}")))
        };
        // Keys are shared by the partitions: the first of partition 0, the last of partition 1.
        let partition = i32::from(keep == Keep::Last);
        tables.rows.retain(|row| kept(row, partition));
        let found = compare(&log, &tables, &Plain(keep), &BTreeMap::new());
        assert_eq!(found, [], "{keep:?}");
        tables.rows.pop();
        assert_eq!(compare(&log, &tables, &Plain(keep), &BTreeMap::new()).len(), 1, "{keep:?}");
    }
}

#[test]
fn a_person_can_read_the_differences() {
    let mut tables = tables(&log());
    tables.rows.retain(|row| !row.text.starts_with('e'));
    tables.dead_letters[0].payload = None;
    let found = compare(&log(), &tables, &Plain(Keep::All), &BTreeMap::new());
    insta::assert_snapshot!(super::super::differences_text(&found), @r"
    dead letter differs from its message: 1
      0:10 payload: found none, expected `e 0:10`
    missing row: 6
      0:14 plain: e 0:14
      0:16 plain: e 0:16
      0:18 plain: e 0:18
      1:14 plain: e 1:14
      1:16 plain: e 1:16
      1:18 plain: e 1:18
    ");
}
