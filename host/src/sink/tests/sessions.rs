//! Sessions that the pipelines of a process share: how many there are, who gets one, and what becomes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lab::{
    Database, Fill, Given, Lane, TOPIC, ask_on, make_plan, output, to_table, until, version,
    wait_for,
};
use crate::columns::{Column, Kind};
use crate::fault::{Fault, sqlstate};
use crate::settings::Mode;
use crate::sink::claims::Claims;
use crate::sink::claims::blocks::host_name;
use crate::sink::parked::due::Due;
use crate::sink::postgres::connection::fault;
use crate::sink::postgres::sessions::BEYOND_MAX;
use crate::sink::postgres::sessions::capacity::{Wanted, shortage};
use crate::sink::postgres::{Options, Session};
use crate::sink::table::Plan;

/// The condition for sessions with the name of the process: errands and heartbeats.
fn shared() -> String {
    format!("application_name = left('sluice/{}/{}', 63)", host_name(), std::process::id())
}

/// Counts sessions of a database without being one.
struct Count(Session, String);

impl Count {
    fn of(database: &Database) -> Self {
        let other = Database::called("postgres");
        Self(wait_for(other.options.connect()).unwrap(), database.name.clone())
    }

    fn sessions(&self, condition: &str) -> usize {
        let Self(session, name) = self;
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND {condition}"
        );
        ask_on(session, &query).parse().unwrap()
    }

    fn end(&self, condition: &str) {
        let Self(session, name) = self;
        let query = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND {condition}"
        );
        ask_on(session, &query);
    }
}

fn claims(options: &Options, owner: &str) -> Claims {
    Claims::new(options, "pipeline", "topic", owner)
}

async fn sleep(session: &Session, seconds: f64) -> Result<(), Fault> {
    let slept = session.batch_execute(&format!("SELECT pg_sleep({seconds})")).await;
    slept.map_err(|error| fault("sleep", &error))
}

async fn pid(options: &Options) -> i32 {
    options.errand("ask", async |session| Ok(session.pid())).await.unwrap()
}

/// Owners that another host considers crashed.
fn crashed(database: &Database) -> Vec<String> {
    let stored = wait_for(claims(&database.options, "other").stored()).unwrap();
    stored.into_iter().filter(|it| it.owner_crashed).map(|it| it.owner).collect()
}

#[test]
fn thirty_owners_at_rest_have_one_session_for_heartbeats_and_two_for_errands() {
    let database = Database::new();
    let count = Count::of(&database);
    let options = database.options.clone().sharing(32);
    let heartbeats = wait_for(async {
        let lives = (0..30).map(|number| {
            let options = options.clone();
            tokio::spawn(async move {
                let owner = claims(&options, &format!("owner-{number}"));
                let heartbeat = owner.heartbeat().await.unwrap();
                owner.claim(TOPIC, &[(number, 0)]).await.unwrap();
                owner.stored().await.unwrap();
                heartbeat
            })
        });
        futures_util::future::join_all(lives.collect::<Vec<_>>()).await
    });
    until(|| count.sessions("true") <= 3);
    assert_eq!(count.sessions(&format!("NOT {}", shared())), 0);
    assert_eq!(crashed(&database), [""; 0]);
    let mut heartbeats: Vec<_> = heartbeats.into_iter().map(Result::unwrap).collect();
    drop(heartbeats.remove(7));
    until(|| crashed(&database) == ["owner-7"]);
}

#[test]
fn heartbeats_begin_again_on_one_session_when_theirs_is_lost() {
    let database = Database::new();
    let count = Count::of(&database);
    let options = database.options.clone().sharing(32);
    let owners = ["a", "b", "c"].map(|owner| claims(&options, owner));
    let mut heartbeats = owners.each_ref().map(|owner| wait_for(owner.heartbeat()).unwrap());
    for (partition, owner) in (0..).zip(&owners) {
        wait_for(owner.claim(TOPIC, &[(partition, 0)])).unwrap();
    }
    count.end(&format!("{} AND query LIKE '%advisory%'", shared()));
    until(|| heartbeats.iter().all(|it| !it.is_there()));
    assert_eq!(crashed(&database), ["a", "b", "c"]);
    for (heartbeat, owner) in heartbeats.iter_mut().zip(&owners) {
        // In this order: what ends with the old one must not end the new one.
        *heartbeat = wait_for(owner.heartbeat()).unwrap();
    }
    assert_eq!(crashed(&database), [""; 0]);
    assert_eq!(count.sessions(&format!("{} AND query LIKE '%advisory%'", shared())), 1);
}

