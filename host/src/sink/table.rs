//! The tables that rows go to, as they really are: read from Postgres' catalog.

use tokio_postgres::{Client, Row};

pub use super::plan::{Plan, fit, plan};
use super::postgres::connection::fault;
use super::postgres::defaults::relation;
use super::types::Type;
use crate::fault::Fault;
pub use crate::settings::TableName;

/// A table of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Schema and name, quoted for SQL.
    pub name: String,
    /// Why rows written to it would not be safe, each for its own reason: a view, a foreign table, an UNLOGGED partition.
    pub unsafe_for_rows: Vec<String>,
    /// Why rows of it cannot be replaced: tables that are published without a replica identity.
    pub unsafe_for_updates: Vec<String>,
    /// True when policies apply to this role, which COPY does not support.
    pub row_security: bool,
    /// In the order of the table.
    pub columns: Vec<TableColumn>,
    /// Column names of each plain unique index; the primary key comes first.
    pub unique: Vec<Vec<String>>,
    /// True when the first of `unique` is the primary key.
    pub has_primary_key: bool,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct TableColumn {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as SQL, with length or precision.
    pub type_name: String,
    /// The same without them: casting to `varchar(3)` would cut silently, assigning complains.
    pub cast_name: String,
    /// What values are encoded for.
    pub target: Type,
    /// True when NULL is refused.
    pub not_null: bool,
    /// True when it fills itself if it is left out (DEFAULT, identity).
    pub has_default: bool,
    /// The expression of its DEFAULT, for a row without a value.
    pub default: Option<String>,
    /// The collation as SQL, where it is not that of the type: it decides which keys are one.
    pub collation: Option<String>,
    /// True when it cannot be given (GENERATED ALWAYS).
    pub generated: bool,
}

impl Table {
    /// Reads the table called `name` as the settings write it; `None` when there is none.
    pub async fn read(client: &Client, name: &str) -> Result<Option<Self>, Fault> {
        let doing = format!("read the columns of table {name:?}");
        let translate = |error: tokio_postgres::Error| fault(&doing, &error);
        let quoted = quote_path(name);
        let query = format!("{TABLE}{}", relation("$1::text"));
        let Some(table) = client.query_opt(&query, &[&quoted]).await.map_err(translate)? else {
            return Ok(None);
        };
        let oid: u32 = table.get("oid");
        let unsafe_for_updates = client.query(PUBLISHED, &[&oid]).await.map_err(translate)?;
        let columns = client.query(COLUMNS, &[&oid]).await.map_err(translate)?;
        let indexes = client.query(UNIQUE, &[&oid]).await.map_err(translate)?;
        Ok(Some(Self {
            name: table.get("name"),
            unsafe_for_rows: table.get("unsafe_for_rows"),
            unsafe_for_updates: unsafe_for_updates.iter().map(|row| row.get("what")).collect(),
            row_security: table.get("row_security"),
            columns: columns.iter().map(TableColumn::from_row).collect(),
            unique: indexes.iter().map(|row| row.get("columns")).collect(),
            has_primary_key: indexes.first().is_some_and(|row| row.get("is_primary")),
        }))
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl TableColumn {
    fn from_row(row: &Row) -> Self {
        let target = Type::new(
            row.get::<_, Option<&str>>("base_name").unwrap_or_default(),
            row.get("base_typmod"),
            row.get::<_, Vec<String>>("labels"),
        );
        Self {
            name: row.get("name"),
            type_name: row.get("type_name"),
            cast_name: row.get("cast_name"),
            target,
            not_null: row.get("not_null"),
            has_default: row.get("has_default"),
            default: row.get("default_expression"),
            collation: row.get("collation"),
            generated: row.get("generated"),
        }
    }
}

/// `name` or `schema.name` as it stands in the settings, quoted for SQL.
pub fn quote_path(name: &str) -> String {
    TableName::read(name).to_string()
}

/// An identifier, quoted for SQL.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A crash of the server empties what is UNLOGGED while the positions stay, a foreign table is committed before ours,
/// and a rule may drop rows: each loses or doubles them silently.
const TABLE: &str = "\
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname::text, c.relname::text) AS name,
    pg_catalog.row_security_active(c.oid) AS row_security,
    ARRAY(
        SELECT CASE WHEN p.oid <> c.oid THEN 'partition ' || p.oid::regclass::text || ' ' ELSE 'it ' END || CASE
            WHEN p.relkind = 'f' THEN 'is a foreign table, whose rows are not committed together with the positions'
            WHEN p.relkind NOT IN ('r', 'p') THEN 'is not a table'
            WHEN p.relpersistence = 'u' THEN 'is UNLOGGED: a crash of the server empties it, and the rows are not read again'
            ELSE 'has a rule ON INSERT, which may do anything else instead' END
        FROM pg_catalog.pg_class AS p
        WHERE (p.oid = c.oid OR p.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(c.oid) AS t))
            AND (p.relkind NOT IN ('r', 'p') OR p.relpersistence = 'u' OR p.relhasrules AND EXISTS (
                SELECT FROM pg_catalog.pg_rewrite AS w WHERE w.ev_class = p.oid AND w.ev_type = '3'))
        ORDER BY p.oid
    ) AS unsafe_for_rows
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ";

/// Postgres refuses to update what a publication cannot identify, as soon as there is a row to update.
const PUBLISHED: &str = "\
SELECT DISTINCT pg_catalog.format('%s is in publication %I without a replica identity, so its rows cannot be replaced',
    l.oid::regclass::text, p.pubname::text) AS what
