//! Triggers and policies: what users write may end in whatever SQLSTATE they like.

use super::way::Way;
use crate::settings::Mode;

/// A trigger with `body`, which has the row as NEW and calls it bad when `v` is negative.
fn trigger(timing: &str, body: &str) -> String {
    format!(
        "CREATE TABLE t (id bigint, v bigint); CREATE TABLE other (v bigint PRIMARY KEY); \
         CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
            $$ DECLARE n bigint; BEGIN IF NEW.v < 0 THEN {body}; END IF; RETURN NEW; END $$; \
         {timing} FOR EACH ROW EXECUTE FUNCTION f()"
    )
}

const BEFORE: &str = "CREATE TRIGGER g BEFORE INSERT ON t";
const AFTER: &str = "CREATE TRIGGER g AFTER INSERT ON t";
const AT_COMMIT: &str =
    "CREATE CONSTRAINT TRIGGER g AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED";

/// RAISE with states that mean something else when the server gives them.
const RAISED: &[(&str, &str)] = &[
    ("P0001", "raise_exception, the default"),
    ("P0002", "no_data_found"),
    ("P0003", "too_many_rows"),
    ("P0004", "assert_failure"),
    ("45000", "the one that SQL sets aside for users"),
    ("BILL1", "one of the user's own"),
    ("08006", "as if the connection had failed"),
    ("0A000", "feature_not_supported"),
    ("21000", "cardinality_violation"),
    ("22023", "invalid_parameter_value"),
    ("23502", "not_null_violation, naming no column"),
    ("23505", "unique_violation, naming no constraint"),
    ("23514", "check_violation, naming no constraint"),
    ("25006", "as if the server were read-only"),
    ("25P02", "as if the transaction had failed"),
    ("26000", "as if a prepared statement were gone"),
    ("28P01", "as if the login were wrong"),
    ("3D000", "as if there were no database"),
    ("40001", "as if it could be tried again"),
    ("40P01", "as if it were a deadlock"),
    ("42501", "as if a privilege were missing"),
    ("42601", "as if it were a syntax error"),
    ("42P01", "as if a table were missing"),
    ("53100", "as if the disk were full"),
    ("53200", "as if memory were short"),
    ("55P03", "as if a lock were taken"),
    ("57014", "as if the statement were cancelled"),
    ("57P01", "as if the server were shutting down"),
    ("58030", "as if a disk had failed"),
    ("SL001", "Sluice's own for a stale claim"),
    ("SL002", "Sluice's own for a changed table"),
    ("XX000", "internal_error"),
    ("XX001", "as if the data were corrupt"),
];

/// What goes wrong by itself in a trigger's code.
const ERRORS: &[(&str, &str, &str)] = &[
    ("SELECT INTO STRICT finds nothing", "P0002", "SELECT 1 INTO STRICT n WHERE false"),
    (
        "SELECT INTO STRICT finds two rows",
        "P0003",
        "SELECT i INTO STRICT n FROM generate_series(1, 2) AS i",
    ),
    ("ASSERT", "P0004", "ASSERT false"),
    ("division by zero", "22012", "n := 1 / 0"),
    ("a cast", "22P02", "n := 'x'"),
    ("a subquery gives two rows", "21000", "n := (SELECT i FROM generate_series(1, 2) AS i)"),
    ("no such table", "42P01", "EXECUTE 'INSERT INTO no_such VALUES (1)'"),
    ("no such function", "42883", "EXECUTE 'SELECT no_such()'"),
    ("syntax error", "42601", "EXECUTE 'SELEC'"),
    ("a privilege is missing", "42501", "EXECUTE 'SELECT * FROM pg_authid'"),
    ("a key of another table is taken", "23505", "INSERT INTO other VALUES (1), (1)"),
    ("a column of another table is NOT NULL", "23502", "INSERT INTO other VALUES (NULL)"),
    ("COMMIT in a trigger", "2D000", "COMMIT"),
];

pub fn raising() -> Vec<Way> {
    let raise = |(state, meaning): &(&'static str, &str)| {
        let body = format!("RAISE 'not that one' USING ERRCODE = '{state}'");
        Way::row(format!("RAISE, {meaning}"), state, trigger(BEFORE, &body))
    };
    RAISED.iter().map(raise).collect()
}

