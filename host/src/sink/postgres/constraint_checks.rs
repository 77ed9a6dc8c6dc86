//! Finds all rows that a constraint refuses with one query, when one of them is known: the columns concerned are copied
//! into a table of the session, and Postgres says which of them do not fit.
//!
//! A row that the query returns becomes a dead letter without being tried, so it is only asked where its answer is the same as the
//! table's: not where a trigger may change rows first, and not where rows of the same batch may make others valid.

use bytes::Bytes;
use tokio_postgres::error::DbError;
use tokio_postgres::types::ToSql;

use super::connection::{Session, fault};
use super::transaction::{Work, feed};
use crate::fault::Fault;
use crate::rows::{Rejection, Stage, one_for_each_message};
use crate::settings::{Mode, RetrySettings};
use crate::sink::Prepared;
use crate::sink::copied::CopiedRows;
use crate::sink::copy;
use crate::sink::plan::{Plan, TablePlan};
use crate::sink::prepared::TableCopy;
use crate::sink::table::quote;
use crate::sink::types::Encoding;

/// A constraint by which a row was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConstraintCheck {
    /// Index of the table in its plan.
    pub table: usize,
    name: String,
    sqlstate: &'static str,
    /// What a row of it does.
    offence: String,
    /// Positions of its columns among the fields of the table.
    fields: Vec<usize>,
    stage: String,
    create: String,
    query: String,
}

const ORDINAL: &str = "sluice_ordinal";

/// One row, unless a trigger may change rows before they are checked, or policies hide some of what is asked about.
/// A foreign key is none of ours when rows of the same batch may be what others refer to: then it comes without
/// `referenced`. Partitions have triggers of their own, and stand for the table that they belong to.
const CONSTRAINT: &str = "WITH RECURSIVE plan (oid) AS (
    SELECT coalesce(pg_catalog.pg_partition_root(pg_catalog.to_regclass(n.name)), pg_catalog.to_regclass(n.name))::oid
    FROM pg_catalog.unnest($3::text[]) AS n (name)
), trees (oid) AS (
    SELECT oid FROM plan UNION SELECT i.inhrelid FROM trees JOIN pg_catalog.pg_inherits AS i ON i.inhparent = trees.oid
)
SELECT k.contype::text AS kind, k.oid::bigint AS oid,
    ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS c (attnum, n)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = c.attnum ORDER BY c.n) AS columns,
    (SELECT pg_catalog.format('%I.%I', n.nspname::text, r.relname::text)
        FROM pg_catalog.pg_class AS r JOIN pg_catalog.pg_namespace AS n ON n.oid = r.relnamespace
        WHERE r.oid = k.confrelid AND r.oid NOT IN (SELECT oid FROM trees) AND NOT pg_catalog.row_security_active(r.oid)
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g
                WHERE g.tgrelid IN (SELECT oid FROM trees) AND NOT g.tgisinternal)
    ) AS referenced,
    ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS c (attnum, n)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = c.attnum ORDER BY c.n) AS referenced_columns,
    ARRAY(SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname::text, o.oprname::text)
        FROM pg_catalog.unnest(k.conpfeqop) WITH ORDINALITY AS c (oid, n)
        JOIN pg_catalog.pg_operator AS o ON o.oid = c.oid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace ORDER BY c.n) AS operators,
    pg_catalog.pg_get_expr(k.conbin, k.conrelid) AS expression, k.confmatchtype::text AS match,
    ARRAY(SELECT oid FROM trees)::text AS trees
FROM pg_catalog.pg_constraint AS k
WHERE k.conname = $1 AND k.conrelid = pg_catalog.to_regclass($2)::oid AND NOT pg_catalog.row_security_active(k.conrelid)
    AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS g
    -- Before (2), for each row (1).
    WHERE g.tgrelid IN (SELECT oid FROM trees) AND NOT g.tgisinternal AND g.tgtype::integer & 3 = 3
)";

