//! Values that a type does not take: those that Sluice finds by itself, and those that only Postgres knows.

use super::way::Way;
use crate::columns::Kind;

/// Each costs its message, however many there are: nothing is sent to Postgres.
pub fn found_by_sluice() -> Vec<Way> {
    let int = |good, bad| (Kind::Int64, good, bad);
    let text = |good, bad| (Kind::Text, good, bad);
    vec![
        Way::checked("smallint, too large", "out-of-range", "smallint", int("#", "70#")),
        Way::checked("integer, too large", "out-of-range", "integer", int("#", "700000#")),
        Way::checked("real, too large", "out-of-range", "real", (Kind::Float64, "#.5", "1e300")),
        Way::checked(
            "numeric(6,2), too large",
            "out-of-range",
            "numeric(6,2)",
            (Kind::Float64, "#.25", "1e9"),
        ),
        Way::checked(
            "numeric(6,2) from text, too large",
            "out-of-range",
            "numeric(6,2)",
            text("#.25", "#000.00"),
        ),
        Way::checked("numeric from text, no number", "bad-number", "numeric", text("#", "x#")),
        Way::checked(
            "timestamptz, before the year 4713 BC",
            "out-of-range",
            "timestamptz",
            (Kind::Timestamp, "179531664500#", "-9223372036854770000"),
        ),
        Way::checked("date from text, no date", "bad-date", "date", text("2026-11-22", "22/11/26")),
        Way::checked("time from text, no time", "bad-time", "time", text("12:00:01", "noon")),
        Way::checked(
            "uuid from text, no UUID",
            "bad-uuid",
            "uuid",
            text("00000000-0000-0000-0000-00000000#", "#"),
        ),
    ]
}

/// Likewise for text and JSON.
pub fn texts_found_by_sluice() -> Vec<Way> {
    let deep = format!("{}1{}", "[".repeat(6000), "]".repeat(6000));
    let text = |good, bad| (Kind::Text, good, bad);
    let json = |good, bad| (Kind::Json, good, bad);
    vec![
        Way::checked("text with the character U+0000", "nul-character", "text", text("#", "#\0")),
        Way::checked("varchar(6), too long", "too-long", "varchar(6)", text("ab#", "abcdef#")),
        Way::checked("char(6), too long", "too-long", "char(6)", text("ab#", "abcdef#")),
        Way::checked(
            "enum without that label",
            "unknown-enum-value",
            "text",
            text("open", "open#"),
        )
        .on("CREATE TYPE state AS ENUM ('open', 'shut'); CREATE TABLE t (id bigint, v state)"),
        Way::checked("json from text, no JSON", "bad-json", "json", text("{\"a\":#}", "{\"a\":#")),
        Way::checked(
            "json, nested 6,000 levels deep",
            "too-deep",
            "json",
            json("[#]", deep.as_str()),
        ),
        Way::checked(
            "jsonb with the escape \\u0000",
            "nul-character",
            "jsonb",
            json("\"#\"", "\"#\\u0000\""),
        ),
        Way::checked(
            "jsonb with half of a character as an escape",
            "lone-surrogate",
            "jsonb",
            json("\"#\"", "\"#\\ud83d\""),
        ),
        Way::checked(
            "no value for a NOT NULL column",
            "no-value",
            "bigint NOT NULL",
            (Kind::Int64, "#", "#"),
        )
        .missing(),
    ]
}

impl Way {
    /// Bad rows lack a value that the plugin promised to give.
    fn missing(self) -> Self {
        Self { bad: "NULL".to_owned(), ..self }
    }
}

