//! Tables that change between a plan and a write: no value is ever stored as another one.

use std::sync::Arc;

use super::lab::{
    Database, Fill, Given, Lane, make_plan, output, to_table, until, version, wait_for,
};
use crate::columns::{Column, Kind};
use crate::settings::{Mode, TableSettings};
use crate::sink::postgres::Written;
use crate::sink::table::Plan;

const TABLE: &str = "CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN whole AS bigint; \
    CREATE TABLE t (n bigint, d whole, name text, mood mood, k bigint PRIMARY KEY)";
const FIELDS: [(&str, Kind); 5] = [
    ("n", Kind::Int64),
    ("d", Kind::Int64),
    ("name", Kind::Text),
    ("mood", Kind::Text),
    ("k", Kind::Int64),
];

/// A table, a plan for it, and a lane that has written one row already.
struct Scene {
    database: Database,
    plan: Arc<Plan>,
    lane: Lane,
    next: i64,
}

impl Scene {
    fn new(mode: Mode) -> Self {
        let database = Database::new();
        database.run(TABLE);
        // As after some batches: what was found out about the tables is kept with the plan.
        database.run(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET plan_cache_mode = force_generic_plan', current_database()); END $$",
        );
        let table = TableSettings { key: vec!["k".to_owned()], ..to_table("t", mode) };
        let plan = make_plan(&database, &[output("t", &FIELDS)], &[("", table)]);
        let lane = Lane::start(&database, &[0]);
        let mut scene = Self { database, plan, lane, next: 0 };
        scene.begin("ok");
        scene.lane.expect_done();
        scene.next += 1;
        scene
    }

    fn begin(&mut self, mood: &str) {
        let offset = self.next;
        let int = |value: i64| Column::new(Kind::Int64).ints(&[value]);
        let text = |value: &str| Column::new(Kind::Text).texts(&[value]);
        let columns = vec![int(1000 + offset), int(offset), text("x"), text(mood), int(offset)];
        let given = Given::messages([(0, offset)]).table(columns);
        self.lane.begin(&self.plan, given, &version("a"));
    }

    /// Writes the next row, for the tables as they are found to be; how often they had changed.
    fn write(&mut self, mood: &str) -> u32 {
        self.begin(mood);
        self.settle(mood)
    }

