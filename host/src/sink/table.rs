//! The tables that rows go to, as they really are: read from Postgres' catalog.

use tokio_postgres::{Client, Row};

pub use super::plan::{Plan, plan};
use super::postgres::connection::fault;
use super::types::Type;
use crate::fault::Fault;

/// A table of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Schema and name, quoted for SQL.
    pub name: String,
    /// False for what rows cannot be copied into, such as a view.
    pub writable: bool,
    /// In the order of the table.
    pub columns: Vec<TableColumn>,
    /// Column names of each plain unique index; the primary key comes first.
    pub unique: Vec<Vec<String>>,
    /// True when the first of `unique` is the primary key.
    pub has_primary_key: bool,
    /// What this role may do with it.
    pub rights: Rights,
}

/// What a role may do with a table, or with some of its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rights {
    pub insert: bool,
    pub select: bool,
    pub update: bool,
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
    /// True when it cannot be given (GENERATED ALWAYS).
    pub generated: bool,
}

impl Table {
    /// Reads the table called `name`, or `schema.name`; `None` when there is none.
    pub async fn read(client: &Client, name: &str) -> Result<Option<Self>, Fault> {
        let doing = format!("read the columns of table {name:?}");
        let translate = |error: tokio_postgres::Error| fault(&doing, &error);
        let quoted = name.split('.').map(quote).collect::<Vec<_>>().join(".");
        let Some(table) = client.query_opt(TABLE, &[&quoted]).await.map_err(translate)? else {
            return Ok(None);
        };
        let oid: u32 = table.get("oid");
        let columns = client.query(COLUMNS, &[&oid]).await.map_err(translate)?;
        let indexes = client.query(UNIQUE, &[&oid]).await.map_err(translate)?;
        Ok(Some(Self {
            name: table.get("name"),
            writable: table.get("writable"),
            columns: columns.iter().map(TableColumn::from_row).collect(),
            unique: indexes.iter().map(|row| row.get("columns")).collect(),
            has_primary_key: indexes.first().is_some_and(|row| row.get("is_primary")),
            rights: Rights {
                insert: table.get("may_insert"),
                select: table.get("may_select"),
                update: table.get("may_update"),
            },
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
            generated: row.get("generated"),
        }
    }
}

/// An identifier, quoted for SQL.
pub fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

const TABLE: &str = "\
SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind IN ('r', 'p', 'f') AS writable,
    has_any_column_privilege(c.oid, 'INSERT') AS may_insert, has_any_column_privilege(c.oid, 'SELECT') AS may_select,
    has_any_column_privilege(c.oid, 'UPDATE') AS may_update
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass($1::text)";

/// A domain is encoded as the type it is made of; `base_name` is NULL for types that are not built in.
const COLUMNS: &str = "\
WITH RECURSIVE base (attnum, type, typmod) AS (
    SELECT attnum, atttypid, atttypmod FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT base.attnum, t.typbasetype, t.typtypmod FROM base JOIN pg_type t ON t.oid = base.type WHERE t.typtype = 'd'
)
SELECT a.attname::text AS name,
    format_type(a.atttypid, a.atttypmod) AS type_name,
    format_type(a.atttypid, -1) AS cast_name,
    CASE WHEN t.typtype = 'e' THEN 'enum' WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text END
        AS base_name,
    base.typmod AS base_typmod,
    ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder) AS labels,
    a.attnotnull OR given.typnotnull AS not_null,
    a.atthasdef OR a.attidentity <> '' OR given.typdefault IS NOT NULL AS has_default,
    a.attgenerated <> '' OR a.attidentity = 'a' AS generated
FROM base
JOIN pg_type t ON t.oid = base.type AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = base.attnum
JOIN pg_type given ON given.oid = a.atttypid
ORDER BY a.attnum";

/// Those that ON CONFLICT can name by columns: no expressions, no predicate, not deferrable.
const UNIQUE: &str = "\
SELECT i.indisprimary AS is_primary,
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, position)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.position) AS columns
FROM pg_index i
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate
    AND i.indpred IS NULL AND i.indexprs IS NULL
ORDER BY i.indisprimary DESC, i.indexrelid";