impl ConstraintCheck {
    /// The constraint that `error` names, if all rows that it refuses can be found with one query.
    pub async fn learn(
        session: &Session,
        plan: &Plan,
        table: usize,
        error: &DbError,
    ) -> Result<Option<Self>, Fault> {
        let of = &plan.tables[table];
        let Some(name) = error.constraint() else { return Ok(None) };
        let tables: Vec<&str> = plan.table_names().collect();
        let rows = session
            .query(CONSTRAINT, &[&name, &of.table, &tables])
            .await
            .map_err(|error| fault("look up a constraint", &error))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let columns: Vec<String> = row.get("columns");
        let position = |column: &String| of.fields.iter().position(|field| field.column == *column);
        let Some(fields) = columns.iter().map(position).collect::<Option<Vec<usize>>>() else {
            return Ok(None);
        };
        if fields.is_empty() || fields.iter().any(|field| is_cast(of, *field)) {
            return Ok(None);
        }
        let stage = format!("sluice_check_{}", row.get::<_, i64>("oid"));
        let Some((sqlstate, kind, query)) = question(of, &stage, &columns, row) else {
            return Ok(None);
        };
        let query = format!("{query} AND {}", still_there(row, kind));
        let names: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let create = format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS AS \
             SELECT {}, 0::integer AS {ORDINAL} FROM {} WITH NO DATA",
            names.join(", "),
            of.table
        );
        let offence = format!(
            "{}: row violates {kind} constraint {name:?} ({sqlstate}); columns: {}",
            of.table,
            columns.join(", ")
        );
        let name = name.to_owned();
        Ok(Some(Self { table, name, sqlstate, offence, fields, stage, create, query }))
    }

    /// The columns concerned of the rows from `first` on, with their numbers.
    fn copy_of(&self, rows: &CopiedRows<'_>, first: usize) -> Vec<u8> {
        let mut out = Vec::new();
        copy::begin(&mut out);
        let mut cells = Vec::new();
        for row in first..rows.len() {
            cells.clear();
            cells.extend(rows.cells(row));
            out.extend_from_slice(&(self.fields.len() as u16 + 1).to_be_bytes());
            for field in &self.fields {
                out.extend_from_slice(cells[*field]);
            }
            copy::four((row as i32).to_be_bytes(), &mut out);
        }
        copy::end(&mut out);
        out
    }
}

/// Staged as text, and of another type in its table.
fn is_cast(table: &TablePlan, field: usize) -> bool {
    matches!(table.fields[field].encoding, Encoding::Cast)
}

/// Rows that delete satisfy nothing themselves, and may make room for others.
pub(super) fn can_be_checked(rows: &TableCopy) -> bool {
    !rows.bytes.is_empty() && !rows.deletes
}

/// Checks of the plan that `prepared` was made for, with the rows that they are asked about.
fn checks_with_rows<'a>(
    prepared: &'a Prepared,
    checks: &'a [ConstraintCheck],
) -> impl Iterator<Item = (&'a ConstraintCheck, &'a TableCopy)> {
    let with_rows = checks.iter().map(|check| (check, &prepared.tables[check.table]));
    with_rows.filter(|(_, rows)| can_be_checked(rows))
}

/// A condition that is false as soon as the constraint is dropped, or a trigger added for which it may not be asked: a
/// query is kept for many batches.
fn still_there(row: &tokio_postgres::Row, kind: &str) -> String {
    let (oid, trees): (i64, &str) = (row.get("oid"), row.get("trees"));
    let any_trigger = kind == "foreign key";
    format!(
        "EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.oid = '{oid}'::oid) AND NOT EXISTS ( \
         SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = ANY ('{trees}'::oid[]) AND NOT g.tgisinternal \
         AND ({any_trigger} OR g.tgtype::integer & 3 = 3))"
    )
}

/// SQLSTATE, kind, and the query for the rows that are refused.
fn question(
    table: &TablePlan,
    stage: &str,
    columns: &[String],
    row: &tokio_postgres::Row,
) -> Option<(&'static str, &'static str, String)> {
    let select = format!("SELECT s.{ORDINAL} FROM {stage} AS s");
    let own = columns.iter().map(|column| format!("s.{}", quote(column))).collect::<Vec<_>>();
    let given = format!("({}) IS NOT NULL", own.join(", "));
    let equal = |others: &[String], operators: &[String]| {
        let pairs = own.iter().zip(others).zip(operators);
        pairs
            .map(|((own, other), operator)| format!("o.{} {operator} {own}", quote(other)))
            .collect::<Vec<_>>()
            .join(" AND ")
    };
    match row.get::<_, &str>("kind") {
        "c" => {
            let expression: String = row.get("expression");
            let query = format!("SELECT {ORDINAL} FROM {stage} WHERE NOT ({expression})");
            Some(("23514", "check", query))
        }
        // Only rows that collide with what is written: of two in one batch, the first may turn out to be refused
        // for another reason, and then the second is fine. In other modes a row may replace the one it equals.
        "u" | "p" if table.mode == Mode::Append => {
            // Columns of types that are not built in are cast, and then nothing is asked.
            let operators = vec!["OPERATOR(pg_catalog.=)".to_owned(); columns.len()];
            let (table, others) = (&table.table, equal(columns, &operators));
            let query = format!("{select} WHERE EXISTS (SELECT FROM {table} AS o WHERE {others})");
            Some(("23505", "unique", query))
        }
        // A row that is skipped needs nothing.
        "f" if row.get::<_, &str>("match") == "s" && table.mode != Mode::Ignore => {
            let referenced: String = row.get::<_, Option<String>>("referenced")?;
            let others: Vec<String> = row.get("referenced_columns");
            let query = format!(
                "{select} WHERE {given} AND NOT EXISTS (SELECT FROM {referenced} AS o WHERE {})",
                equal(&others, &row.get::<_, Vec<String>>("operators"))
            );
            Some(("23503", "foreign key", query))
        }
        _ => None,
    }
}