FROM pg_catalog.pg_class AS l
JOIN pg_catalog.pg_namespace AS n ON n.oid = l.relnamespace
JOIN pg_catalog.pg_publication_tables AS t ON t.schemaname = n.nspname
    AND (t.tablename = l.relname OR t.tablename = (
        SELECT r.relname FROM pg_catalog.pg_class AS r WHERE r.oid = pg_catalog.pg_partition_root(l.oid)))
JOIN pg_catalog.pg_publication AS p ON p.pubname = t.pubname AND (p.pubupdate OR p.pubdelete)
WHERE l.relkind = 'r' AND (l.oid = $1 OR l.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1)))
    AND CASE l.relreplident WHEN 'f' THEN false WHEN 'n' THEN true
        WHEN 'd' THEN NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = l.oid AND i.indisprimary)
        ELSE NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = l.oid AND i.indisreplident) END
ORDER BY 1";

/// A domain is encoded as the type it is made of; `base_name` is NULL for types that are not built in.
const COLUMNS: &str = "\
WITH RECURSIVE base (attnum, type, typmod) AS (
    SELECT attnum, atttypid, atttypmod FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT base.attnum, t.typbasetype, t.typtypmod FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT a.attname::text AS name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type_name,
    pg_catalog.format_type(a.atttypid, -1) AS cast_name,
    CASE WHEN t.typtype = 'e' THEN 'enum' WHEN t.typnamespace = 'pg_catalog'::regnamespace::oid THEN t.typname::text END
        AS base_name,
    base.typmod AS base_typmod,
    ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels,
    a.attnotnull OR given.typnotnull AS not_null,
    a.atthasdef OR a.attidentity <> '' OR given.typdefault IS NOT NULL AS has_default,
    CASE WHEN a.attgenerated = '' THEN
        coalesce((SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d WHERE d.adrelid = $1 AND d.adnum = a.attnum),
            CASE WHEN a.attidentity = '' THEN pg_catalog.pg_get_expr(given.typdefaultbin, 0) END) END AS default_expression,
    (SELECT pg_catalog.format('%I.%I', n.nspname::text, l.collname::text) FROM pg_collation AS l
        JOIN pg_namespace AS n ON n.oid = l.collnamespace
        WHERE l.oid = a.attcollation AND l.oid <> given.typcollation) AS collation,
    a.attgenerated <> '' OR a.attidentity = 'a' AS generated
FROM base
JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = base.attnum
JOIN pg_type given ON given.oid = a.atttypid
ORDER BY a.attnum";

/// Those that ON CONFLICT can name by columns: no expressions, no predicate, not deferrable.
const UNIQUE: &str = "\
SELECT i.indisprimary AS is_primary,
    ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, position)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.position) AS columns
FROM pg_index i
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate
    AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid";
