//! Rows that Postgres refuses: their messages become dead letters, all others are written, whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::lab::{Database, Fill, Given, Lane, make_plan, output, to_table, version};
use crate::columns::{Column, Kind};
use crate::settings::{Mode, TableSettings};
use crate::sink::table::Plan;

/// What refuses negative values of `v`, and the SQLSTATE.
struct Refusal {
    name: &'static str,
    /// Makes the table `t (v bigint, ...)`.
    tables: &'static str,
    state: &'static str,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "check",
        tables: "CREATE TABLE t (v bigint CONSTRAINT positive CHECK (v >= 0))",
        state: "23514",
    },
    Refusal {
        name: "domain",
        tables: "CREATE DOMAIN natural_number AS bigint CHECK (VALUE >= 0); CREATE TABLE t (v natural_number)",
        state: "23514",
    },
    Refusal {
        name: "unique",
        tables: "CREATE TABLE t (v bigint UNIQUE); INSERT INTO t SELECT generate_series(-5000, -1)",
        state: "23505",
    },
    Refusal {
        name: "deferred unique",
        tables: "CREATE TABLE t (v bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); \
                 INSERT INTO t SELECT generate_series(-5000, -1)",
        state: "23505",
    },
    Refusal {
        name: "foreign key",
        tables: "CREATE TABLE p (v bigint PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 5000); \
                 CREATE TABLE t (v bigint REFERENCES p)",
        state: "23503",
    },
    Refusal {
        name: "deferred foreign key",
        tables: "CREATE TABLE p (v bigint PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 5000); \
                 CREATE TABLE t (v bigint REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
        state: "23503",
    },
    Refusal {
        name: "exclusion",
        tables: "CREATE TABLE t (v bigint, EXCLUDE USING btree (v WITH =)); \
                 INSERT INTO t SELECT generate_series(-5000, -1)",
        state: "23P01",
    },
    Refusal {
        name: "trigger before",
        tables: "CREATE TABLE t (v bigint); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN IF NEW.v < 0 THEN RAISE 'not that one' USING ERRCODE = '22023'; END IF; RETURN NEW; END $$; \
                 CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        state: "22023",
    },
    Refusal {
        name: "trigger after",
        tables: "CREATE TABLE t (v bigint); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN IF NEW.v < 0 THEN RAISE 'not that one'; END IF; RETURN NULL; END $$; \
                 CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        state: "P0001",
    },
    Refusal {
        name: "generated",
        tables: "CREATE TABLE t (v bigint, w double precision GENERATED ALWAYS AS (sqrt(v)) STORED)",
        state: "2201F",
    },
];

