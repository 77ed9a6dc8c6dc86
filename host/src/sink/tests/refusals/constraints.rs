//! Constraints, generated columns, indexes and partitions.

use super::way::Way;
use crate::columns::Kind;
use crate::settings::Mode;

const TAKEN: &str = "INSERT INTO t SELECT 0, generate_series(-3000, -1)";
const PARENTS: &str =
    "CREATE TABLE p (v bigint PRIMARY KEY); INSERT INTO p SELECT generate_series(0, 3000); ";

pub fn constraints() -> Vec<Way> {
    let taken = |columns: &str| format!("CREATE TABLE t (id bigint, {columns}); {TAKEN}");
    let parents = |columns: &str| format!("{PARENTS}CREATE TABLE t (id bigint, {columns})");
    vec![
        Way::row("check", "23514", "CREATE TABLE t (id bigint, v bigint CHECK (v >= 0))"),
        Way::row("check over two columns", "23514", "CREATE TABLE t (id bigint, v bigint, CHECK (v >= id))"),
        Way::row("check that divides by zero", "22012", "CREATE TABLE t (id bigint, v bigint CHECK (1 / v < 2))")
            .of(Kind::Int64, "#", "0"),
        Way::row("check that calls a function which raises", "P0001",
            "CREATE FUNCTION f(v bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
                IF v < 0 THEN RAISE 'negative'; END IF; RETURN true; END $$; \
             CREATE TABLE t (id bigint, v bigint CHECK (f(v)))"),
        Way::row("check, mode ignore", "23514", "CREATE TABLE t (id bigint PRIMARY KEY, v bigint CHECK (v >= 0))")
            .by(Mode::Ignore),
        Way::row("check, mode upsert", "23514", "CREATE TABLE t (id bigint PRIMARY KEY, v bigint CHECK (v >= 0))")
            .by(Mode::Upsert),
        Way::row("domain with a check", "23514",
            "CREATE DOMAIN natural_number AS bigint CHECK (VALUE >= 0); CREATE TABLE t (id bigint, v natural_number)"),
        Way::text("domain over text with a pattern", "23514", "", "ab#", "#")
            .on("CREATE DOMAIN code AS text CHECK (VALUE ~ '^[a-z]{2}'); CREATE TABLE t (id bigint, v code)"),
        Way::row("domain over a domain that is NOT NULL", "23502",
            "CREATE DOMAIN inner_one AS bigint NOT NULL; CREATE DOMAIN outer_one AS inner_one; \
             CREATE TABLE t (id bigint, v outer_one)").of(Kind::Int64, "#", "NULL"),
        Way::row("NOT NULL, where a trigger takes the value away", "23502",
            "CREATE TABLE t (id bigint, v bigint NOT NULL); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN IF NEW.v < 0 THEN NEW.v := NULL; END IF; RETURN NEW; END $$; \
             CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"),
        Way::row("unique", "23505", taken("v bigint UNIQUE")),
        Way::row("unique, checked at the end of the statement", "23505", taken("v bigint UNIQUE DEFERRABLE")),
        Way::row("unique, checked at COMMIT", "23505", taken("v bigint UNIQUE DEFERRABLE INITIALLY DEFERRED")),
        Way::row("unique over an expression", "23505",
            "CREATE TABLE t (id bigint, v bigint); CREATE UNIQUE INDEX ON t (abs(v)); INSERT INTO t VALUES (0, 1)")
            .of(Kind::Int64, "#", "-1"),
        Way::row("unique over some rows", "23505",
            "CREATE TABLE t (id bigint, v bigint); CREATE UNIQUE INDEX ON t (v) WHERE v < 0; INSERT INTO t VALUES (0, -1)")
            .of(Kind::Int64, "#", "-1"),
        Way::row("unique besides the conflict key, mode upsert", "23505",
            "CREATE TABLE t (id bigint PRIMARY KEY, v bigint UNIQUE); INSERT INTO t VALUES (0, -1)")
            .of(Kind::Int64, "#", "-1").by(Mode::Upsert),
        Way::row("primary key", "23505", "CREATE TABLE t (id bigint, v bigint PRIMARY KEY); INSERT INTO t VALUES (0, -1)")
            .of(Kind::Int64, "#", "-1"),
        Way::row("exclusion", "23P01", format!("CREATE TABLE t (id bigint, v bigint, EXCLUDE USING btree (v WITH =)); {TAKEN}")),
        Way::text("exclusion of ranges that overlap", "23P01", "", "[#,#]", "[-9,0)")
            .on("CREATE TABLE t (id bigint, v int4range, EXCLUDE USING gist (v WITH &&)); INSERT INTO t VALUES (0, '[-5,-4)')"),
        Way::row("exclusion, checked at COMMIT", "23P01",
            format!("CREATE TABLE t (id bigint, v bigint, EXCLUDE USING btree (v WITH =) DEFERRABLE INITIALLY DEFERRED); {TAKEN}")),
        Way::row("foreign key", "23503", parents("v bigint REFERENCES p")),
        Way::row("foreign key, checked at COMMIT", "23503", parents("v bigint REFERENCES p DEFERRABLE INITIALLY DEFERRED")),
        Way::row("foreign key, mode upsert", "23503",
            format!("{PARENTS}CREATE TABLE t (id bigint PRIMARY KEY, v bigint REFERENCES p)")).by(Mode::Upsert),
        Way::row("foreign key to the table itself, child before parent", "23503",
            "CREATE TABLE t (id bigint PRIMARY KEY, v bigint REFERENCES t)").of(Kind::Int64, "@", "-1"),
        Way { two_tables: true, ..Way::row("check, where the child table is written before the parent", "23514",
            "CREATE TABLE p (id bigint PRIMARY KEY, v bigint CHECK (v >= 0)); \
             CREATE TABLE t (id bigint REFERENCES p DEFERRABLE INITIALLY DEFERRED, v bigint)") },
        Way::cause("check that was added a moment ago", "23514", "",
            ("ALTER TABLE t ADD CHECK (v >= 0) NOT VALID", "")).on("CREATE TABLE t (id bigint, v bigint)").counts_rows(),
    ]
}

impl Way {
    /// A cause after which rows are still taken or rejected one by one.
    pub fn counts_rows(self) -> Self {
        let way = Self::row("", "", "");
        Self { one: way.one, all: way.all, all_are_good: false, ..self }
    }
}

pub fn generated_and_indexes() -> Vec<Way> {
    vec![
        Way::row("generated column, square root of a negative number", "2201F",
            "CREATE TABLE t (id bigint, v bigint, w float8 GENERATED ALWAYS AS (sqrt(v)) STORED)"),
        Way::row("generated column, number too large", "22003",
            "CREATE TABLE t (id bigint, v bigint, w bigint GENERATED ALWAYS AS (v * 1000000) STORED)")
            .of(Kind::Int64, "#", "900000000000000#"),
        Way::text("generated column, text too long", "22001", "", "#", "abcd#")
            .on("CREATE TABLE t (id bigint, v text, w varchar(6) GENERATED ALWAYS AS ('x' || v) STORED)"),
        Way::text("generated column, a cast that fails", "22P02", "", "#", "x#")
            .on("CREATE TABLE t (id bigint, v text, w integer GENERATED ALWAYS AS (v::integer) STORED)"),
        Way::row("index over an expression, division by zero", "22012",
            "CREATE TABLE t (id bigint, v bigint); CREATE INDEX ON t ((1 / v))").of(Kind::Int64, "#", "0"),
        Way::text("index over an expression, a cast that fails", "22P02", "", "{\"a\": #}", "{\"a\": \"x#\"}")
            .on("CREATE TABLE t (id bigint, v jsonb); CREATE INDEX ON t (((v ->> 'a')::integer))"),
        Way::row("index over a function which raises", "P0001",
            "CREATE FUNCTION f(v bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS \
                $$ BEGIN IF v < 0 THEN RAISE 'negative'; END IF; RETURN v; END $$; \
             CREATE TABLE t (id bigint, v bigint); CREATE INDEX ON t (f(v))"),
        Way::text("value too large for a btree index", "54000", "", "#", "~")
            .on("CREATE TABLE t (id bigint, v text); CREATE INDEX ON t (v)"),
        Way::text("row too large for a page", "54000", "", "#", "~~")
            .on("CREATE TABLE t (id bigint, v text); ALTER TABLE t ALTER v SET STORAGE PLAIN"),
        Way::row("function that calls itself without end", "54001",
            "CREATE FUNCTION f(v bigint) RETURNS boolean LANGUAGE plpgsql AS \
                $$ BEGIN IF v < 0 THEN RETURN f(v); END IF; RETURN true; END $$; \
             CREATE TABLE t (id bigint, v bigint CHECK (f(v))); ALTER ROLE {role} SET max_stack_depth = '300kB'"),
        Way::cause("default that fails for every row", "22012", "SL-P007",
            ("ALTER TABLE t ALTER w SET DEFAULT 1 / 0", "ALTER TABLE t ALTER w DROP DEFAULT"))
            .on("CREATE TABLE t (id bigint, v bigint CHECK (v >= 0), w bigint)"),
    ]
}

const PARTITIONED: &str = "CREATE TABLE t (id bigint, v bigint) PARTITION BY RANGE (v); ";
const POSITIVE: &str = "CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (10000)";

pub fn partitions() -> Vec<Way> {
    let of_default = "CREATE TABLE t_rest PARTITION OF t DEFAULT";
    let default = |columns: &str, more: &str| {
        format!(
            "{PARTITIONED}CREATE TABLE t_rest PARTITION OF t {columns} DEFAULT; {POSITIVE}; {more}"
        )
    };
    vec![
        Way::row("no partition for the row (range)", "23514", format!("{PARTITIONED}{POSITIVE}"))
            .blocks("SL-P021").mended_by(of_default),
        Way::text("no partition for the row (list)", "23514", "", "a", "b")
            .on("CREATE TABLE t (id bigint, v text) PARTITION BY LIST (v); CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a')")
            .blocks("SL-P021").mended_by("CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b')"),
        Way::row("no partition for the row below a partition", "23514",
            format!("{PARTITIONED}CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (-10000) TO (10000) \
                PARTITION BY RANGE (v); CREATE TABLE t_1 PARTITION OF t_0 FOR VALUES FROM (0) TO (10000)"))
            .blocks("SL-P021").mended_by("CREATE TABLE t_2 PARTITION OF t_0 DEFAULT"),
        Way::row("no partition for the row, mode upsert", "23514",
            "CREATE TABLE t (id bigint, v bigint, PRIMARY KEY (id, v)) PARTITION BY RANGE (v); \
             CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (0) TO (10000)")
            .by(Mode::Upsert).blocks("SL-P021").mended_by(of_default),
        Way::cause("the partition is detached", "23514", "SL-P021",
            ("ALTER TABLE t DETACH PARTITION t_0",
             "ALTER TABLE t ATTACH PARTITION t_0 FOR VALUES FROM (-10000) TO (10000)"))
            .on("CREATE TABLE t (id bigint, v bigint CHECK (v >= 0)) PARTITION BY RANGE (v); \
                 CREATE TABLE t_0 PARTITION OF t FOR VALUES FROM (-10000) TO (10000)"),
        Way::row("written to a partition that the row does not belong to", "23514",
            "CREATE TABLE whole (id bigint, v bigint) PARTITION BY RANGE (v); \
             CREATE TABLE t PARTITION OF whole FOR VALUES FROM (0) TO (10000)")
            .blocks("SL-P021").mended_by("ALTER TABLE whole DETACH PARTITION t"),
        Way::row("check of one partition", "23514", default("(CHECK (v > -1))", "")),
        Way::row("NOT NULL of one partition", "23502",
            default("(v NOT NULL)", "")).of(Kind::Int64, "#", "NULL"),
        Way::row("unique index of one partition", "23505",
            default("", "CREATE UNIQUE INDEX ON t_rest ((v < 0)); INSERT INTO t VALUES (0, -1)")),
        Way::row("foreign key of one partition", "23503",
            format!("{PARENTS}{}", default("", "ALTER TABLE t_rest ADD FOREIGN KEY (v) REFERENCES p"))),
        Way::row("trigger of one partition", "P0001", default("",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not here'; END $$; \
             CREATE TRIGGER g BEFORE INSERT ON t_rest FOR EACH ROW EXECUTE FUNCTION f()")),
        Way::row("partition by an expression that divides by zero", "22012",
            "CREATE TABLE t (id bigint, v bigint) PARTITION BY RANGE ((1 / v)); CREATE TABLE t_0 PARTITION OF t DEFAULT")
            .of(Kind::Int64, "#", "0"),
    ]
}