    fn settle(&mut self, mood: &str) -> u32 {
        let mut changes = 0;
        loop {
            match self.lane.finish() {
                Written::Changed { plan, reuse } => {
                    (self.plan, self.lane.reuse) = (plan, Some(reuse));
                    changes += 1;
                    self.begin(mood);
                }
                Written::Done { receipt, reuse } => {
                    self.next += 1;
                    self.lane.ranges[0].from = receipt.ranges()[0].to;
                    assert_eq!(receipt.ranges()[0].rejected, 0, "dead-lettered");
                    self.lane.reuse = Some(reuse);
                    return changes;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Why the next row cannot be written at all.
    fn stops(&mut self) -> String {
        self.begin("ok");
        loop {
            match self.lane.finish() {
                Written::Stopped { fault, reuse } => {
                    self.lane.reuse = Some(reuse);
                    return fault.to_string();
                }
                Written::Changed { plan, reuse } => {
                    (self.plan, self.lane.reuse) = (plan, Some(reuse));
                    self.begin("ok");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn rows(&self) -> String {
        self.database
            .ask("SELECT n, d, name, mood, k FROM t ORDER BY k::text::int")
            .replace('\n', " ")
    }
}

const CHANGES: &[(&str, &str)] = &[
    ("another length", "ALTER TABLE t ALTER n TYPE integer"),
    ("numeric", "ALTER TABLE t ALTER n TYPE numeric"),
    ("a scale", "ALTER TABLE t ALTER n TYPE numeric(12, 3)"),
    ("smallint", "ALTER TABLE t ALTER k TYPE smallint"),
    ("varchar", "ALTER TABLE t ALTER name TYPE varchar(3)"),
    ("wider varchar", "ALTER TABLE t ALTER name TYPE varchar(9)"),
    ("char", "ALTER TABLE t ALTER name TYPE char(1)"),
    (
        "a text as enum",
        "CREATE TYPE grade AS ENUM ('x'); ALTER TABLE t ALTER name TYPE grade USING name::grade",
    ),
    ("not null", "ALTER TABLE t ALTER n SET NOT NULL"),
    ("domain", "ALTER DOMAIN whole SET NOT NULL"),
    ("a column more", "ALTER TABLE t ADD more integer NOT NULL DEFAULT 7"),
    ("dropped and added", "ALTER TABLE t DROP n; ALTER TABLE t ADD n numeric(9, 0)"),
    (
        "two columns swapped",
        "ALTER TABLE t RENAME n TO s; ALTER TABLE t ALTER d TYPE numeric; ALTER TABLE t RENAME d TO n; ALTER TABLE t RENAME s TO d",
    ),
    (
        "another table of the name",
        "ALTER TABLE t RENAME TO old; CREATE TABLE t (k numeric PRIMARY KEY, n smallint, d int, name char(4), mood text)",
    ),
    ("row-level security", "ALTER TABLE t ENABLE ROW LEVEL SECURITY"),
];

#[test]
fn a_changed_table_is_planned_again_and_gets_the_values_of_the_messages() {
    for mode in [Mode::Append, Mode::Upsert, Mode::Ignore] {
        for (name, change) in CHANGES {
            let mut scene = Scene::new(mode);
            let before = scene.database.ask("SELECT count(*) FROM t");
            assert_eq!(before, "1");
            scene.database.run(change);
            let changes = scene.write("ok");
            // For a superuser policies do not exist.
            let expected = u32::from(*name != "row-level security");
            assert_eq!(changes, expected, "{name}");
            assert_eq!(scene.write("ok"), 0, "{name}: planned for good");
            let row = |n: i64| {
                scene.database.ask(&format!(
                "SELECT n::numeric::int, d::int, trim(name::text), mood, k::int FROM t WHERE k = {n}"
            ))
            };
            assert_eq!([row(1), row(2)], ["1001|1|x|ok|1", "1002|2|x|ok|2"], "{name}");
        }
    }
}

/// The type stays, and only its modifier changes.
#[test]
fn a_column_that_is_widened_takes_what_was_too_long_before() {
    let database = Database::new();
    database.run("CREATE TABLE t (name varchar(3), amount numeric(3, 1))");
    let fields = [("name", Kind::Text), ("amount", Kind::Text)];
    let mut plan =
        make_plan(&database, &[output("t", &fields)], &[("", to_table("t", Mode::Append))]);
    let mut lane = Lane::start(&database, &[0]);
    let mut write = |offset: i64, name: &str, amount: &str| {
        let text = |value: &str| vec![Column::new(Kind::Text).texts(&[value])];
        loop {
            let columns = [text(name), text(amount)].concat();
            lane.begin(&plan, Given::messages([(0, offset)]).table(columns), &version("a"));
            match lane.finish() {
                Written::Changed { plan: next, reuse } => (plan, lane.reuse) = (next, Some(reuse)),
                Written::Done { receipt, reuse } => {
                    (lane.ranges[0].from, lane.reuse) = (offset + 1, Some(reuse));
                    return receipt.ranges()[0].rejected;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!([write(0, "abcd", "1"), write(1, "a", "123.45")], [1, 1]);
    database.run("ALTER TABLE t ALTER name TYPE varchar(9)");
    assert_eq!([write(2, "abcd", "1"), write(3, "a", "123.45")], [0, 1]);
    database.run("ALTER TABLE t ALTER amount TYPE numeric(6, 2)");
    assert_eq!(write(4, "abcde", "123.45"), 0);
    database.run("ALTER TABLE t ALTER name TYPE varchar(5)");
    assert_eq!(write(5, "abcdef", "1"), 1);
    let rows = database.ask("SELECT string_agg(name || ' ' || amount, ', ' ORDER BY ctid) FROM t");
    assert_eq!(rows, "abcd 1.00, abcde 123.45");
}

#[test]
fn a_label_is_known_as_soon_as_postgres_knows_it() {
    let mut scene = Scene::new(Mode::Append);
    scene.database.run("ALTER TYPE mood ADD VALUE 'bad'");
    assert_eq!(scene.write("bad"), 1);
    assert_eq!(scene.write("bad"), 0);
    scene.database.run("ALTER TYPE mood RENAME VALUE 'bad' TO 'worse'");
    assert_eq!(scene.write("worse"), 1);
    let moods = scene.database.ask("SELECT string_agg(mood::text, ' ' ORDER BY k) FROM t");
    assert_eq!(moods, "ok worse worse worse");
}

/// The change is made before the COPY takes its lock, and is seen only behind it.
#[test]
fn a_change_that_the_copy_has_waited_for_is_noticed() {
    let mut scene = Scene::new(Mode::Append);
    let other = wait_for(scene.database.session());
    wait_for(other.batch_execute("BEGIN; ALTER TABLE t ALTER n TYPE double precision")).unwrap();
    scene.begin("ok");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    until(|| scene.database.ask(waits) == "1");
    wait_for(other.batch_execute("COMMIT")).unwrap();
    let Written::Stopped { fault, .. } = scene.lane.finish() else { panic!("written") };
    insta::assert_snapshot!(fault, @r#"
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - output "t", table "t": column "n" is double precision, which takes no int64
    "#);
    assert_eq!(scene.database.ask("SELECT n FROM t"), "1000");
}

#[test]
fn outputs_that_no_longer_fit_stop_with_the_differences_and_resume_when_mended() {
    let changes = [
        (
            "ALTER TABLE t ALTER n TYPE double precision",
            "ALTER TABLE t ALTER n TYPE bigint",
            "takes no int64",
        ),
        (
            "ALTER TABLE t ADD site text NOT NULL DEFAULT 'x'; ALTER TABLE t ALTER site DROP DEFAULT",
            "ALTER TABLE t DROP site",
            "no field fills it",
        ),
        ("ALTER TABLE t RENAME n TO m", "ALTER TABLE t RENAME m TO n", "there is no column \"n\""),
        ("ALTER TABLE t RENAME TO gone", "ALTER TABLE gone RENAME TO t", "there is no such table"),
        ("ALTER TABLE t SET UNLOGGED", "ALTER TABLE t SET LOGGED", "is UNLOGGED"),
        (
            "CREATE RULE r AS ON INSERT TO t DO INSTEAD NOTHING",
            "DROP RULE r ON t",
            "has a rule ON INSERT",
        ),
    ];
    for mode in [Mode::Append, Mode::Upsert] {
        let mut scene = Scene::new(mode);
        for (change, back, difference) in &changes {
            scene.database.run(change);
            let said = scene.stops();
            assert!(said.starts_with("SL-P010") && said.contains(difference), "{change}: {said}");
            scene.database.run(back);
            scene.write("ok");
        }
        let rows = scene.rows();
        assert_eq!(
            rows,
            "1000|0|x|ok|0 1001|1|x|ok|1 1002|2|x|ok|2 1003|3|x|ok|3 1004|4|x|ok|4 1005|5|x|ok|5 1006|6|x|ok|6"
        );
    }
}

#[test]
fn a_partition_that_keeps_no_promise_is_noticed_when_it_is_attached() {
    let database = Database::new();
    database.run("CREATE TABLE t (v bigint) PARTITION BY RANGE (v); CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (100)");
    let plan = make_plan(
        &database,
        &[output("t", &[("v", Kind::Int64)])],
        &[("", to_table("t", Mode::Append))],
    );
    let mut lane = Lane::start(&database, &[0]);
    let given = |offset: i64| {
        Given::messages([(0, offset)]).table(vec![Column::new(Kind::Int64).ints(&[offset])])
    };
    lane.write(&plan, given(0), &version("a"));
    database.run("CREATE UNLOGGED TABLE t_1 PARTITION OF t FOR VALUES FROM (100) TO (200)");
    lane.begin(&plan, given(1), &version("a"));
    let Written::Stopped { fault, .. } = lane.finish() else { panic!("written") };
    insta::assert_snapshot!(fault, @r#"
    SL-P010: schema mismatch between the plugin's outputs and the tables:
      - output "t", table "t": partition t_1 is UNLOGGED: a crash of the server empties it, and the rows are not read again
    "#);
}

#[test]
fn tables_that_cannot_keep_the_promise_are_refused() {
    let check = |tables: &str, mode: Mode, expected: &str| {
        let database = Database::without_schema();
        database.run(tables);
        let settings = super::lab::settings(&[(
            "",
            TableSettings { key: vec!["v".to_owned()], ..to_table("t", mode) },
        )]);
        let result = wait_for(async {
            let session = database.options.connect().await.unwrap();
            crate::sink::table::plan(&session, &[output("t", &[("v", Kind::Int64)])], &settings)
                .await
        });
        let said = result.map_or_else(|fault| fault.to_string(), |_| "fits".to_owned());
        assert!(said.contains(expected), "{tables}: {said}");
    };
    check("CREATE UNLOGGED TABLE t (v bigint)", Mode::Append, "is UNLOGGED");
    check(
        "CREATE TABLE s (v bigint); CREATE VIEW t AS SELECT * FROM s",
        Mode::Append,
        "is not a table",
    );
    check("CREATE MATERIALIZED VIEW t AS SELECT 1::bigint AS v", Mode::Append, "is not a table");
    let published = "CREATE TABLE t (v bigint NOT NULL UNIQUE); CREATE PUBLICATION p FOR TABLE t";
    check(published, Mode::Upsert, "is in publication p without a replica identity");
    check(published, Mode::Append, "fits");
    check(&format!("{published}; ALTER TABLE t REPLICA IDENTITY FULL"), Mode::Upsert, "fits");
    check(
        "CREATE TABLE t (v bigint PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES",
        Mode::Upsert,
        "fits",
    );
    check(
        "CREATE TABLE t (v bigint NOT NULL UNIQUE); CREATE PUBLICATION p FOR TABLE t WITH (publish = 'insert')",
        Mode::Upsert,
        "fits",
    );
}