pub fn failing() -> Vec<Way> {
    let error = |(name, state, body): &(&str, &'static str, &str)| {
        Way::row(*name, state, trigger(BEFORE, body))
    };
    let mut ways: Vec<Way> = ERRORS.iter().map(error).collect();
    ways.extend([
        Way::row("after the row", "P0001", trigger(AFTER, "RAISE 'not that one'")),
        Way::row("after the row, 40001", "40001", trigger(AFTER, "RAISE SQLSTATE '40001'")),
        Way::row("at COMMIT", "P0001", trigger(AT_COMMIT, "RAISE 'not that one'")),
        Way::row("at COMMIT, 40001", "40001", trigger(AT_COMMIT, "RAISE SQLSTATE '40001'")),
        Way::row("at COMMIT, 55P03", "55P03", trigger(AT_COMMIT, "RAISE SQLSTATE '55P03'")),
        Way::row(
            "mode upsert, 53100",
            "53100",
            format!("{}; ALTER TABLE t ADD PRIMARY KEY (id)", trigger(BEFORE, "RAISE SQLSTATE '53100'")),
        )
        .by(Mode::Upsert),
        Way::row(
            "the trigger changes a value, which then violates a check",
            "23514",
            "CREATE TABLE t (id bigint, v bigint, w bigint CHECK (w >= 0)); \
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.w := NEW.v; RETURN NEW; END $$; \
             CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        ),
        Way::row(
            "once for the statement, over all of its rows",
            "P0001",
            "CREATE TABLE t (id bigint, v bigint); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN IF EXISTS (SELECT FROM new_rows WHERE v < 0) THEN RAISE 'not that one'; END IF; RETURN NULL; END $$; \
             CREATE TRIGGER g AFTER INSERT ON t REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION f()",
        ),
        always("once for the statement, whatever its rows are", "BEFORE INSERT ON t FOR EACH STATEMENT", "SL-P007"),
        always("a bug: it fails for every row", "BEFORE INSERT ON t FOR EACH ROW", "SL-P020"),
    ]);
    ways
}

/// A trigger that is there for a while and fails each time.
fn always(name: &str, timing: &str, code: &'static str) -> Way {
    let begin = format!(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$; \
         CREATE TRIGGER g {timing} EXECUTE FUNCTION f()"
    );
    Way::cause(name, "P0001", code, (&begin, "DROP TRIGGER g ON t"))
}

pub fn policies() -> Vec<Way> {
    let secured = "CREATE TABLE t (id bigint PRIMARY KEY, v bigint); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY readable ON t FOR SELECT USING (true); \
        CREATE POLICY changeable ON t FOR UPDATE USING (true)";
    let checked = format!("{secured}; CREATE POLICY writable ON t FOR INSERT WITH CHECK (v >= 0)");
    let raising = "CREATE FUNCTION f(v bigint) RETURNS boolean LANGUAGE plpgsql AS \
        $$ BEGIN IF v < 0 THEN RAISE SQLSTATE '53200'; END IF; RETURN true; END $$; \
        CREATE TABLE t (id bigint, v bigint); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY writable ON t FOR INSERT WITH CHECK (f(v))";
    vec![
        Way::row("WITH CHECK", "42501", checked.clone()),
        Way::row("WITH CHECK, mode ignore", "42501", checked.clone()).by(Mode::Ignore),
        Way::row("WITH CHECK, mode upsert", "42501", checked.clone()).by(Mode::Upsert),
        Way::row("WITH CHECK calls a function which raises", "53200", raising),
        Way::cause(
            "enabled while the pipeline is running",
            "42501",
            "",
            (
                "ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY writable ON t FOR INSERT WITH CHECK (v >= 0)",
                "",
            ),
        )
        .on("CREATE TABLE t (id bigint, v bigint)")
        .counts_rows(),
        Way::cause(
            "enabled without a policy",
            "42501",
            "SL-P020",
            ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE t DISABLE ROW LEVEL SECURITY"),
        ),
    ]
}