fn one_column(mode: Mode) -> (Vec<crate::description::Output>, Vec<(&'static str, TableSettings)>) {
    (vec![output("t", &[("v", Kind::Int64)])], vec![("", to_table("t", mode))])
}

/// `len` messages; the value of each is its offset, negative and unlike all others in `bad`.
fn values(len: usize, bad: &BTreeSet<usize>) -> Vec<i64> {
    (0..len as i64).map(|row| if bad.contains(&(row as usize)) { -row - 1 } else { row }).collect()
}

fn given(values: &[i64]) -> Given {
    let column = Column::new(Kind::Int64).ints(values);
    Given::messages((0..values.len() as i64).map(|offset| (0, offset))).table(vec![column])
}

/// A database with the table of a refusal, used for one batch after the other.
struct Place {
    database: Database,
    plan: Arc<Plan>,
    name: &'static str,
    state: &'static str,
}

impl Place {
    fn new(refusal: &Refusal, mode: Mode) -> Self {
        let database = Database::new();
        database.run(refusal.tables);
        let (outputs, mut tables) = one_column(mode);
        if mode == Mode::Upsert {
            database.run("CREATE UNIQUE INDEX ON t (v)");
            tables[0].1.key = vec!["v".to_owned()];
        }
        let plan = make_plan(&database, &outputs, &tables);
        Self { database, plan, name: refusal.name, state: refusal.state }
    }

    fn check(&self, len: usize, bad: &[usize]) {
        let case = format!("{}: {bad:?} of {len}", self.name);
        self.database.run(
            "DELETE FROM t WHERE v >= 0; DELETE FROM sluice.dead_letters; DELETE FROM sluice.positions",
        );
        let bad: BTreeSet<usize> = bad.iter().copied().collect();
        let mut lane = Lane::start(&self.database, &[0]);
        let ranges = lane.write(&self.plan, given(&values(len, &bad)), &version("a"));
        let (good, range) = (len - bad.len(), &ranges[0]);
        assert_eq!(
            [range.messages, range.rows_from, range.rows, range.filtered, range.rejected],
            [len, good, good, 0, bad.len()].map(|count| count as u64),
            "{case}"
        );
        let rows = self.database.ask("SELECT count(*), count(DISTINCT v) FROM t WHERE v >= 0");
        assert_eq!(rows, format!("{good}|{good}"), "{case}");
        let dead_letters = self
            .database
            .ask("SELECT \"offset\", stage, code FROM sluice.dead_letters ORDER BY \"offset\"");
        let expected: Vec<String> =
            bad.iter().map(|row| format!("{row}|sink|{}", self.state)).collect();
        assert_eq!(dead_letters, expected.join("\n"), "{case}");
        let position = self.database.ask("SELECT next_offset FROM sluice.positions");
        assert_eq!(position, len.to_string(), "{case}");
    }
}

#[test]
fn every_kind_of_refusal_costs_one_message() {
    for refusal in REFUSALS {
        let place = Place::new(refusal, Mode::Append);
        for bad in [&[0][..], &[4], &[8], &[0, 8], &[2, 3, 4, 7]] {
            place.check(9, bad);
        }
        place.check(1, &[0]);
        place.check(2, &[0, 1]);
        place.check(1000, &[0, 1, 499, 500, 998, 999]);
    }
}

#[test]
fn rows_that_go_through_a_staging_table_are_found_too() {
    let collides = ["unique", "deferred unique", "exclusion"];
    for refusal in REFUSALS.iter().filter(|it| !collides.contains(&it.name)) {
        let place = Place::new(refusal, Mode::Upsert);
        place.check(9, &[3]);
        place.check(9, &[0, 5, 8]);
        place.check(1, &[0]);
    }
}

#[test]
fn the_second_of_two_equal_keys_is_the_one_refused() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint UNIQUE)");
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, given(&[1, 2, 1, 3, 2, 1, 4]), &version("a"));
    assert_eq!(database.ask("SELECT string_agg(v::text, ',' ORDER BY v) FROM t"), "1,2,3,4");
    let dead_letters =
        "SELECT string_agg(\"offset\"::text, ',' ORDER BY \"offset\") FROM sluice.dead_letters";
    assert_eq!(database.ask(dead_letters), "2,4,5");
}

const KEPT: &str = "SELECT string_agg(v::text, ',' ORDER BY v) FROM t";
const DEAD_LETTERS: &str = "SELECT string_agg(\"offset\" || ' ' || code, ', ' ORDER BY \"offset\") FROM sluice.dead_letters";

/// A table with columns `v` and `w`, and a lane that writes to it.
fn two_columns(table: &str, mode: Mode) -> (Database, impl FnMut(&[(i64, i64)])) {
    let database = Database::new();
    database.run(table);
    let fields = [("v", Kind::Int64), ("w", Kind::Int64)];
    let tables = [("", to_table("t", mode))];
    let plan = make_plan(&database, &[output("t", &fields)], &tables);
    let mut lane = Lane::start(&database, &[0]);
    let mut next = 0;
    let write = move |rows: &[(i64, i64)]| {
        let (v, w): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
        let columns = [v, w].map(|values| Column::new(Kind::Int64).ints(&values)).into();
        let offsets = next..next + rows.len() as i64;
        next = offsets.end;
        lane.write(&plan, Given::messages(offsets.map(|it| (0, it))).table(columns), &version("a"));
    };
    (database, write)
}

/// Also when both constraints are known to refuse rows, and are asked ahead.
#[test]
fn a_row_is_fine_when_the_one_before_it_with_its_value_is_refused() {
    let table = "CREATE TABLE t (v bigint UNIQUE, w bigint CHECK (w >= 0))";
    let (database, mut write) = two_columns(table, Mode::Append);
    write(&[(1, 1), (1, 1), (2, -1)]);
    write(&[(3, -1), (3, 1), (3, 2), (1, 1)]);
    write(&[(4, -1), (4, 1), (4, 2), (5, 1), (5, -1)]);
    assert_eq!(database.ask(KEPT), "1,3,4,5");
    let dead_letters = "1 23505, 2 23514, 3 23514, 5 23505, 6 23505, 7 23514, 9 23505, 11 23514";
    assert_eq!(database.ask(DEAD_LETTERS), dead_letters);
}

