//! Dead letters after they were written: read, settled with the rows made of them, discarded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lab::{
    Database, Fill, Given, Lane, PATIENCE, make_plan, output, runtime, to_table, version, wait_for,
};
use super::proxy::{Cut, Proxy};
use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind};
use crate::fault::{Fault, Remedy};
use crate::rows::{Rejection, RowColumn, Stage, TableRows};
use crate::settings::{BatchSettings, Mode};
use crate::sink::dead_letters::discard::discard;
use crate::sink::dead_letters::read::{self, DeadLetter};
use crate::sink::dead_letters::replay::{End, Replay, Results};
use crate::sink::dead_letters::{Selection, read::Group};
use crate::sink::postgres::Options;
use crate::sink::table::Plan;
use crate::sink::{Prepared, Range};

const ROOM: BatchSettings =
    BatchSettings { max_messages: 100, max_bytes: 1 << 20, pace: Duration::ZERO };
const SUMMARY: &str = "SELECT \"offset\", stage, code, reason, left(digest, 1), attempts, last_rejected_at IS NOT NULL \
     FROM sluice.dead_letters ORDER BY id";

fn rejection(message: u32, stage: Stage, code: &str) -> Rejection {
    Rejection {
        message,
        stage,
        code: code.to_owned(),
        reason: format!("because of {code}"),
        retry: false,
    }
}

/// A database with a table of numbers below 100, and one dead letter for each offset below `dead_letters`.
struct Mailbox {
    database: Database,
    plan: Arc<Plan>,
}

impl Mailbox {
    fn new(dead_letters: i64) -> Self {
        let database = Database::new();
        database.run("CREATE TABLE t (v bigint CHECK (v < 100))");
        let outputs = [output("t", &[("v", Kind::Int64)])];
        let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
        let mailbox = Self { database, plan };
        if dead_letters > 0 {
            let mut given = Given::messages((0..dead_letters).map(|offset| (0, offset)));
            let malformed = |index| rejection(index, Stage::Decode, "malformed");
            given.undecoded = (0..dead_letters as u32).map(malformed).collect();
            mailbox.write(given);
        }
        mailbox
    }

    /// Writes a batch of which no message became a row.
    fn write(&self, mut given: Given) {
        given.decoded.messages.clear();
        given.tables.push(rows_of(&[]));
        Lane::start(&self.database, &[0]).write(&self.plan, given, &version("a"));
    }

    fn open(&self, selection: Selection, end: End) -> Desk<'_> {
        self.open_by(&self.database.options, selection, end)
    }

    fn open_by(&self, options: &Options, selection: Selection, end: End) -> Desk<'_> {
        let replay = wait_for(Replay::open(options, "pipeline", selection, end)).unwrap();
        Desk { plan: &self.plan, replay }
    }
}

/// One who replays.
struct Desk<'a> {
    plan: &'a Arc<Plan>,
    replay: Replay,
}

impl Desk<'_> {
    fn take(&mut self) -> Vec<DeadLetter> {
        let ids = wait_for(self.replay.next(&ROOM)).unwrap();
        wait_for(self.replay.take(self.plan, &ids)).unwrap()
    }

    /// Settles: the offset of a dead letter is the number in its row; those in `rejected` are rejected.
    fn settle(&mut self, dead_letters: &[DeadLetter], rejected: &[i64]) -> Result<Vec<u64>, Fault> {
        let (prepared, results) = settled(self.plan, dead_letters, rejected);
        wait_for(self.replay.settle(self.plan, &prepared, &results, &version("b")))
    }
}

fn rows_of(numbers: &[i64]) -> TableRows {
    TableRows {
        messages: (0..numbers.len() as u32).collect(),
        columns: vec![RowColumn::Computed(Column::new(Kind::Int64).ints(numbers))],
        deletes: Vec::new(),
    }
}