/// Texts that Postgres casts to the column's type.
pub fn built_in() -> Vec<Way> {
    let pair = "CREATE TYPE pair AS (a int, b int); CREATE TABLE t (id bigint, v pair)";
    vec![
        Way::text("integer from text, no number", "22P02", "integer", "#", "#x"),
        Way::text("integer from text, too large", "22003", "integer", "#", "99999999#"),
        Way::text("boolean from text", "22P02", "boolean", "true", "maybe"),
        Way::text("double precision from text, too large", "22003", "float8", "#.5", "1e#"),
        Way::text("money", "22P02", "money", "#.25", "a lot"),
        Way::text("interval, not understood", "22007", "interval", "# seconds", "soon"),
        Way::text("interval, too long", "22015", "interval", "# seconds", "9999999# years"),
        Way::text(
            "timestamptz from text",
            "22007",
            "timestamptz",
            "2026-11-22 03:04:05+00",
            "now-ish",
        ),
        Way::text(
            "timestamptz from text, no such month",
            "22008",
            "timestamptz",
            "2026-11-22 03:04:05+00",
            "2026-13-45",
        ),
        Way::text(
            "timestamptz from text, too late",
            "22008",
            "timestamptz",
            "2026-11-22 03:04:05+00",
            "294277-01-01",
        ),
        Way::text(
            "bytea from text, bad hexadecimal digits",
            "22023 or 22P02",
            "bytea",
            "\\x#",
            "\\xzz",
        ),
        Way::text("bit(8), of another length", "22026", "bit(8)", "10101010", "1010"),
        Way::text("bit varying(4), too long", "22001", "varbit(4)", "1010", "101010"),
        Way::text("inet", "22P02", "inet", "fe80::#", "10.0.0.300"),
        Way::text("cidr with bits behind its mask", "22P02", "cidr", "fe80::#/128", "10.0.0.1/8"),
        Way::text("macaddr", "22P02", "macaddr", "08:00:2b:01:02:03", "08:00:2b"),
        Way::text("point", "22P02", "point", "(1,#)", "(1,"),
        Way::text("circle of negative radius", "22P02", "circle", "<(0,0),#>", "<(0,0),-#>"),
        Way::text("pg_lsn", "22P02", "pg_lsn", "0/#", "#"),
        Way::text("range, not understood", "22P02", "int4range", "[1,#)", "[1,"),
        Way::text("range, bounds the wrong way round", "22000", "int4range", "[1,#)", "[#,1)"),
        Way::text("range of times, no time", "22007", "tstzrange", "[2026-11-22,)", "[x,)"),
        Way::text("multirange", "22P02", "int4multirange", "{[1,#)}", "{[1,2}"),
        Way::text("array of text", "22P02", "text[]", "{a,#}", "{a"),
        Way::text("array of integers", "22P02", "integer[]", "{1,#}", "{1,x}"),
        Way::text("composite type", "22P02", "", "(1,#)", "(1,x)").on(pair),
    ]
}

/// Texts that are names or have a grammar of their own: Postgres does not call them wrong values.
pub fn with_a_grammar() -> Vec<Way> {
    vec![
        Way::text("tsvector", "42601", "tsvector", "it#", "'it"),
        Way::text("tsquery", "42601", "tsquery", "it#", "it &"),
        Way::text("jsonpath", "42601", "jsonpath", "$.a", "$."),
        Way::text("regclass, no such table", "42P01", "regclass", "pg_class", "no_such_#"),
        Way::text("regtype, no such type", "42704", "regtype", "integer", "no_such_#"),
        Way::text("regrole, no such role", "42704", "regrole", "postgres", "no_such_#"),
        Way::text("regproc, no such function", "42883", "regproc", "pg_backend_pid", "no_such_#"),
        Way::text("xml, not well-formed", "2200N", "xml", "<a>#</a>", "<a>#")
            .needs("SELECT '<a/>'::xml"),
        Way {
            encoding: "LATIN1",
            ..Way::text(
                "text that a LATIN1 database cannot store",
                "22P05",
                "text",
                "café #",
                "# €",
            )
        },
    ]
}

/// Types of extensions that come with Postgres.
pub fn extensions() -> Vec<Way> {
    vec![
        Way::text("hstore", "XX000 or 42601", "hstore", "a=>#", "a=>")
            .needs("CREATE EXTENSION hstore"),
        Way::text("ltree", "42601", "ltree", "site.a#", "site..a#").needs("CREATE EXTENSION ltree"),
        Way::text("cube", "22P02 or 42601", "cube", "(1,#)", "(1,").needs("CREATE EXTENSION cube"),
        Way::text("seg", "42601", "seg", "1 .. #", "x").needs("CREATE EXTENSION seg"),
        Way::text("isbn13 with a wrong check digit", "22P02", "isbn13", "978-3-16-148410-0", "978-3-16-148410-1")
            .needs("CREATE EXTENSION isn"),
        Way::text("exclusion constraint of btree_gist", "23P01", "", "x#", "taken")
            .on("CREATE TABLE t (id bigint, v text, EXCLUDE USING gist (v WITH =)); INSERT INTO t VALUES (0, 'taken')")
            .needs("CREATE EXTENSION btree_gist"),
        Way::text("unique citext that differs in case", "23505", "", "x#", "TAKEN")
            .on("CREATE TABLE t (id bigint, v citext UNIQUE); INSERT INTO t VALUES (0, 'taken')")
            .needs("CREATE EXTENSION citext"),
    ]
}