#[test]
fn an_errand_that_nobody_waits_for_is_cancelled_and_its_session_never_used_again() {
    let database = Database::new();
    let count = Count::of(&database);
    let options = database.options.clone().sharing(32);
    let first = wait_for(pid(&options));
    assert_eq!(wait_for(pid(&options)), first, "a session serves one errand after the other");
    wait_for(async {
        let errand = options.errand("sleep", async |session| sleep(session, 3600.0).await);
        assert!(tokio::time::timeout(Duration::from_millis(300), errand).await.is_err());
    });
    assert_ne!(wait_for(pid(&options)), first);
    until(|| count.sessions("wait_event = 'PgSleep'") == 0);
    // Nor is one on which something failed.
    let second = wait_for(pid(&options));
    let failed =
        options.errand("fail", async |_| Err::<(), _>(Fault::retry(sqlstate::CONNECTION, "")));
    wait_for(failed).unwrap_err();
    assert_ne!(wait_for(pid(&options)), second);
}

#[test]
fn an_errand_waits_for_its_turn_and_not_long_for_a_lock() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let count = Count::of(&database);
    let options = database.options.clone().sharing(32);
    let person = wait_for(database.session());
    wait_for(person.batch_execute("BEGIN; LOCK TABLE t")).unwrap();
    let blocked = wait_for(options.errand("read", async |session| {
        session.batch_execute("TABLE public.t").await.map_err(|error| fault("read", &error))
    }));
    assert_eq!(blocked.unwrap_err().code, sqlstate::CONTENTION);
    drop(person);
    wait_for(async {
        let errands =
            (0..8).map(|_| options.errand("sleep", async |session| sleep(session, 0.05).await));
        let done = futures_util::future::join_all(errands.collect::<Vec<_>>()).await;
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    });
    assert!(count.sessions("true") <= 2);
}

#[test]
fn errands_are_closed_when_there_are_none_for_a_while() {
    let database = Database::new();
    let count = Count::of(&database);
    let mut options = database.options.clone().sharing(32);
    options.idle_max = Duration::from_millis(100);
    wait_for(pid(&options));
    until(|| count.sessions("true") == 0);
    wait_for(pid(&options));
    until(|| count.sessions("true") == 0);
}

/// A table, and lanes of as many partitions that write into it by way of `options`.
fn lanes(database: &Database, options: &Options, count: i32) -> (Arc<Plan>, Vec<Lane>) {
    database.run("CREATE TABLE t (v bigint)");
    let outputs = [output("t", &[("v", Kind::Int64)])];
    let plan = make_plan(database, &outputs, &[("", to_table("t", Mode::Append))]);
    let lanes = (0..count).map(|partition| {
        Lane::start_by(options, database, &[partition], &format!("lane-{partition}"))
    });
    (plan, lanes.collect())
}

fn one_message(partition: i32, offset: i64) -> Given {
    let value = i64::from(partition) * 1000 + offset;
    Given::messages([(partition, offset)]).table(vec![Column::new(Kind::Int64).ints(&[value])])
}

