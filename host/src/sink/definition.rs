//! Watches how tables are defined: what a plan relies on is compared in the very transaction that writes, behind the
//! COPY whose lock keeps ALTER TABLE out and before COMMIT.
//!
//! COPY BINARY carries no types: eight bytes made for `bigint` are stored in a column that has become `double
//! precision` without a complaint. Postgres resolves the table of a prepared COPY by name at each execution, so it does
//! not complain of another table of that name either.

use tokio_postgres::{Client, Row};

use super::postgres::connection::fault;
use super::postgres::defaults::relation;
use crate::fault::Fault;

/// What a plan relies on of the tables it writes to. Compared by hashes, which stand in the
/// statement that moves the positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definitions {
    tables: Vec<Table>,
    /// Enums and domains of the columns: labels and NOT NULL of a type change without its tables.
    types: Vec<u32>,
    /// Partitioned tables: what is attached to them may be a table that keeps no promise.
    parents: Vec<u32>,
    /// Hash over `types` and `parents`.
    around: i64,
    /// True when the database stores only a part of Unicode.
    narrow_encoding: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    oid: u32,
    /// With its schema, quoted for SQL.
    name: String,
    /// Of the table itself and its columns.
    hash: i64,
}

/// What the row `c` of `pg_class` and its columns are. Names and numbers only, no look-up for each column.
const TABLE: &str = "pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', c.oid, c.relkind, c.relpersistence, c.relhasrules, \
    pg_catalog.row_security_active(c.oid), \
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid, a.atttypmod, a.attnotnull, \
            a.attcollation, a.attgenerated, a.attidentity), ',' ORDER BY a.attnum) \
        FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
    (SELECT pg_catalog.string_agg(d.oid::text, ',' ORDER BY d.adnum) \
        FROM pg_catalog.pg_attrdef AS d WHERE d.adrelid = c.oid)), 0)";

/// What stands around the tables, from the types `{types}` and the partitioned tables `{parents}`.
const AROUND: &str = "pg_catalog.hashtextextended(pg_catalog.concat_ws(' ', \
    (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', t.oid, t.typnotnull, t.typdefault IS NULL), ',' ORDER BY t.oid) \
        FROM pg_catalog.pg_type AS t WHERE t.oid = ANY ({types})), \
    (SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumtypid, e.enumsortorder) \
        FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = ANY ({types})), \
    (SELECT pg_catalog.string_agg(i.inhrelid::text, ',' ORDER BY i.inhrelid) \
        FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = ANY ({parents}))), 0)";

/// Columns may be of a domain over a domain over an enum.
const SURROUNDINGS: &str = "\
WITH RECURSIVE types (oid, base) AS (
    SELECT t.oid, t.typbasetype FROM pg_catalog.pg_attribute AS a
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype IN ('d', 'e')
    UNION
    SELECT t.oid, t.typbasetype FROM types JOIN pg_catalog.pg_type AS t ON t.oid = types.base
)
SELECT ARRAY(SELECT oid FROM types ORDER BY oid) AS types,
    ARRAY(SELECT p.relid::oid FROM pg_catalog.unnest($1::oid[]) AS o (oid)
        CROSS JOIN LATERAL pg_catalog.pg_partition_tree(o.oid) AS p WHERE NOT p.isleaf ORDER BY 1) AS parents";

impl Definitions {
    /// Reads how the tables called `names` (quoted for SQL, with or without schema) are defined now. Tables that are
    /// not there are left out.
    pub async fn read(client: &Client, names: &[String]) -> Result<Self, Fault> {
        let translate =
            |error: tokio_postgres::Error| fault("read the definitions of the tables", &error);
        let query = format!(
            "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname::text, c.relname::text) AS name, {TABLE} AS hash \
             FROM pg_catalog.unnest($1::text[]) AS w (name) \
             JOIN pg_catalog.pg_class AS c ON c.oid = {} \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace",
            relation("w.name")
        );
        let rows = client.query(&query, &[&names]).await.map_err(translate)?;
        let table =
            |row: &Row| Table { oid: row.get("oid"), name: row.get("name"), hash: row.get("hash") };
        let tables: Vec<Table> = rows.iter().map(table).collect();
        let oids: Vec<u32> = tables.iter().map(|table| table.oid).collect();
        let around = client.query_one(SURROUNDINGS, &[&oids]).await.map_err(translate)?;
        let (types, parents): (Vec<u32>, Vec<u32>) = (around.get("types"), around.get("parents"));
        let query = format!(
            "SELECT {} AS around, pg_catalog.current_setting('server_encoding') NOT IN ('UTF8', 'SQL_ASCII') AS narrow",
            AROUND.replace("{types}", "$1::oid[]").replace("{parents}", "$2::oid[]")
        );
        let row = client.query_one(&query, &[&types, &parents]).await.map_err(translate)?;
        Ok(Self {
            tables,
            types,
            parents,
            around: row.get("around"),
            narrow_encoding: row.get("narrow"),
        })
    }

    /// Expressions that fail with SQLSTATE SL002 unless everything is as it was.
    ///
    /// Without parameters, so that Postgres keeps the plan of the statement and with it what it found out about the
    /// tables: see `sluice.expect_defined`, which costs a batch nothing as long as nothing is altered. Types and
    /// what is attached to a table can change while the plan stays valid: they are compared each time.
    pub(super) fn expectation(&self) -> String {
        let of_table = |table: &Table| {
            let Table { oid, name, hash } = table;
            let question = format!(
                "SELECT {TABLE} FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass({})",
                literal(name)
            );
            format!(
                "sluice.expect_defined('{oid}'::regclass, {}, {hash}::bigint)",
                literal(&question)
            )
        };
        let mut expectations: Vec<String> = self.tables.iter().map(of_table).collect();
        if !self.types.is_empty() || !self.parents.is_empty() {
            let surroundings = AROUND
                .replace("{types}", &oids(&self.types))
                .replace("{parents}", &oids(&self.parents));
            let unchanged = format!("{surroundings} = {}::bigint", self.around);
            expectations.push(format!("sluice.expect_unchanged({unchanged})"));
        }
        if expectations.is_empty() {
            expectations.push("true".to_owned());
        }
        expectations.join(", ")
    }

    /// True when text that Sluice writes into its own tables has to be ASCII to be sure to be stored.
    pub(super) fn has_narrow_encoding(&self) -> bool {
        self.narrow_encoding
    }

    /// Fails unless the tables are defined as they were.
    ///
    /// # Errors
    /// [`sqlstate::CHANGED`](crate::fault::sqlstate::CHANGED) when one is not.
    pub(super) async fn expect(&self, client: &Client) -> Result<(), Fault> {
        let expected = client.execute(&format!("SELECT {}", self.expectation()), &[]).await;
        expected.map(drop).map_err(|error| fault("compare the definitions of the tables", &error))
    }
}

fn oids(oids: &[u32]) -> String {
    let oids: Vec<String> = oids.iter().map(ToString::to_string).collect();
    format!("'{{{}}}'::oid[]", oids.join(","))
}

/// A text as SQL, whatever the server takes a backslash for.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
