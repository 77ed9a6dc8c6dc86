//! Privileges, locks, changes of the tables, and the state of the server: no row is to blame.

use super::way::{Cause, End, KEYED, Way};
use crate::columns::Kind;
use crate::settings::Mode;

/// Ends the writer's sessions, so that the next one meets what has changed. Not the one that asks.
const END_SESSIONS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE usename = '{role}'";

pub fn privileges() -> Vec<Way> {
    let temporary = (
        format!("REVOKE TEMPORARY ON DATABASE {{database}} FROM PUBLIC; {END_SESSIONS}"),
        "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC",
    );
    let temporary = || (temporary.0.as_str(), temporary.1);
    vec![
        Way::cause("INSERT", "42501", "SL-P008", ("REVOKE INSERT ON t FROM {role}", "GRANT INSERT ON t TO {role}")),
        Way::cause("INSERT on one column", "42501", "SL-P008",
            ("REVOKE INSERT ON t FROM {role}; GRANT INSERT (id) ON t TO {role}", "GRANT INSERT ON t TO {role}")),
        Way::cause("UPDATE, mode upsert", "42501", "SL-P008",
            ("REVOKE UPDATE ON t FROM {role}", "GRANT UPDATE ON t TO {role}")).on(KEYED).by(Mode::Upsert),
        Way::cause("SELECT, mode ignore", "42501", "SL-P008",
            ("REVOKE SELECT ON t FROM {role}", "GRANT SELECT ON t TO {role}")).on(KEYED).by(Mode::Ignore),
        Way::cause("TEMPORARY on the database, mode upsert", "42501", "SL-P008", temporary()).on(KEYED).by(Mode::Upsert),
        Way::cause("TEMPORARY on the database, mode append (not needed)", "", "", temporary()).counts_rows(),
        Way::cause("USAGE on the schema", "42501", "SL-P008",
            ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "GRANT USAGE ON SCHEMA public TO PUBLIC")),
        Way::cause("USAGE on the sequence of a serial column", "42501", "SL-P008",
            ("REVOKE USAGE ON SEQUENCE t_n_seq FROM {role}", "GRANT USAGE ON SEQUENCE t_n_seq TO {role}"))
            .on("CREATE TABLE t (id bigint, v bigint CHECK (v >= 0), n bigserial)"),
        Way::cause("EXECUTE on a function that a trigger calls", "42501", "SL-P020",
            ("REVOKE EXECUTE ON FUNCTION h() FROM PUBLIC", "GRANT EXECUTE ON FUNCTION h() TO PUBLIC"))
            .on("CREATE TABLE t (id bigint, v bigint CHECK (v >= 0)); \
                 CREATE FUNCTION h() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'; \
                 CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM h(); RETURN NEW; END $$; \
                 CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"),
        Way::cause("INSERT on a table that a trigger writes to", "42501", "SL-P020",
            ("REVOKE INSERT ON other FROM {role}", "GRANT INSERT ON other TO {role}")).on(LOGGED),
        Way::cause("UPDATE on sluice.positions", "42501", "SL-P008",
            ("REVOKE UPDATE ON sluice.positions FROM {role}", "GRANT UPDATE ON sluice.positions TO {role}")),
        Way { all_are_good: false, ..Way::cause("INSERT on sluice.dead_letters", "42501", "SL-P008",
            ("REVOKE INSERT ON sluice.dead_letters FROM {role}", "GRANT INSERT ON sluice.dead_letters TO {role}")) }
            .ends(End::Blocked("SL-P008"), End::Blocked("SL-P020")),
    ]
}

/// A trigger keeps the rows in another table as well.
const LOGGED: &str = "CREATE TABLE t (id bigint, v bigint CHECK (v >= 0)); CREATE TABLE other (id bigint); \
    CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO other VALUES (NEW.id); RETURN NEW; END $$; \
    CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()";

pub fn locks() -> Vec<Way> {
    let unique = "CREATE TABLE t (id bigint, v bigint UNIQUE CHECK (v >= 0))";
    let referencing = "CREATE TABLE p (id bigint PRIMARY KEY); INSERT INTO p VALUES (1); \
        CREATE TABLE t (id bigint, v bigint CHECK (v >= 0), p_id bigint DEFAULT 1 REFERENCES p)";
    vec![
        Way::lock("ALTER TABLE is under way (ACCESS EXCLUSIVE)", "LOCK TABLE t"),
        Way::lock("CREATE INDEX is under way (SHARE)", "LOCK TABLE t IN SHARE MODE"),
        Way::lock(
            "a row of the same key is being written, mode upsert",
            "INSERT INTO t VALUES (1600, 1)",
        )
        .on(KEYED)
        .by(Mode::Upsert),
        Way::lock(
            "a row of the same key is being changed, mode upsert",
            "UPDATE t SET v = 2 WHERE id = 1600",
        )
        .on(&format!("{KEYED}; INSERT INTO t VALUES (1600, 1)"))
        .by(Mode::Upsert),
        Way::lock(
            "a row with the same unique value is being written",
            "INSERT INTO t VALUES (0, 1600)",
        )
        .on(unique),
        Way::lock("the row that a foreign key refers to is locked", "SELECT * FROM p FOR UPDATE")
            .on(referencing),
        Way::lock("a trigger waits for another table", "LOCK TABLE other").on(LOGGED),
        Way::lock("the position is being changed", "SELECT * FROM sluice.positions FOR UPDATE"),
    ]
}

