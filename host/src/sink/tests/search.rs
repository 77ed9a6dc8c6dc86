//! The search for rejected rows: what it costs, and that no row without a violation is found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version};
use super::proxy::far_away;
use crate::columns::{Column, Kind};
use crate::settings::Mode;
use crate::sink::table::Plan;

fn ints(values: &[i64]) -> Column {
    Column::new(Kind::Int64).ints(values)
}

fn messages(count: usize) -> Given {
    Given::messages((0..count as i64).map(|offset| (0, offset)))
}

/// Offsets and codes of the dead letters.
fn dead_letters(database: &Database) -> String {
    database.ask("SELECT string_agg(\"offset\" || ' ' || code, ', ' ORDER BY \"offset\") FROM sluice.dead_letters")
}

/// A table of which a trigger rejects negative values: nothing that could be asked for all rows at once.
fn with_trigger(mode: Mode) -> (Database, Arc<Plan>) {
    let database = Database::new();
    database.run(
        "CREATE TABLE t (v bigint PRIMARY KEY); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.v < 0 THEN RAISE 'not that one' USING ERRCODE = 'BILL1'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    );
    let plan =
        make_plan(&database, &[output("t", &[("v", Kind::Int64)])], &[("", to_table("t", mode))]);
    (database, plan)
}

#[test]
fn fifty_thousand_rejected_rows_are_found_in_seconds_on_a_distant_server() {
    let (database, plan) = with_trigger(Mode::Append);
    let port = far_away(database.port, Duration::from_millis(1));
    let mut lane = Lane::start_by(&database.through(port), &database, &[0], "lane");
    let count = 50_000;
    // One is fine, and must be there.
    let values: Vec<i64> = (0..count).map(|row| if row == 31_000 { 1 } else { -row - 1 }).collect();
    let began = Instant::now();
    let ranges =
        lane.write(&plan, messages(count as usize).table(vec![ints(&values)]), &version("a"));
    let took = began.elapsed();
    assert_eq!((ranges[0].rows, ranges[0].rejected), (1, 49_999));
    assert_eq!(database.ask("SELECT v FROM t"), "1");
    let told = database.ask("SELECT count(DISTINCT \"offset\"), min(code), max(code) FROM sluice.dead_letters WHERE \"offset\" <> 31000");
    assert_eq!(told, "49999|BILL1|BILL1");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

/// A savepoint that is kept costs the server 9 KB, and a lock as soon as a row stays behind it.
#[test]
fn the_search_takes_no_more_locks_however_many_rows_are_rejected() {
    let (database, plan) = with_trigger(Mode::Append);
    let mut lane = Lane::start(&database, &[0]);
    // So few among so many that each is found for itself.
    let values: Vec<i64> =
        (0..20_000).map(|row| if row % 20 == 0 { -row - 1 } else { row }).collect();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid'";
    let (searching, most) = (AtomicBool::new(true), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while searching.load(Ordering::Relaxed) {
                most.fetch_max(database.ask(locks).parse().unwrap(), Ordering::Relaxed);
            }
        });
        lane.write(&plan, messages(values.len()).table(vec![ints(&values)]), &version("a"));
        searching.store(false, Ordering::Relaxed);
    });
    let most = most.load(Ordering::Relaxed);
    assert!((1..100).contains(&most), "{most} locks");
    assert_eq!(database.ask("SELECT count(*) FROM t"), "19000");
}

/// Tables `parents` and `children`, of which the plan writes the children first.
fn family(constraint: &str) -> (Database, Arc<Plan>) {
    let database = Database::new();
    database.run(&format!(
        "CREATE TABLE parents (id bigint PRIMARY KEY CHECK (id < 1000)); \
         CREATE TABLE children (parent bigint REFERENCES parents {constraint})"
    ));
    let outputs =
        [output("children", &[("parent", Kind::Int64)]), output("parents", &[("id", Kind::Int64)])];
    let tables = [
        ("children", to_table("children", Mode::Append)),
        ("parents", to_table("parents", Mode::Append)),
    ];
    let plan = make_plan(&database, &outputs, &tables);
    (database, plan)
}