fn settled(plan: &Plan, dead_letters: &[DeadLetter], rejected: &[i64]) -> (Prepared, Results) {
    let mut given = Given::messages(
        dead_letters.iter().map(|dead_letter| (dead_letter.partition, dead_letter.offset)),
    );
    let refused = |dead_letter: &DeadLetter| rejected.contains(&dead_letter.offset);
    given.rejections = (dead_letters.iter().enumerate())
        .filter(|(_, dead_letter)| refused(dead_letter))
        .map(|(index, _)| rejection(index as u32, Stage::Plugin, "no\0good"))
        .collect();
    let passing: Vec<usize> =
        (0..dead_letters.len()).filter(|&it| !refused(&dead_letters[it])).collect();
    let numbers: Vec<i64> = passing.iter().map(|&index| dead_letters[index].offset).collect();
    let mut rows = rows_of(&numbers);
    rows.messages = passing.iter().map(|&index| index as u32).collect();
    given.tables.push(rows);
    let prepared = given.encode_kept(plan, vec![Range::default()], version("b"));
    let results = Results {
        passed: prepared.passed().map(|(index, rows)| (dead_letters[index].id, rows)).collect(),
        rejected: (prepared.kept().iter())
            .map(|rejection| (dead_letters[rejection.message as usize].id, rejection.clone()))
            .collect(),
    };
    (prepared, results)
}

