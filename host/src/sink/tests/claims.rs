//! Claims: who may write, from where, and how an old owner is passed by.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt as _;

use super::lab::{Database, TOPIC, wait_for};
use crate::sink::claims::{Agreement, ClaimAnswer, Claims, Heartbeat};
use crate::sink::postgres::Session;
use uuid::Uuid;

const OTHER: Uuid = Uuid::from_u128(77);

fn claims(database: &Database, owner: &str) -> Claims {
    Claims::new(&database.options, "pipeline", "topic", owner)
}

fn claimed(partition: i32, next_offset: i64, epoch: i64) -> ClaimAnswer {
    ClaimAnswer::Claimed { partition, next_offset, epoch, last: None }
}

#[test]
fn a_claim_starts_where_the_position_stands_and_outdates_the_one_before() {
    let database = Database::new();
    let first = wait_for(claims(&database, "a").claim(TOPIC, &[(3, 30), (0, 5)])).unwrap();
    assert_eq!(first, [claimed(0, 5, 1), claimed(3, 30, 1)]);
    database.run("UPDATE sluice.positions SET next_offset = 77 WHERE partition = 3");
    let second = wait_for(claims(&database, "b").claim(TOPIC, &[(3, 0), (4, 0)])).unwrap();
    assert_eq!(second, [claimed(3, 77, 2), claimed(4, 0, 1)]);
    let stored = wait_for(claims(&database, "c").stored()).unwrap();
    let stored: Vec<_> = stored
        .iter()
        .map(|position| {
            (position.partition, position.next_offset, position.epoch, position.owner.as_str())
        })
        .collect();
    assert_eq!(stored, [(0, 5, 1, "a"), (3, 77, 2, "b"), (4, 0, 1, "b")]);
    // Other pipelines and topics have positions of their own.
    let other = Claims::new(&database.options, "other", "topic", "a");
    assert_eq!(wait_for(other.claim(TOPIC, &[(0, 9)])).unwrap(), [claimed(0, 9, 1)]);
}

#[test]
fn a_position_of_another_topic_of_the_same_name_is_not_touched() {
    let database = Database::new();
    let claims = claims(&database, "a");
    wait_for(claims.claim(OTHER, &[(0, 100), (1, 100)])).unwrap();
    assert_eq!(wait_for(claims.claim(OTHER, &[(1, 0)])).unwrap(), [claimed(1, 100, 2)]);
    let answers = wait_for(claims.claim(TOPIC, &[(0, 0), (1, 0), (2, 0)])).unwrap();
    let other = |partition| ClaimAnswer::OtherTopic { partition, stored_topic_id: OTHER };
    assert_eq!(answers, [other(0), other(1), claimed(2, 0, 1)]);
    assert_eq!(
        database.ask("SELECT next_offset, epoch FROM sluice.positions WHERE partition = 1"),
        "100|2"
    );
}

/// Brokers before version 2.8 name no id; after an upgrade it is the same topic with one.
#[test]
fn what_was_stored_without_an_id_goes_on_under_the_one_that_brokers_name() {
    let database = Database::new();
    let claims = claims(&database, "a");
    wait_for(claims.claim(Uuid::nil(), &[(0, 100), (1, 100)])).unwrap();
    wait_for(claims.claim(OTHER, &[(2, 100)])).unwrap();
    database.run(
        "INSERT INTO sluice.lineage (pipeline, topic, topic_id, partition, from_offset, to_offset, digest, plugin, version, \
             messages, rows_from, rows, filtered, rejected) \
         SELECT pipeline, topic, topic_id, partition, 0, 100, 'd', 'p', '1', 100, 100, 100, 0, 0 FROM sluice.positions",
    );
    let answers = wait_for(claims.claim(TOPIC, &[(0, 0), (1, 0), (2, 0), (3, 0)])).unwrap();
    let other = ClaimAnswer::OtherTopic { partition: 2, stored_topic_id: OTHER };
    assert_eq!(answers, [claimed(0, 100, 2), claimed(1, 100, 2), other, claimed(3, 0, 1)]);
    let ids = |table: &str| {
        database.ask(&format!(
            "SELECT string_agg(topic_id::text, ',' ORDER BY partition) FROM sluice.{table}"
        ))
    };
    assert_eq!(ids("positions"), format!("{TOPIC},{TOPIC},{OTHER},{TOPIC}"));
    assert_eq!(ids("lineage"), format!("{TOPIC},{TOPIC},{OTHER}"));
}