#[test]
fn rows_that_violate_nothing_are_not_rejected_for_being_there() {
    let table = "CREATE TABLE t (v bigint UNIQUE, w bigint, x double precision GENERATED ALWAYS AS (sqrt(w)) STORED)";
    let (database, mut write) = two_columns(table, Mode::Append);
    let mut rows: Vec<(i64, i64)> = (0..100).map(|row| (row, 1)).collect();
    // Of no constraint's making, so that rows are written piece by piece.
    rows[3].1 = -1;
    rows[5].1 = -1;
    rows[60].0 = 8;
    write(&rows);
    assert_eq!(database.ask(DEAD_LETTERS), "3 2201F, 5 2201F, 60 23505");
    assert_eq!(database.ask("SELECT count(*) FROM t"), "97");
}

#[test]
fn a_row_is_fine_when_the_one_with_its_value_is_refused_for_what_it_has_in_another_table() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint UNIQUE); CREATE TABLE b (v bigint CHECK (v >= 0))");
    let outputs = [output("t", &[("v", Kind::Int64)]), output("b", &[("v", Kind::Int64)])];
    let tables = [("t", to_table("t", Mode::Append)), ("b", to_table("b", Mode::Append))];
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    let column = |values: &[i64]| vec![Column::new(Kind::Int64).ints(values)];
    let given = Given::messages((0..5).map(|offset| (0, offset)))
        .table(column(&[10, 10, 10, 11, 11]))
        .table(column(&[-1, 1, 1, 1, 1]));
    lane.write(&plan, given, &version("a"));
    assert_eq!(database.ask(KEPT), "10,11");
    assert_eq!(database.ask(DEAD_LETTERS), "0 23514, 2 23505, 4 23505");
}

#[test]
fn a_row_may_replace_one_that_has_its_unique_value() {
    let table = "CREATE TABLE t (v bigint PRIMARY KEY, w bigint UNIQUE)";
    let (database, mut write) = two_columns(table, Mode::Upsert);
    write(&[(1, 10), (2, 20), (3, 30)]);
    write(&[(1, 10), (2, 20), (4, 30)]);
    write(&[(1, 10), (2, 20), (3, 30)]);
    assert_eq!(database.ask(KEPT), "1,2,3");
    assert_eq!(database.ask(DEAD_LETTERS), "5 23505");
}

#[test]
fn a_message_goes_with_all_of_its_rows() {
    let database = Database::new();
    database.run("CREATE TABLE a (v bigint); CREATE TABLE b (v bigint CHECK (v >= 0))");
    let outputs = [output("a", &[("v", Kind::Int64)]), output("b", &[("v", Kind::Int64)])];
    let tables = [("a", to_table("a", Mode::Append)), ("b", to_table("b", Mode::Append))];
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    let column = |values: &[i64]| vec![Column::new(Kind::Int64).ints(values)];
    let given = Given::messages([(0, 0), (0, 1), (0, 2)])
        .table(column(&[10, 11, 12]))
        .table(column(&[20, -1, 22]));
    let ranges = lane.write(&plan, given, &version("a"));
    assert_eq!((ranges[0].rows_from, ranges[0].rows, ranges[0].rejected), (2, 4, 1));
    assert_eq!(database.ask("SELECT string_agg(v::text, ',') FROM a"), "10,12");
    assert_eq!(database.ask("SELECT string_agg(v::text, ',') FROM b"), "20,22");
}

/// A trigger counts statements in a sequence, which no rollback takes back.
#[test]
fn finding_rows_takes_a_copy_each_and_two_more() {
    let database = Database::new();
    database.run(
        "CREATE TABLE t (v bigint CHECK (v >= 0)); CREATE SEQUENCE copies; \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('copies'); RETURN NULL; END $$; \
         CREATE TRIGGER g BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION f()",
    );
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    let bad: BTreeSet<usize> = (0..1000).step_by(90).collect();
    lane.write(&plan, given(&values(1000, &bad)), &version("a"));
    let copies: usize = database.ask("SELECT last_value FROM copies").parse().unwrap();
    // The one that fails, the one that succeeds, and those in between.
    assert!(copies - 1 <= bad.len() + 2, "{copies} for {}", bad.len());
}

#[test]
fn a_dead_letter_says_what_was_refused_and_why() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint CONSTRAINT positive CHECK (v >= 0))");
    let (outputs, tables) = one_column(Mode::Append);
    let plan = make_plan(&database, &outputs, &tables);
    let mut lane = Lane::start(&database, &[0]);
    lane.write(&plan, given(&[1, -7]), &version("a"));
    insta::assert_snapshot!(
        database.ask("SELECT partition, \"offset\", stage, code, reason, convert_from(payload, 'UTF8') FROM sluice.dead_letters"),
        @r#"0|1|sink|23514|public.t: row violates check constraint "positive" (23514); columns: v|{}"#
    );
}