#[test]
fn children_that_are_written_before_their_parents_are_not_rejected_for_it() {
    let (database, plan) = family("DEFERRABLE INITIALLY DEFERRED");
    let mut lane = Lane::start(&database, &[0]);
    // Message i brings child of parent i + 1, and parent i: but for the last each child waits for a later message.
    let count = 200;
    let parents: Vec<i64> = (0..count).map(|it| if it == 77 { 5000 } else { it }).collect();
    let children: Vec<i64> = (0..count).map(|it| (it + 1) % count).collect();
    let given = messages(count as usize).table(vec![ints(&children)]).table(vec![ints(&parents)]);
    lane.write(&plan, given, &version("a"));
    // 77 for its CHECK, 76 because its parent is gone with it, and those ahead one after the other.
    let expected = (0..=76).map(|it| format!("{it} 23503")).chain(["77 23514".to_owned()]);
    let expected: Vec<String> =
        expected.chain((78..200).filter(|it| *it == 199).map(|it| format!("{it} 23503"))).collect();
    let found = dead_letters(&database);
    let chain: Vec<&str> = found.split(", ").collect();
    assert!(chain.contains(&"77 23514") && chain.contains(&"76 23503"), "{found}");
    assert!(
        expected.iter().map(String::as_str).filter(|it| !chain.contains(it)).count() == 0,
        "{found}"
    );
    let orphans = "SELECT count(*) FROM children WHERE parent NOT IN (SELECT id FROM parents)";
    assert_eq!(database.ask(orphans), "0");
}

#[test]
fn one_bad_parent_costs_one_message_when_nobody_refers_to_it() {
    for constraint in ["DEFERRABLE INITIALLY DEFERRED", "DEFERRABLE"] {
        let (database, plan) = family(constraint);
        database.run("INSERT INTO parents SELECT generate_series(500, 520)");
        let mut lane = Lane::start(&database, &[0]);
        let parents = [1, 2, 5000, 4, 5, 6];
        let children = [500, 501, 502, 503, 504, 505];
        // One child of a parent of the same message where the constraint waits.
        let children = if constraint == "DEFERRABLE" { children } else { [6, 1, 502, 4, 2, 5] };
        let given = messages(6).table(vec![ints(&children)]).table(vec![ints(&parents)]);
        lane.write(&plan, given, &version("a"));
        assert_eq!(dead_letters(&database), "2 23514", "{constraint}");
        assert_eq!(database.ask("SELECT count(*) FROM children"), "5");
    }
}

#[test]
fn rows_that_refer_to_rows_of_their_own_batch_are_fine() {
    let database = Database::new();
    database.run(
        "CREATE TABLE t (id bigint PRIMARY KEY, up bigint REFERENCES t, w bigint CHECK (w >= 0))",
    );
    let fields = [("id", Kind::Int64), ("up", Kind::Int64), ("w", Kind::Int64)];
    let plan = make_plan(&database, &[output("t", &fields)], &[("", to_table("t", Mode::Append))]);
    let mut lane = Lane::start(&database, &[0]);
    // Each refers to the one behind it, the last to itself. One of another chain is bad, and one refers to nobody.
    let id: Vec<i64> = (0..300).collect();
    let up: Vec<i64> = (0..300)
        .map(|it| match it {
            250 => 9999,
            120 => 120,
            119 | 249 | 299 => 299,
            it => it + 1,
        })
        .collect();
    let w: Vec<i64> = (0..300).map(|it| if it == 120 { -1 } else { 0 }).collect();
    lane.write(&plan, messages(300).table(vec![ints(&id), ints(&up), ints(&w)]), &version("a"));
    assert_eq!(dead_letters(&database), "120 23514, 250 23503");
    assert_eq!(database.ask("SELECT count(*) FROM t"), "298");
}

#[test]
fn the_first_of_two_equal_keys_is_fine_whatever_else_is_rejected() {
    let (database, plan) = with_trigger(Mode::Append);
    let mut lane = Lane::start(&database, &[0]);
    let mut values: Vec<i64> = (0..2000).map(|row| if row % 2 == 0 { row } else { -row }).collect();
    (values[1000], values[1002], values[1900]) = (40, 1004, 40);
    lane.write(&plan, messages(2000).table(vec![ints(&values)]), &version("a"));
    let collided = "SELECT string_agg(\"offset\" || ' ' || code, ', ' ORDER BY \"offset\") FROM sluice.dead_letters WHERE code <> 'BILL1'";
    assert_eq!(database.ask(collided), "1000 23505, 1004 23505, 1900 23505");
    assert_eq!(database.ask("SELECT count(*) FROM t"), "997");
}

