//! Which privileges the role that writes needs, and which of them Postgres does not grant it. README.md shows the same as
//! GRANT statements; a scenario takes them from there and away one by one.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::plan::{Plan, TablePlan};
use super::postgres::connection::fault;
use super::table::{TableName, quote};
use crate::fault::{Fault, sqlstate};
use crate::settings::{Mode, TableSettings};

/// Tables of schema `sluice` with what the statements of hosts and commands do to them. Those that name a topic's id
/// are updated when brokers begin to give one.
const OURS: [(&str, &[&str]); 12] = [
    ("migrations", &["SELECT"]),
    ("gaps", &["INSERT"]),
    ("positions", &["SELECT", "INSERT", "UPDATE"]),
    ("relays", &["SELECT", "INSERT", "UPDATE"]),
    ("retried", &["SELECT", "INSERT", "UPDATE"]),
    ("replayed_dead_letters", &["SELECT", "INSERT", "UPDATE"]),
    ("discarded_dead_letters", &["SELECT", "INSERT", "UPDATE"]),
    ("dead_letters", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("blocks", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("hosts", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("lineage", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("parked", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
];

/// Functions that are called. A trigger's function needs no privilege when it fires.
const FUNCTIONS: [&str; 5] =
    ["advance", "expect_defined", "expect_unchanged", "join_hosts", "lives"];

/// Privileges that the role lacks, as GRANT names them: `INSERT on public.readings`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Without these nothing, or not everything, is written.
    pub needed: Vec<String>,
    /// Without these the pipeline is blocked as soon as a row deletes; no plugin says beforehand whether one will.
    pub for_deletes: Vec<String>,
}

impl Missing {
    /// `SL-P008` when one is needed.
    ///
    /// # Errors
    /// That they are missing.
    pub fn none_or_fault(&self) -> Result<(), Fault> {
        if self.needed.is_empty() {
            return Ok(());
        }
        let message = format!("privileges are missing: {}", self.needed.join(", "));
        Err(Fault::block(sqlstate::PRIVILEGES, message))
    }

    /// Adds what is missing in `more`.
    pub fn add(&mut self, more: Self) {
        let new = more.needed.into_iter().filter(|it| !self.needed.contains(it));
        let new: Vec<String> = new.collect();
        self.needed.extend(new);
        self.for_deletes.extend(more.for_deletes);
    }
}

/// As much as is known of the tables that rows go to.
#[derive(Debug, Clone, Copy)]
pub enum Tables<'a> {
    /// How they are written.
    Planned(&'a Plan),
    /// Their names alone, because they are in schemas in which the role may not look.
    Hidden(&'a BTreeMap<String, TableSettings>),
    /// Nothing: there is no plugin, or it does not fit them.
    Unknown,
}

/// One privilege on one thing; or on one column of it.
#[derive(Debug)]
struct Need {
    kind: &'static str,
    on: String,
    column: String,
    privilege: &'static str,
}

impl Need {
    fn new(kind: &'static str, on: &str, privilege: &'static str) -> Self {
        Self { kind, on: on.to_owned(), column: String::new(), privilege }
    }

    fn column(self, column: &str) -> Self {
        Self { column: column.to_owned(), ..self }
    }

    fn is_alike(&self, other: &Self) -> bool {
        (self.kind, &self.on, self.privilege) == (other.kind, &other.on, other.privilege)
    }
}

/// What is missing on the schemas of the tables in the settings: without USAGE the tables cannot be read.
///
/// # Errors
/// When Postgres cannot be asked.
pub async fn on_schemas(
    client: &Client,
    tables: &BTreeMap<String, TableSettings>,
) -> Result<Missing, Fault> {
    let mut needs: Vec<Need> = Vec::new();
    for settings in tables.values() {
        let name = TableName::read(&settings.table);
        let need = match &name.schema {
            Some(schema) => Need::new("schema", schema, "USAGE"),
            None => Need::new("path", "", "USAGE").column(&name.table),
        };
        if !needs.iter().any(|known| known.is_alike(&need) && known.column == need.column) {
            needs.push(need);
        }
    }
    missing(client, &needs).await
}

/// What is missing on the tables of `plan`.
///
/// # Errors
/// When Postgres cannot be asked.
pub(super) async fn on_tables(client: &Client, plan: &Plan) -> Result<Missing, Fault> {
    missing(client, &of_tables(plan)).await
}

/// What is missing in schema `sluice` and on `tables`, asked with one query.
///
/// # Errors
/// When Postgres cannot be asked.
pub async fn on_everything(client: &Client, tables: Tables<'_>) -> Result<Missing, Fault> {
    let mut needs =
        vec![Need::new("creation", "", "CREATE"), Need::new("schema", "sluice", "USAGE")];
    for (table, privileges) in OURS {
        needs.extend(privileges.iter().map(|privilege| Need::new("ours", table, privilege)));
    }
    needs.extend(FUNCTIONS.map(|name| Need::new("function", name, "EXECUTE")));
    match tables {
        Tables::Planned(plan) => needs.extend(of_tables(plan)),
        Tables::Hidden(tables) => needs.extend(of_hidden_tables(tables)),
        Tables::Unknown => {}
    }
    missing(client, &needs).await
}

/// At least these: which columns are written, only a plan tells.
fn of_hidden_tables(tables: &BTreeMap<String, TableSettings>) -> Vec<Need> {
    let mut needs = Vec::new();
    for settings in tables.values() {
        let name = TableName::read(&settings.table);
        let privileges: &[&str] = match settings.mode {
            Mode::Append => &["INSERT"],
            Mode::Ignore => &["INSERT", "SELECT"],
            Mode::Upsert => &["INSERT", "SELECT", "UPDATE"],
        };
        let schema = name.schema.as_deref().unwrap_or_default();
        let need =
            |privilege: &&'static str| Need::new("hidden", schema, privilege).column(&name.table);
        needs.extend(privileges.iter().map(need));
    }
    if tables.values().any(|settings| settings.mode != Mode::Append) {
        needs.push(Need::new("database", "", "TEMPORARY"));
    }
    needs
}

fn of_tables(plan: &Plan) -> Vec<Need> {
    let mut needs: Vec<Need> = plan.tables.iter().flat_map(of_table).collect();
    if plan.tables.iter().any(TablePlan::is_staged) {
        needs.push(Need::new("database", "", "TEMPORARY"));
    }
    needs
}

/// ON CONFLICT reads the columns of the key, and DO UPDATE each column that it sets.
fn of_table(table: &TablePlan) -> Vec<Need> {
    let columns: Vec<&str> = table.fields.iter().map(|field| field.column.as_str()).collect();
    let is_key = |column: &str| table.key.iter().any(|key| key == column);
    let on = |privilege, columns: &mut dyn Iterator<Item = &str>| -> Vec<Need> {
        columns.map(|it| Need::new("column", &table.table, privilege).column(it)).collect()
    };
    let mut needs = on("INSERT", &mut columns.iter().copied());
    match table.mode {
        Mode::Append => {}
        Mode::Ignore => needs.extend(on("SELECT", &mut table.key.iter().map(String::as_str))),
        Mode::Upsert => {
            needs.extend(on("SELECT", &mut columns.iter().copied()));
            needs.extend(on("UPDATE", &mut columns.iter().copied().filter(|it| !is_key(it))));
            needs.push(Need::new("delete", &table.table, "DELETE"));
        }
    }
    let defaults = table.defaults.iter();
    needs.extend(defaults.map(|it| Need::new("default", &table.table, "USAGE").column(it)));
    needs
}

async fn missing(client: &Client, needs: &[Need]) -> Result<Missing, Fault> {
    let texts = |text: fn(&Need) -> &str| needs.iter().map(text).collect::<Vec<&str>>();
    let (kinds, names) = (texts(|need| need.kind), texts(|need| &need.on));
    let (columns, privileges) = (texts(|need| &need.column), texts(|need| need.privilege));
    let rows = client
        .query(ASK, &[&kinds, &names, &columns, &privileges])
        .await
        .map_err(|error| fault("ask which privileges the role has", &error))?;
    let lacks = rows.iter().filter_map(|row| {
        let need = needs.get(usize::try_from(row.get::<_, i64>("rank") - 1).ok()?)?;
        Some((need, row.get::<_, Option<String>>("on_what")?))
    });
    Ok(in_words(needs, &lacks.collect::<Vec<_>>()))
}

/// Columns are named only where others of the table have the privilege.
fn in_words(needs: &[Need], lacks: &[(&Need, String)]) -> Missing {
    let mut missing = Missing::default();
    for (need, on) in lacks {
        let of_columns = need.kind == "column";
        let alike: Vec<&Need> =
            lacks.iter().map(|it| it.0).filter(|it| it.is_alike(need)).collect();
        let needed = needs.iter().filter(|it| it.is_alike(need)).count();
        let columns = if of_columns && alike.len() < needed {
            let columns: Vec<String> = alike.iter().map(|it| quote(&it.column)).collect();
            format!(" ({})", columns.join(", "))
        } else {
            String::new()
        };
        let text = format!("{}{columns} on {on}", need.privilege);
        let list =
            if need.kind == "delete" { &mut missing.for_deletes } else { &mut missing.needed };
        if !list.contains(&text) {
            list.push(text);
        }
    }
    missing
}

/// For each need what it is not granted on; NULL when it is granted, and where there is nothing to grant it on.
///
/// Unnest with several arrays is syntax and has no schema. Catalogs are asked and not `to_regclass` in schema `sluice`, which fails without USAGE. A table without a schema that
/// the role does not find may be in a schema of its path in which it may not look: `current_schemas` leaves these out.
const ASK: &str = "\
WITH path (schema) AS (
    SELECT CASE s.name WHEN '$user' THEN current_user::text ELSE s.name END FROM (
        SELECT pg_catalog.btrim(part, ' \"'::text) AS name FROM pg_catalog.pg_settings AS g
        CROSS JOIN LATERAL pg_catalog.regexp_split_to_table(g.reset_val, ','::text) AS part
        WHERE g.name = 'search_path'::text) AS s
)
SELECT w.rank, CASE w.kind
    WHEN 'database' THEN (SELECT pg_catalog.format('database %I', pg_catalog.current_database()::text)
        WHERE NOT pg_catalog.has_database_privilege(pg_catalog.current_database()::text, w.privilege))
    WHEN 'creation' THEN (SELECT pg_catalog.format('database %I', pg_catalog.current_database()::text)
        WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'sluice'::text)
            AND NOT pg_catalog.has_database_privilege(pg_catalog.current_database()::text, w.privilege))
    WHEN 'schema' THEN (SELECT pg_catalog.format('schema %I', n.nspname::text) FROM pg_catalog.pg_namespace AS n
        WHERE n.nspname = w.name AND NOT pg_catalog.has_schema_privilege(n.oid, w.privilege))
    WHEN 'path' THEN (SELECT pg_catalog.format('schema %I', n.nspname::text)
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = w.col AND NOT pg_catalog.has_schema_privilege(n.oid, w.privilege)
            AND n.nspname::text IN (SELECT schema FROM path)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_class AS f JOIN pg_catalog.pg_namespace AS m ON m.oid = f.relnamespace
                WHERE f.relname = w.col
                    AND m.nspname::text = ANY (pg_catalog.current_setting('sluice.role_schemas')::text[]))
        LIMIT 1)
    WHEN 'hidden' THEN (SELECT pg_catalog.format('%I.%I', n.nspname::text, c.relname::text)
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relname = w.col AND c.relkind IN ('r', 'p')
            AND (n.nspname = w.name OR w.name = ''::text AND n.nspname::text IN (SELECT schema FROM path))
            AND NOT pg_catalog.has_any_column_privilege(c.oid, w.privilege)
        ORDER BY c.oid LIMIT 1)
    WHEN 'ours' THEN (SELECT pg_catalog.format('%I.%I', n.nspname::text, c.relname::text)
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'sluice'::text AND c.relname = w.name
            AND NOT pg_catalog.has_table_privilege(c.oid, w.privilege))
    WHEN 'function' THEN (SELECT 'function sluice.' || w.name WHERE NOT coalesce((
        SELECT pg_catalog.has_function_privilege(p.oid, w.privilege)
        FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE n.nspname = 'sluice'::text AND p.proname = w.name ORDER BY p.pronargs DESC LIMIT 1), true))
    WHEN 'column' THEN (SELECT w.name
        WHERE NOT pg_catalog.has_column_privilege(pg_catalog.to_regclass(w.name)::oid, w.col, w.privilege))
    WHEN 'delete' THEN (SELECT w.name
        WHERE NOT pg_catalog.has_table_privilege(pg_catalog.to_regclass(w.name)::oid, w.privilege))
    WHEN 'default' THEN (SELECT pg_catalog.string_agg(DISTINCT
            pg_catalog.format('sequence %I.%I', n.nspname::text, s.relname::text), ', '::text)
        FROM pg_catalog.pg_attribute AS a
        JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        JOIN pg_catalog.pg_depend AS u ON u.classid = 'pg_catalog.pg_attrdef'::regclass::oid AND u.objid = d.oid
            AND u.refclassid = 'pg_catalog.pg_class'::regclass::oid
        JOIN pg_catalog.pg_class AS s ON s.oid = u.refobjid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = s.relnamespace
        WHERE a.attrelid = pg_catalog.to_regclass(w.name)::oid AND a.attname = w.col AND a.attidentity = ''
            -- Each of them is enough for nextval. It fails for what is no sequence, whatever stands beside it.
            AND CASE WHEN s.relkind = 'S' THEN NOT pg_catalog.has_sequence_privilege(s.oid, 'USAGE, UPDATE'::text) END)
    END AS on_what
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS w (kind, name, col, privilege, rank)
ORDER BY w.rank";