pub fn changes() -> Vec<Way> {
    let away = |name, begin, end| Way::cause(name, "", "SL-P010", (begin, end));
    let generated = "CREATE TABLE t (id bigint, v bigint CHECK (v >= 0), w bigint)";
    let stays =
        |name, begin| Way::cause(name, "", "", (begin, "")).ends(End::DeadLetters, End::Written);
    vec![
        Way::cause("the table is dropped", "42P01", "SL-P010", ("DROP TABLE t", CREATED)),
        Way::cause("the table is renamed", "42P01", "SL-P010",
            ("ALTER TABLE t RENAME TO t_old", "ALTER TABLE t_old RENAME TO t")),
        Way::cause("a column is dropped", "42703", "SL-P010",
            ("ALTER TABLE t DROP v", "ALTER TABLE t ADD v bigint CHECK (v >= 0)")).on(generated),
        Way::cause("a column is renamed", "42703", "SL-P010",
            ("ALTER TABLE t RENAME v TO value", "ALTER TABLE t RENAME value TO v")),
        Way::cause("a column is added that is NOT NULL and has no default", "23502", "SL-P010",
            ("ALTER TABLE t ADD w text NOT NULL DEFAULT ''; ALTER TABLE t ALTER w DROP DEFAULT", "ALTER TABLE t DROP w")),
        away("a column is made NOT NULL, the field may have no value",
            "ALTER TABLE t ALTER v SET NOT NULL", "ALTER TABLE t ALTER v DROP NOT NULL")
            .of(Kind::Int64, "#", "-#").may_lack_a_value(),
        away("a column gets a type of the same size that the field does not fit",
            "ALTER TABLE t ALTER v TYPE double precision", "ALTER TABLE t ALTER v TYPE bigint"),
        stays("a column gets another type that fits", "ALTER TABLE t ALTER v TYPE numeric"),
        stays("a column is dropped and added with another type that fits",
            "ALTER TABLE t DROP v; ALTER TABLE t ADD v numeric CHECK (v >= 0)"),
        stays("another table takes the name",
            "ALTER TABLE t RENAME TO t_old; CREATE TABLE t (v numeric CHECK (v >= 0), id numeric); \
             GRANT ALL ON t TO {role}"),
        away("a column becomes GENERATED",
            "ALTER TABLE t DROP v; ALTER TABLE t ADD v bigint GENERATED ALWAYS AS (1) STORED",
            "ALTER TABLE t DROP v; ALTER TABLE t ADD v bigint CHECK (v >= 0)").called("428C9 or 42601 or 42P10"),
        away("the table becomes UNLOGGED", "ALTER TABLE t SET UNLOGGED", "ALTER TABLE t SET LOGGED"),
        away("a view takes the table's name",
            "ALTER TABLE t RENAME TO t_old; CREATE VIEW t AS SELECT id, v FROM t_old; GRANT ALL ON t TO {role}",
            "DROP VIEW t; ALTER TABLE t_old RENAME TO t").called("42809"),
        away("a foreign table takes the table's name",
            "ALTER TABLE t RENAME TO t_old; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; \
             CREATE FOREIGN TABLE t (id bigint, v bigint) SERVER s; GRANT ALL ON t TO {role}",
            "DROP FOREIGN TABLE t; ALTER TABLE t_old RENAME TO t").called("55000"),
        away("the conflict key's index is dropped, mode upsert",
            "ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t ADD PRIMARY KEY (id)")
            .called("42P10").on(KEYED).by(Mode::Upsert),
        away("the table is published without a replica identity, mode upsert",
            "CREATE PUBLICATION everything FOR TABLE t", "DROP PUBLICATION everything")
            .called("55000").on("CREATE TABLE t (id bigint NOT NULL UNIQUE, v bigint CHECK (v >= 0))").by(Mode::Upsert),
        Way::cause("schema sluice is gone", "3F000 or 42P01", "SL-P012",
            ("ALTER SCHEMA sluice RENAME TO away", "ALTER SCHEMA away RENAME TO sluice")),
    ]
}

const CREATED: &str =
    "CREATE TABLE t (id bigint, v bigint CHECK (v >= 0)); GRANT ALL ON t TO {role}";

impl Way {
    fn called(self, state: &'static str) -> Self {
        Self { state, ..self }
    }

    fn may_lack_a_value(self) -> Self {
        Self { nullable: true, ..self }
    }

    /// Nobody has to mend it.
    fn passes(self) -> Self {
        self.ends(End::Retried, End::Retried)
    }
}

pub fn states() -> Vec<Way> {
    let after = |begin: &str| format!("{begin}; {END_SESSIONS}");
    let cause =
        |name, state, begin: &str, end| Way::cause(name, state, "", (&after(begin), end)).passes();
    let ended = Cause {
        begin: "LOCK TABLE t".to_owned(),
        stays_open: true,
        while_it_waits: END_SESSIONS,
        end: "",
    };
    vec![
        Way { cause: Some(ended), ..Way::lock("the session is ended in the middle of a write", "") }.called("57P01"),
        cause("the server takes no writes", "25006", "ALTER ROLE {role} SET default_transaction_read_only = on",
            "ALTER ROLE {role} RESET default_transaction_read_only"),
        cause("too many connections", "53300", "ALTER DATABASE {database} CONNECTION LIMIT 0",
            "ALTER DATABASE {database} CONNECTION LIMIT -1"),
        Way::cause("the role may no longer log in", "28000", "SL-P002",
            (&after("ALTER ROLE {role} NOLOGIN"), "ALTER ROLE {role} LOGIN")),
        Way::cause("the role may no longer connect to the database", "42501", "SL-P008",
            (&after("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC"), "GRANT CONNECT ON DATABASE {database} TO PUBLIC")),
        Way::cause("time limits are set for the role (they are not used)", "", "",
            (&after("ALTER ROLE {role} SET statement_timeout = 1; ALTER ROLE {role} SET lock_timeout = 1"), ""))
            .counts_rows(),
    ]
}