impl Work {
    /// The messages with rows that any of `checks` refuses, at most one rejection each. Changes nothing.
    pub async fn ask(
        &self,
        prepared: &Prepared,
        checks: &[ConstraintCheck],
    ) -> Result<Vec<Rejection>, Fault> {
        // Outside of the transaction, so that they stay for the next batch.
        self.prepare_checks(prepared, checks).await?;
        self.session().begin().await?;
        let rejections = self.check_all(prepared, checks).await?;
        self.run("ROLLBACK", "roll back").await?;
        Ok(rejections)
    }

    /// The same inside of a transaction that is open, and stays so.
    pub async fn ask_within(
        &self,
        prepared: &Prepared,
        checks: &[ConstraintCheck],
    ) -> Result<Vec<Rejection>, Fault> {
        self.prepare_checks(prepared, checks).await?;
        self.check_all(prepared, checks).await
    }

    async fn prepare_checks(
        &self,
        prepared: &Prepared,
        checks: &[ConstraintCheck],
    ) -> Result<(), Fault> {
        for (check, _) in checks_with_rows(prepared, checks) {
            self.prepare_check(check).await?;
        }
        Ok(())
    }

    /// Makes the table in which a check is asked, unless it is there.
    pub(super) async fn prepare_check(&self, check: &ConstraintCheck) -> Result<(), Fault> {
        self.run(&check.create, "make a table to check rows in").await
    }

    /// Learns of the constraint that `refusal` names, and asks for the messages of `rows`, from row `first` on, that
    /// violate it. `None` where that cannot be asked.
    pub(super) async fn learn_and_ask(
        &self,
        plan: &Plan,
        table: usize,
        refusal: &DbError,
        (rows, first): (&TableCopy, usize),
        rule: &RetrySettings,
    ) -> Result<Option<(ConstraintCheck, Vec<Rejection>)>, Fault> {
        let Some(check) = ConstraintCheck::learn(self.session(), plan, table, refusal).await?
        else {
            return Ok(None);
        };
        self.prepare_check(&check).await?;
        let found = self.check_rows(&check, rows, first, rule).await?;
        Ok(Some((check, found)))
    }

    async fn check_all(
        &self,
        prepared: &Prepared,
        checks: &[ConstraintCheck],
    ) -> Result<Vec<Rejection>, Fault> {
        let mut rejections = Vec::new();
        for (check, rows) in checks_with_rows(prepared, checks) {
            rejections.extend(self.check_rows(check, rows, 0, &prepared.parking.rule).await?);
        }
        Ok(one_for_each_message(rejections))
    }

    /// The messages of `rows`, from row `first` on, that `check` refuses. Inside of a transaction that is rolled
    /// back, in which or ahead of which the check's table was made.
    pub(super) async fn check_rows(
        &self,
        check: &ConstraintCheck,
        rows: &TableCopy,
        first: usize,
        rule: &RetrySettings,
    ) -> Result<Vec<Rejection>, Fault> {
        let copied = CopiedRows::of(&rows.bytes);
        let violating = async {
            let session = self.session();
            let statement = format!("COPY {} FROM STDIN (FORMAT binary)", check.stage);
            let mut sink = Box::pin(session.copy_in(&statement).await?);
            feed(sink.as_mut(), &Bytes::from(check.copy_of(&copied, first))).await;
            sink.as_mut().finish().await?;
            let none: [&(dyn ToSql + Sync); 0] = [];
            let violating = session.query(&check.query, &none).await?;
            session.batch_execute(&format!("DELETE FROM {}", check.stage)).await?;
            Ok::<_, tokio_postgres::Error>(violating)
        };
        let violating = violating.await.map_err(|error| {
            fault(&format!("find the rows that constraint {} refuses", check.name), &error)
        })?;
        let rejection = |row: &tokio_postgres::Row| Rejection {
            message: rows.messages[row.get::<_, i32>(0) as usize],
            stage: Stage::Sink,
            code: check.sqlstate.to_owned(),
            reason: check.offence.clone(),
            retry: rule.covers(check.sqlstate, Some(&check.name)),
        };
        Ok(one_for_each_message(violating.iter().map(rejection).collect()))
    }
}