/// What was learned of a constraint is forgotten with it.
#[test]
fn a_constraint_that_is_dropped_rejects_nothing_any_more() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint CONSTRAINT positive CHECK (v >= 0))");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut lane = Lane::start(&database, &[0]);
    let given = |first: i64, values: &[i64]| {
        Given::messages((first..first + values.len() as i64).map(|offset| (0, offset)))
            .table(vec![ints(values)])
    };
    lane.write(&plan, given(0, &[1, -1, 2]), &version("a"));
    database.run("ALTER TABLE t DROP CONSTRAINT positive");
    lane.write(&plan, given(3, &[-2, 3]), &version("a"));
    database.run("ALTER TABLE t ADD CONSTRAINT positive CHECK (v >= 0) NOT VALID");
    lane.write(&plan, given(5, &[-3, 4]), &version("a"));
    database.run(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.v := abs(NEW.v); RETURN NEW; END $$; \
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    );
    lane.write(&plan, given(7, &[-5, 6]), &version("a"));
    assert_eq!(dead_letters(&database), "1 23514, 5 23514");
    assert_eq!(database.ask("SELECT string_agg(v::text, ' ' ORDER BY v) FROM t"), "-2 1 2 3 4 5 6");
}

#[test]
fn databases_of_other_encodings_take_dead_letters_about_what_they_cannot_store() {
    for (encoding, shown) in [("LATIN1", "\"2026-13-?\""), ("SQL_ASCII", "\"2026-13-€\"")] {
        let main = Database::without_schema();
        let name = format!("{}_{}", main.name, encoding.to_lowercase());
        main.run(&format!("CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"));
        let database = Database::called(&name);
        super::lab::wait_for(crate::sink::migrate::migrate(&database.options)).unwrap();
        database.run("CREATE TABLE t (day date, name text)");
        let fields = [("day", Kind::Text), ("name", Kind::Text)];
        let plan =
            make_plan(&database, &[output("t", &fields)], &[("", to_table("t", Mode::Append))]);
        let mut lane = Lane::start(&database, &[0]);
        let text = |values: &[&str]| Column::new(Kind::Text).texts(values);
        let given = messages(3)
            .table(vec![text(&["2026-11-28", "2026-13-€", "2026-11-30"]), text(&["ä", "b", "€"])]);
        lane.write(&plan, given, &version("a"));
        let reason = database.ask("SELECT reason FROM sluice.dead_letters WHERE \"offset\" = 1");
        assert!(reason.contains(shown), "{encoding}: {reason}");
        let (rejected, rows) =
            if encoding == "LATIN1" { ("1 bad-date, 2 22P05", "1") } else { ("1 bad-date", "2") };
        assert_eq!(dead_letters(&database), rejected, "{encoding}");
        assert_eq!(database.ask("SELECT count(*) FROM t"), rows, "{encoding}");
    }
}

/// After a restore of data alone the ids of dead letters are given out once more: no message is at fault for it.
#[test]
fn ids_that_are_given_out_again_stop_with_a_hint() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint CHECK (v >= 0))");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, messages(2).table(vec![ints(&[1, -1])]), &version("a"));
    database.run("ALTER SEQUENCE sluice.dead_letters_id_seq RESTART");
    let given = || Given::messages([(0, 2), (0, 3)]).table(vec![ints(&[-2, 3])]);
    lane.begin(&plan, given(), &version("a"));
    let fault = lane.expect_stopped();
    assert!(fault.starts_with("SL-P012") && fault.contains("setval("), "{fault}");
    database.run("SELECT setval(pg_get_serial_sequence('sluice.dead_letters', 'id'), 100)");
    lane.write(&plan, given(), &version("a"));
    assert_eq!(dead_letters(&database), "1 23514, 2 23514");
}