#[test]
fn lanes_take_turns_when_there_are_fewer_connections() {
    let database = Database::new();
    let count = Count::of(&database);
    let options = database.options.clone().sharing(2);
    let (plan, mut lanes) = lanes(&database, &options, 6);
    let mut most = 0;
    for round in 0..4 {
        // Keeps those that have a turn from ending it.
        let person = wait_for(database.session());
        let lock = "SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE t";
        wait_for(person.batch_execute(lock)).unwrap();
        for (partition, lane) in (0..).zip(&mut lanes) {
            lane.begin(&plan, one_message(partition, round), &version("a"));
        }
        until(|| count.sessions("wait_event_type = 'Lock'") == 2);
        // Claims and errands never wait for them.
        wait_for(claims(&options, "other").claim(TOPIC, &[(99, 0)])).unwrap();
        wait_for(claims(&options, "other").stored()).unwrap();
        wait_for(person.batch_execute("COMMIT")).unwrap();
        for lane in &mut lanes {
            lane.expect_done();
            most = most.max(count.sessions("application_name LIKE 'sluice/pipeline/%'"));
        }
    }
    // One that was given up may still be ending.
    assert!(most <= 2 + BEYOND_MAX, "{most} sessions");
    assert_eq!(database.ask("SELECT count(*), count(DISTINCT v) FROM t"), "24|24");
}

#[test]
fn a_lane_without_work_closes_its_session_and_begins_another_with_the_next_batch() {
    let database = Database::new();
    let count = Count::of(&database);
    let mut options = database.options.clone().sharing(2);
    options.idle_max = Duration::from_millis(200);
    let (plan, mut lanes) = lanes(&database, &options, 1);
    for round in 0..2 {
        lanes[0].write(&plan, one_message(0, round), &version("a"));
        assert_eq!(count.sessions("application_name LIKE 'sluice/pipeline/lane%'"), 1);
        until(|| count.sessions("application_name LIKE 'sluice/pipeline/lane%'") == 0);
    }
    assert_eq!(database.ask("SELECT count(*) FROM t"), "2");
}

#[test]
fn a_lane_that_is_dropped_while_it_waits_leaves_the_queue() {
    let database = Database::new();
    let options = database.options.clone().sharing(2);
    let (plan, mut lanes) = lanes(&database, &options, 2);
    let taken: Vec<Session> = (0..2).map(|_| wait_for(options.connect()).unwrap()).collect();
    for (partition, lane) in (0..).zip(&mut lanes) {
        lane.begin(&plan, one_message(partition, 0), &version("a"));
    }
    assert!(lanes[0].writer.wait(Duration::from_millis(200)).is_none());
    // The first in the queue.
    lanes.remove(0).writer.abandon();
    drop(taken);
    lanes[0].expect_done();
    assert_eq!(database.ask("SELECT v FROM t"), "1000");
    let Err(fault) = wait_for(async {
        let _all = (options.connect().await, options.connect().await);
        options.clone().waiting_at_most(Duration::from_millis(50)).connect().await
    }) else {
        panic!("there is none left")
    };
    assert_eq!(fault.code, sqlstate::RESOURCES);
}

#[test]
fn retries_have_a_session_only_while_something_is_due() {
    let database = Database::new();
    let count = Count::of(&database);
    let options = database.options.clone().sharing(32).named("pipeline", "owner");
    let mut due = Due::new(&options, "pipeline", Arc::default(), false);
    assert_eq!(wait_for(due.next()).unwrap().wait, None);
    assert_eq!(count.sessions("application_name = 'sluice/pipeline/owner'"), 0);
    database.run("CREATE TABLE t (v bigint)");
    let outputs = [output("t", &[("v", Kind::Int64)])];
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    wait_for(due.take(&plan)).unwrap();
    assert_eq!(count.sessions("application_name = 'sluice/pipeline/owner'"), 1);
    let release = Instant::now();
    due.release();
    until(|| count.sessions("application_name = 'sluice/pipeline/owner'") == 0);
    // After 5 s the server would end a transaction that does nothing.
    assert!(release.elapsed() < Duration::from_secs(4), "{:?}", release.elapsed());
}

#[test]
fn the_smallest_number_of_connections_counts() {
    let database = Database::new();
    let options = database.options.clone().sharing(5);
    let taken = wait_for(options.connect()).unwrap();
    // The same database as the same user, named otherwise.
    let other = database.through(database.port).sharing(2).named("p", "o");
    assert_eq!(options.sessions().unwrap().connections_max(), 2);
    let second = wait_for(other.connect()).unwrap();
    let third = options.clone().waiting_at_most(Duration::from_millis(50));
    assert!(wait_for(third.connect()).is_err());
    drop((taken, second));
    assert!(wait_for(third.connect()).is_ok());
}