#[test]
fn dead_letters_that_pass_leave_with_their_rows_and_the_others_stay_with_the_new_reason() {
    let mailbox = Mailbox::new(5);
    let mut desk = mailbox.open(Selection::default(), End::Commit);
    let dead_letters = desk.take();
    desk.settle(&dead_letters, &[1, 3]).unwrap();
    assert_eq!(mailbox.database.ask("SELECT v FROM t ORDER BY v"), "0\n2\n4");
    insta::assert_snapshot!(mailbox.database.ask(SUMMARY), @"
    1|plugin|no�good|because of no�good|b|2|t
    3|plugin|no�good|because of no�good|b|2|t
    ");
    insta::assert_snapshot!(mailbox.database.ask("SELECT \"offset\", rows, left(digest, 1), plugin, version FROM sluice.replayed_dead_letters ORDER BY id"), @"
    0|1|b|plugin|1.0.0
    2|1|b|plugin|1.0.0
    4|1|b|plugin|1.0.0
    ");
    // Neither those that failed again nor those that come in the meantime.
    let mut later = Given::messages([(0, 5)]);
    later.undecoded = vec![rejection(0, Stage::Decode, "malformed")];
    mailbox.write(later);
    assert_eq!(wait_for(desk.replay.next(&ROOM)).unwrap(), Vec::<i64>::new());
    assert_eq!(mailbox.database.ask("SELECT next_offset FROM sluice.positions"), "6");
}

#[test]
fn a_row_that_is_refused_leaves_everything_as_it_was() {
    let mailbox = Mailbox::new(3);
    let before = mailbox.database.ask(SUMMARY);
    let mut desk = mailbox.open(Selection::default(), End::Commit);
    let mut dead_letters = desk.take();
    dead_letters[1].offset = 100;
    let fault = desk.settle(&dead_letters, &[2]).unwrap_err();
    assert_eq!((fault.code, fault.remedy), ("SL-P009", Remedy::DeadLetter));
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM t"), "0");
    assert_eq!(mailbox.database.ask(SUMMARY), before);
    // And the connection's successor may go on.
    let dead_letters = desk.take();
    desk.settle(&dead_letters, &[]).unwrap();
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM t"), "3");
}

#[test]
fn what_one_replay_has_locked_another_one_skips() {
    let mailbox = Mailbox::new(3);
    let mut first = mailbox.open(Selection::default(), End::Commit);
    let mut second = mailbox.open(Selection::default(), End::Commit);
    let ids = wait_for(second.replay.next(&ROOM)).unwrap();
    let dead_letters = first.take();
    assert_eq!((dead_letters.len(), ids.len()), (3, 3));
    assert_eq!(wait_for(second.replay.take(&mailbox.plan, &ids)).unwrap(), []);
    assert_eq!(discarded(&mailbox, &Selection::default()), 0);
    first.settle(&dead_letters, &[]).unwrap();
    // They are gone now, whatever the second one has read of them before.
    assert_eq!(wait_for(second.replay.take(&mailbox.plan, &ids)).unwrap(), []);
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM t"), "3");
}

#[test]
fn dead_letters_that_somebody_has_removed_are_not_settled() {
    let mailbox = Mailbox::new(2);
    let mut desk = mailbox.open(Selection::default(), End::Commit);
    let mut dead_letters = desk.take();
    dead_letters[1].id = 4711;
    let fault = desk.settle(&dead_letters, &[]).unwrap_err();
    insta::assert_snapshot!(fault, @"SL-P006: remove replayed dead letters: 1 of 2 were there");
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM t"), "0");
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM sluice.dead_letters"), "2");
}

#[test]
fn a_dry_run_changes_nothing_and_meets_what_a_commit_would() {
    let mailbox = Mailbox::new(3);
    mailbox.database.run(
        "CREATE TABLE known (v bigint PRIMARY KEY); INSERT INTO known VALUES (0), (1);
         ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES known DEFERRABLE INITIALLY DEFERRED",
    );
    let before = mailbox.database.ask(SUMMARY);
    let mut dry_run = mailbox.open(Selection::default(), End::RollBack);
    let dead_letters = dry_run.take();
    dry_run.settle(&dead_letters, &[2]).unwrap();
    let dead_letters = dry_run.take();
    let fault = dry_run.settle(&dead_letters, &[]).unwrap_err();
    assert!(fault.message.contains("23503") && fault.remedy == Remedy::DeadLetter, "{fault}");
    // It locks no dead letter either.
    assert_eq!(mailbox.open(Selection::default(), End::Commit).take().len(), 3);
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM t"), "0");
    assert_eq!(mailbox.database.ask(SUMMARY), before);
}

#[test]
fn a_lost_answer_to_commit_is_told_by_the_dead_letters_themselves() {
    for (cut, left) in [(Cut::BeforeCommit, 3), (Cut::AfterCommit, 1)] {
        let mailbox = Mailbox::new(3);
        let proxy = Proxy::start(mailbox.database.port, cut, 1);
        let options = mailbox.database.through(proxy.port);
        let mut desk = mailbox.open_by(&options, Selection::default(), End::Commit);
        let dead_letters = desk.take();
        let fault = desk.settle(&dead_letters, &[1]).unwrap_err();
        assert_eq!((fault.remedy, proxy.cuts_left()), (Remedy::Retry, 0), "{cut:?}: {fault}");
        // What was settled is not found again, not even the one that was rejected; all else is, once the server
        // has noticed that nobody is there any more.
        let deadline = Instant::now() + PATIENCE;
        let mut again = desk.take();
        while left == 3 && again.is_empty() && Instant::now() < deadline {
            again = desk.take();
        }
        assert_eq!(again.len(), if left == 3 { 3 } else { 0 }, "{cut:?}");
        assert_eq!(
            mailbox.database.ask("SELECT count(*) FROM sluice.dead_letters"),
            left.to_string()
        );
        if !again.is_empty() {
            desk.settle(&again, &[1]).unwrap();
        }
        assert_eq!(mailbox.database.ask("SELECT v FROM t ORDER BY v"), "0\n2", "{cut:?}");
    }
}

#[test]
fn dead_letters_stay_taken_however_long_the_plugin_works() {
    let mailbox = Mailbox::new(1);
    let mut desk = mailbox.open(Selection::default(), End::Commit);
    let dead_letters = desk.take();
    // Longer than idle_in_transaction_session_timeout.
    desk.replay.keep_open(&runtime(), || std::thread::sleep(Duration::from_millis(6500)));
    desk.settle(&dead_letters, &[]).unwrap();
    assert_eq!(mailbox.database.ask("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_batch_is_bounded_by_dead_letters_bytes_and_topic() {
    let mailbox = Mailbox::new(6);
    mailbox.database.run(
        "UPDATE sluice.dead_letters SET payload = repeat('x', 600)::bytea WHERE \"offset\" IN (1, 2);
         UPDATE sluice.dead_letters SET topic = 'other' WHERE \"offset\" = 5",
    );
    let mut desk = mailbox.open(Selection::default(), End::Commit);
    let mut next = |max_messages, max_bytes| -> usize {
        let ids =
            wait_for(desk.replay.next(&BatchSettings { max_messages, max_bytes, ..ROOM })).unwrap();
        ids.last().iter().for_each(|last| desk.replay.pass(**last));
        ids.len()
    };
    // One that is larger than the room goes alone.
    assert_eq!((next(1, 1000), next(9, 100), next(9, 1000)), (1, 1, 3));
    assert_eq!((next(9, 1000), next(9, 1000)), (1, 0));
}

#[test]
fn a_dead_letter_is_read_as_it_was_written() {
    let mailbox = Mailbox::new(0);
    let mut batch = Batch::new("topic");
    let full = Message {
        partition: 0,
        offset: 0,
        timestamp_us: 1_795_316_645_123_456,
        key: Some(b"k\0"),
        payload: Some(b"\xff{"),
    };
    batch.push(full);
    let headers: [(&[u8], Option<&[u8]>); 4] =
        [(b"trace", Some(b"\x01")), (b"\xfe", None), (b"trace", Some(b"")), (b"", Some(b"\xff"))];
    for (name, value) in headers {
        batch.push_header(name, value);
    }
    batch.close_message();
    batch.push(Message { offset: 1, timestamp_us: -1, key: None, payload: None, ..full });
    batch.close_message();
    let mut given = Given::messages([]);
    given.batch = batch;
    given.undecoded =
        vec![rejection(0, Stage::Decode, "first"), rejection(1, Stage::Decode, "second")];
    mailbox.write(given);
    let dead_letters = mailbox.open(Selection::default(), End::Commit).take();
    let found: Vec<_> =
        dead_letters[0].headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
    assert_eq!(found, headers);
    assert_eq!(dead_letters[0].key.as_deref(), full.key);
    assert_eq!(dead_letters[0].payload.as_deref(), full.payload);
    assert_eq!(dead_letters[0].timestamp_us, Some(full.timestamp_us));
    let DeadLetter { key, payload, timestamp_us, headers, .. } = &dead_letters[1];
    assert_eq!((key, payload, timestamp_us, headers.len()), (&None, &None, &None, 0));
}

#[test]
fn headers_that_somebody_has_torn_apart_are_named() {
    let mailbox = Mailbox::new(1);
    mailbox.database.run("UPDATE sluice.dead_letters SET header_names = '{\"\\\\x61\"}'");
    let mut desk = mailbox.open(Selection::default(), End::Commit);
    let ids = wait_for(desk.replay.next(&ROOM)).unwrap();
    let fault = wait_for(desk.replay.take(&mailbox.plan, &ids)).unwrap_err();
    insta::assert_snapshot!(fault, @"SL-D001: read dead letter 1: 1 names and 0 values of headers");
}

fn discarded(mailbox: &Mailbox, selection: &Selection) -> u64 {
    wait_for(async {
        let session = mailbox.database.options.connect().await.unwrap();
        discard(&session, "pipeline", selection, "test data").await.unwrap()
    })
}

#[test]
fn discarded_dead_letters_are_kept_whole_and_with_the_reason() {
    let mailbox = Mailbox::new(3);
    let columns = "id, pipeline, topic, topic_id, partition, \"offset\", \"timestamp\", log_append_time, key, payload, \
         header_names, header_values, stage, code, reason, digest, attempts, rejected_at, last_rejected_at";
    let whole = |table: &str| {
        mailbox.database.ask(&format!("SELECT {columns} FROM sluice.{table} WHERE \"offset\" = 1"))
    };
    let before = whole("dead_letters");
    assert_eq!(discarded(&mailbox, &Selection { offsets: vec![1..=1], ..Selection::default() }), 1);
    assert_eq!(whole("discarded_dead_letters"), before);
    assert_eq!(
        mailbox.database.ask(
            "SELECT discard_reason, now() - discarded_at < '1 minute' FROM sluice.discarded_dead_letters"
        ),
        "test data|t"
    );
    assert_eq!(
        mailbox.database.ask("SELECT \"offset\" FROM sluice.dead_letters ORDER BY 1"),
        "0\n2"
    );
    // Another pipeline's are not ours.
    mailbox.database.run("UPDATE sluice.dead_letters SET pipeline = 'other' WHERE \"offset\" = 0");
    assert_eq!(discarded(&mailbox, &Selection::default()), 1);
}

#[test]
fn groups_and_dead_letters_are_found_by_what_is_selected() {
    let mailbox = Mailbox::new(4);
    mailbox.database.run(
        "UPDATE sluice.dead_letters SET code = 'late', reason = 'r' || \"offset\", stage = 'plugin', attempts = 3, \
         rejected_at = '2026-01-01', last_rejected_at = '2026-01-02' WHERE \"offset\" > 2",
    );
    let (groups, late, counted) = wait_for(async {
        let session = mailbox.database.options.connect().await.unwrap();
        let late = Selection {
            stages: vec!["plugin".into()],
            until: Some("2026-01-01T00:00:01Z".parse().unwrap()),
            ..Selection::default()
        };
        let groups = read::groups(&session, "pipeline", &Selection::default()).await.unwrap();
        let dead_letters = read::dead_letters(&session, "pipeline", &late, 10).await.unwrap();
        let since = Selection { until: None, since: late.until, ..late };
        (groups, dead_letters, read::count(&session, "pipeline", &since).await.unwrap())
    });
    let shown = |group: &Group| {
        let Group { stage, code, dead_letters, attempts_max, example, reason, .. } = group;
        format!("{stage} {code} {dead_letters} {attempts_max} {example} {reason}")
    };
    insta::assert_snapshot!(groups.iter().map(shown).collect::<Vec<_>>().join("\n"), @"
    decode malformed 3 1 3 because of malformed
    plugin late 1 3 4 r3
    ");
    assert_eq!(groups[1].first.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(groups[1].last.to_string(), "2026-01-02T00:00:00Z");
    assert_eq!((late.len(), late[0].offset, counted), (1, 3, 0));
}

/// Both messages, because one of them cannot be parked.
#[test]
fn of_a_message_too_large_for_a_row_its_dead_letter_keeps_the_start_and_says_what_is_missing() {
    const BYTES: usize = 4 << 20;
    let mailbox = Mailbox::new(0);
    let (large, fits) = (vec![b'x'; BYTES], vec![b'y'; BYTES - 1000]);
    let mut given = Given::messages([]);
    for (offset, payload) in [(0, &large), (1, &fits), (2, &large)] {
        let (key, payload) = (Some(&b"key"[..]), Some(&payload[..]));
        given.batch.push(Message { partition: 0, offset, timestamp_us: -1, key, payload });
        given.batch.push_header(b"trace", Some(b"on"));
        given.batch.close_message();
    }
    given.decoded.messages = vec![2];
    given.undecoded =
        vec![rejection(0, Stage::Decode, "malformed"), rejection(1, Stage::Decode, "malformed")];
    given.rejections = vec![Rejection { retry: true, ..rejection(0, Stage::Plugin, "too-early") }];
    given.rejections[0].message = 2;
    given.tables.push(rows_of(&[]));
    let mut lane = Lane::start(&mailbox.database, &[0]);
    let mut reuse = Prepared::default();
    reuse.dead_letters.bytes_max = BYTES;
    lane.reuse = Some(reuse);
    let done = lane.write(&mailbox.plan, given, &version("a"));
    assert_eq!((done[0].rejected, done[0].parked), (3, 0));
    let ask = |columns: &str| {
        let query = format!("SELECT {columns} FROM sluice.dead_letters ORDER BY \"offset\"");
        mailbox.database.ask(&query)
    };
    assert_eq!(ask("\"offset\", octet_length(payload)"), "0|1048576\n1|4193304\n2|1048576");
    assert_eq!(
        ask(
            "payload = convert_to(repeat(chr(CASE \"offset\" WHEN 1 THEN 121 ELSE 120 END), octet_length(payload)), 'UTF8')"
        ),
        "t\nt\nt"
    );
    let sha256 =
        |text: &str| mailbox.database.ask(&format!("SELECT encode(sha256({text}), 'hex')"));
    let (payload, key) = (sha256("convert_to(repeat('x', 4194304), 'UTF8')"), sha256("'key'"));
    let note =
        format!("payload 4194304 bytes sha256 {payload}, key 3 bytes sha256 {key}, headers 1 of 1");
    let names = "array_to_string(ARRAY(SELECT convert_from(n, 'UTF8') FROM unnest(header_names) AS n), ' ')";
    assert_eq!(ask(names), "sluice-truncated trace\ntrace\nsluice-truncated trace");
    assert_eq!(ask("convert_from(header_values[1], 'UTF8')"), format!("{note}\non\n{note}"));
    insta::assert_snapshot!(ask("code, reason"), @"
    malformed|because of malformed
    malformed|because of malformed
    too-early|because of too-early; not tried again: 4194314 bytes are too many to be parked
    ");
    // Of use is the one that is complete.
    let desk = mailbox.open(Selection::default(), End::Commit);
    assert_eq!(wait_for(desk.replay.count()).unwrap(), 1);
    assert_eq!(wait_for(desk.replay.count_cut()).unwrap(), 2);
}

/// Takes gigabytes of memory; `cargo test -- --ignored`.
#[test]
#[ignore = "takes 6 GB of memory"]
fn a_dead_letter_of_more_than_postgres_takes_is_written() {
    let mailbox = Mailbox::new(0);
    let large = vec![b'x'; 1100 << 20];
    let mut given = Given::messages([]);
    let payload = Some(&large[..]);
    given.batch.push(Message { partition: 0, offset: 0, timestamp_us: -1, key: None, payload });
    given.batch.close_message();
    given.undecoded = vec![rejection(0, Stage::Decode, "malformed")];
    mailbox.write(given);
    assert_eq!(
        mailbox.database.ask("SELECT octet_length(payload) FROM sluice.dead_letters"),
        "1048576"
    );
    assert_eq!(mailbox.database.ask("SELECT next_offset FROM sluice.positions"), "1");
}