#[test]
fn two_hosts_that_claim_in_opposite_orders_both_get_through() {
    let database = Database::new();
    wait_for(async {
        let tasks: Vec<_> = (0..8)
            .map(|index| {
                let claims = claims(&database, &format!("host-{index}"));
                let mut wanted: Vec<(i32, i64)> = (0..12).map(|partition| (partition, 0)).collect();
                if index % 2 == 0 {
                    wanted.reverse();
                }
                tokio::spawn(async move { claims.claim(TOPIC, &wanted).await.unwrap() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap().len(), 12);
        }
    });
    assert_eq!(database.ask("SELECT DISTINCT epoch FROM sluice.positions"), "8");
}

#[test]
fn an_owner_paused_inside_a_transaction_is_passed_by_within_ten_seconds() {
    let database = Database::new();
    wait_for(claims(&database, "old").claim(TOPIC, &[(0, 0)])).unwrap();
    wait_for(async {
        let paused = database.options.named("pipeline", "old").connect().await.unwrap();
        // The server's own remedy is to come too late to be what helps here.
        paused.batch_execute("SET idle_in_transaction_session_timeout = '60s'; BEGIN; UPDATE sluice.positions SET next_offset = 10").await.unwrap();
        let started = Instant::now();
        let answers = claims(&database, "new").claim(TOPIC, &[(0, 0)]).await.unwrap();
        assert_eq!(answers, [claimed(0, 0, 2)]);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        // What the old owner was about to do is void.
        assert!(paused.batch_execute("COMMIT").await.is_err());
    });
    assert_eq!(database.ask("SELECT next_offset FROM sluice.positions"), "0");
}

#[test]
fn sessions_of_others_are_left_alone() {
    let database = Database::new();
    wait_for(claims(&database, "old").claim(TOPIC, &[(0, 0)])).unwrap();
    let fault = wait_for(async {
        let person = database.options.connect().await.unwrap();
        person.batch_execute("SET idle_in_transaction_session_timeout = '60s'; BEGIN; UPDATE sluice.positions SET next_offset = 10").await.unwrap();
        let fault = claims(&database, "new").claim(TOPIC, &[(0, 0)]).await.unwrap_err();
        person.batch_execute("COMMIT").await.unwrap();
        fault
    });
    insta::assert_snapshot!(fault, @r#"SL-P015: claim partitions of topic "topic": the previous owner still holds the lock"#);
    assert_eq!(database.ask("SELECT next_offset, epoch FROM sluice.positions"), "10|1");
}

async fn join(database: &Database, owner: &str, group: &str) -> Result<Heartbeat, String> {
    let claims = claims(database, owner);
    let heartbeat = claims.heartbeat().await.unwrap();
    let agreement = Agreement { group: group.to_owned(), order: "none" };
    let joined = claims.errand("join", async |session| claims.join(session, &agreement).await);
    joined.await.map(|()| heartbeat).map_err(|fault| fault.to_string())
}

#[test]
fn hosts_that_live_agree_and_those_that_are_gone_have_no_say() {
    let database = Database::new();
    wait_for(async {
        let first = join(&database, "a", "one").await.unwrap();
        let second = join(&database, "b", "one").await.unwrap();
        let refused = join(&database, "c", "two").await.unwrap_err();
        let host = crate::sink::claims::blocks::host_name();
        assert_eq!(
            refused,
            format!(
                "SL-P024: host {host} works on pipeline \"pipeline\" with other settings: group is \"one\" there and \
                 \"two\" here"
            )
        );
        drop(first);
        join(&database, "c", "two").await.unwrap_err();
        drop(second);
        // Its lock is given back in the background.
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(refused) = join(&database, "c", "two").await {
            assert!(Instant::now() < deadline, "{refused}");
        }
    });
    assert_eq!(database.ask("SELECT string_agg(owner, ',') FROM sluice.hosts"), "c");
}

#[test]
fn of_hosts_that_begin_at_the_same_moment_all_that_join_agree() {
    let database = Database::new();
    let joined: Vec<bool> = wait_for(async {
        let tasks: Vec<_> = (0..12)
            .map(|index| {
                let name = database.name.clone();
                let (database, owner) = (Database::called(&name), format!("host-{index}"));
                let group = if index % 2 == 0 { "even" } else { "odd" };
                tokio::spawn(async move { join(&database, &owner, group).await.ok() })
            })
            .collect();
        let mut heartbeats = Vec::new();
        for task in tasks {
            heartbeats.push(task.await.unwrap());
        }
        heartbeats.iter().map(Option::is_some).collect()
    });
    let of = |rest: usize| joined.iter().skip(rest).step_by(2).filter(|it| **it).count();
    assert!((of(0), of(1)) == (6, 0) || (of(0), of(1)) == (0, 6), "{joined:?}");
}

/// An owner in a COPY, inside a transaction that has locked its position.
async fn copying_owner(database: &Database) -> Session {
    let owner = database.options.named("pipeline", "old").connect().await.unwrap();
    let begin = "SET idle_in_transaction_session_timeout = '60s'; BEGIN; UPDATE sluice.positions SET next_offset = 10";
    owner.batch_execute(begin).await.unwrap();
    owner
}

#[test]
fn an_owner_whose_rows_come_slowly_is_waited_for() {
    let database = Database::new();
    database.run("CREATE TABLE public.t (v text)");
    wait_for(claims(&database, "old").claim(TOPIC, &[(0, 0)])).unwrap();
    let line = "x".repeat(1023) + "\n";
    let answers = wait_for(async {
        let owner = copying_owner(&database).await;
        let sink = owner.copy_in::<_, Bytes>("COPY public.t FROM STDIN").await.unwrap();
        let mut sink = Box::pin(sink);
        let feed = async {
            let began = Instant::now();
            // The claim waits for two seconds at a time, and sees an owner that has been in its COPY for one.
            while began.elapsed() < Duration::from_millis(3500) {
                for _ in 0..16 {
                    sink.as_mut().feed(Bytes::from(line.clone())).await.unwrap();
                }
                sink.as_mut().flush().await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let rows = sink.as_mut().finish().await.unwrap();
            owner.batch_execute("COMMIT").await.unwrap();
            rows
        };
        let claims = claims(&database, "new");
        let wanted = [(0, 0)];
        let (rows, answers) = futures_util::future::join(feed, claims.claim(TOPIC, &wanted)).await;
        assert!(rows > 0);
        let there = owner.query_one("SELECT count(*) FROM public.t", &[]).await.unwrap();
        assert_eq!(there.get::<_, i64>(0), rows as i64);
        answers.unwrap()
    });
    // From where the old owner has left it.
    assert_eq!(answers, [claimed(0, 10, 2)]);
}

#[test]
fn an_owner_whose_rows_stay_away_is_passed_by_within_ten_seconds() {
    let database = Database::new();
    database.run("CREATE TABLE public.t (v text)");
    wait_for(claims(&database, "old").claim(TOPIC, &[(0, 0)])).unwrap();
    wait_for(async {
        let owner = copying_owner(&database).await;
        let sink = owner.copy_in::<_, Bytes>("COPY public.t FROM STDIN").await.unwrap();
        let mut sink = Box::pin(sink);
        sink.as_mut().send(Bytes::from_static(b"one\n")).await.unwrap();
        let started = Instant::now();
        let answers = claims(&database, "new").claim(TOPIC, &[(0, 0)]).await.unwrap();
        assert_eq!(answers, [claimed(0, 0, 2)]);
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert!(sink.as_mut().finish().await.is_err());
    });
    assert_eq!(database.ask("SELECT count(*) FROM public.t"), "0");
}