#[test]
fn a_server_with_too_few_connections_is_told_beforehand() {
    let database = Database::new();
    let role = format!("few_{}", database.name);
    let options = database.create_role(&role);
    // One session for heartbeats and two for errands come on top.
    let (few, many) =
        (Wanted { own: 2, connections_max: 32 }, Wanted { own: 2000, connections_max: 1000 });
    let check = |limits: &str, wanted, expected: Option<&str>| {
        database.run(limits);
        // The session that asked last may still be ending.
        until(|| {
            let told = wait_for(shortage(&options, wanted, true)).unwrap();
            let told = told.map(|it| it.to_string().split_once(": the ").unwrap().1.to_owned());
            told.as_deref() == expected
        });
    };
    check(&format!("ALTER ROLE {role} CONNECTION LIMIT 5"), few, None);
    check(
        &format!("ALTER ROLE {role} CONNECTION LIMIT 4"),
        few,
        Some(
            "pipelines want up to 5 connections and 4 are free: the role's CONNECTION LIMIT allows 4, others have 0",
        ),
    );
    check(
        &format!(
            "ALTER ROLE {role} CONNECTION LIMIT -1; ALTER DATABASE {} CONNECTION LIMIT 3",
            database.name
        ),
        few,
        Some(
            "pipelines want up to 5 connections and 3 are free: the database's CONNECTION LIMIT allows 3, others have 0",
        ),
    );
    database.run(&format!("ALTER DATABASE {} CONNECTION LIMIT -1", database.name));
    let told = wait_for(shortage(&options, many, false)).unwrap().unwrap();
    assert_eq!(told.code, sqlstate::FEW_CONNECTIONS);
    // 60 of the server, three of them reserved.
    assert!(told.message.contains("want up to 1006 connections"), "{told}");
    assert!(told.message.contains("max_connections allows 57, others have"), "{told}");
}

#[test]
fn a_transaction_on_another_process_of_the_server_is_refused() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint)");
    let session = wait_for(database.session());
    let insert = async |statement: &str| {
        session.batch_execute(statement).await.unwrap();
        let begun = session.begin().await.map_err(|fault| fault.code);
        let written = session.batch_execute("INSERT INTO t VALUES (1)").await;
        session.batch_execute("COMMIT").await.unwrap();
        (begun, written.map_err(|error| error.code().unwrap().code().to_owned()))
    };
    let refused = (Err(sqlstate::POOLER), Err("25P02".to_owned()));
    assert_eq!(wait_for(insert("SELECT 1")), (Ok(()), Ok(())));
    // A process that was set up for nobody, or for another session after this one.
    assert_eq!(wait_for(insert("RESET sluice.session")), refused);
    assert_eq!(wait_for(insert("SET sluice.session = 'other'")), refused);
    assert_eq!(database.ask("SELECT count(*) FROM t"), "1");
}

#[test]
fn a_lane_leaves_a_process_of_the_server_that_is_not_its_own() {
    let database = Database::new();
    let outputs = [output("t", &[("v", Kind::Int64)])];
    database.run("CREATE TABLE t (v bigint, pid integer DEFAULT pg_backend_pid())");
    let plan = make_plan(&database, &outputs, &[("", to_table("t", Mode::Append))]);
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, one_message(0, 0), &version("a"));
    // What a pooler does between two transactions, done at the end of one.
    database.run(
        "CREATE FUNCTION lend() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM set_config('sluice.session', 'other', false); RETURN NEW; END $$;
         CREATE TRIGGER lend AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION lend()",
    );
    lane.write(&plan, one_message(0, 1), &version("a"));
    lane.begin(&plan, one_message(0, 2), &version("a"));
    lane.expect_done();
    let first = "SELECT v, pid = (SELECT pid FROM t WHERE v = 0) FROM t ORDER BY v";
    assert_eq!(database.ask(first), "0|t\n1|t\n2|f");
    assert_eq!(database.ask("SELECT next_offset FROM sluice.positions"), "3");
}
