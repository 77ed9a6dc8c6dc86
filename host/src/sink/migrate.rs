//! The `sluice` schema, brought up to date under a lock.

use refinery::Runner;

use super::postgres::connection::{describe, fault};
use super::postgres::{Options, Session};
use crate::fault::{Fault, sqlstate};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Any number that other programs do not use; "sluice" in ASCII.
const LOCK: i64 = 0x736c_7569_6365;
const HISTORY: &str = "sluice.migrations";

/// What a migration run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Versions applied now, in order; empty when the schema was up to date.
    pub applied: Vec<String>,
    /// Version the schema has.
    pub version: i32,
}

/// Creates the `sluice` schema or brings it up to date. Safe to run twice and at the same time.
pub async fn migrate(options: &Options) -> Result<Report, Fault> {
    let mut session = options.named("migrate", "sluice").connect().await?;
    let mut runner = embedded::migrations::runner();
    let newest = newest(&runner);
    if stored_version(&session).await? == newest {
        return Ok(Report { applied: Vec::new(), version: newest });
    }
    // Through one, the lock would stay behind with the server process.
    session.refuse_pooler(options).await?;
    let doing = "wait for another migration to finish";
    // Another host may be migrating; its work can take longer than a lock may take elsewhere.
    session
        .batch_execute(&format!("SET lock_timeout = '60s'; SELECT pg_advisory_lock({LOCK})"))
        .await
        .map_err(|error| fault(doing, &error))?;
    let stored = stored_version(&session).await?;
    if stored > newest {
        let message = format!(
            "schema sluice has version {stored}, made by a newer sluice; this one knows {newest}"
        );
        return Err(Fault::block(sqlstate::SCHEMA, message));
    }
    if stored == newest {
        return Ok(Report { applied: Vec::new(), version: stored });
    }
    create_schema(&session).await?;
    runner.set_migration_table_name(HISTORY);
    let report = runner.run_async(&mut *session).await.map_err(|error| refused(&error))?;
    let applied = report.applied_migrations().iter().map(ToString::to_string).collect();
    // The lock goes with the session.
    Ok(Report { applied, version: newest })
}

/// Makes sure that the schema is there and of this program's version, and changes nothing.
pub async fn expect(options: &Options) -> Result<(), Fault> {
    let doing = "read the version of schema sluice";
    let stored = async |session: &Session| stored_version(session).await;
    let stored = options.errand(doing, stored).await?;
    let needed = newest(&embedded::migrations::runner());
    if stored == needed {
        return Ok(());
    }
    let message = match stored {
        0 => "schema sluice, which was there, is gone: its positions say where to go on".to_owned(),
        _ => format!("schema sluice has version {stored}, this sluice needs {needed}"),
    };
    Err(Fault::block(sqlstate::SCHEMA, message))
}

/// Version this program needs.
fn newest(runner: &Runner) -> i32 {
    runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or_default()
}

/// Version the schema has; 0 when there is none. Asked first, because the library asks for the right to
/// create tables even where there is nothing to create.
async fn stored_version(session: &tokio_postgres::Client) -> Result<i32, Fault> {
    let doing = "read the version of schema sluice";
    let translate = |error: tokio_postgres::Error| fault(doing, &error);
    let there = "SELECT 1 FROM pg_tables WHERE schemaname = 'sluice' AND tablename = 'migrations'";
    if session.query(there, &[]).await.map_err(translate)?.is_empty() {
        return Ok(0);
    }
    let version = format!("SELECT coalesce(max(version), 0) AS version FROM {HISTORY}");
    Ok(session.query_one(&version, &[]).await.map_err(translate)?.get("version"))
}

/// IF NOT EXISTS asks for the right to create even where there is nothing to create.
async fn create_schema(session: &tokio_postgres::Client) -> Result<(), Fault> {
    let doing = "create schema sluice";
    let found = session
        .query("SELECT 1 FROM pg_namespace WHERE nspname = 'sluice'", &[])
        .await
        .map_err(|error| fault(doing, &error))?;
    if found.is_empty() {
        session
            .batch_execute("CREATE SCHEMA sluice")
            .await
            .map_err(|error| explained(doing, &error))?;
    }
    Ok(())
}

fn refused(error: &refinery::Error) -> Fault {
    let mut sources =
        std::iter::successors(std::error::Error::source(error), |error| error.source());
    match sources.find_map(|source| source.downcast_ref::<tokio_postgres::Error>()) {
        Some(cause) => explained(&format!("migrate schema sluice: {error}"), cause),
        None => Fault::block(sqlstate::MIGRATION, format!("migrate schema sluice: {error}")),
    }
}

/// Outages stay outages; everything else is explained as what a migration needs.
fn explained(doing: &str, error: &tokio_postgres::Error) -> Fault {
    let translated = fault(doing, error);
    match translated.remedy {
        crate::fault::Remedy::Retry => translated,
        _ => Fault::block(sqlstate::MIGRATION, format!("{doing}: {}", describe(error))),
    }
}
