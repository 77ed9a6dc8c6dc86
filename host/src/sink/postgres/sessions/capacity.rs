//! Whether a server takes as many sessions as the pipelines of a process may want. Knows no pipeline.

use super::super::connection::fault;
use super::super::options::Options;
use super::{BEYOND_MAX, errands};
use crate::fault::{Fault, sqlstate};

/// Of what limits sessions of this role in this database the one that leaves the least. Others' names are hidden from a
/// plain role, their number is not.
const CAPACITY: &str = "\
WITH me AS (
    SELECT oid, rolsuper, rolconnlimit FROM pg_roles WHERE rolname = current_user
), others AS (
    SELECT a.datname, a.usesysid FROM pg_stat_activity AS a
    WHERE a.datid IS NOT NULL AND a.pid <> pg_backend_pid()
        AND ($1 OR a.application_name IS NULL OR a.application_name NOT LIKE 'sluice/%')
)
SELECT name, most, others FROM (
    SELECT 'max_connections' AS name, current_setting('max_connections')::bigint - CASE WHEN rolsuper THEN 0 ELSE
            current_setting('superuser_reserved_connections')::bigint
            + coalesce(current_setting('reserved_connections', true)::bigint, 0) END AS most,
        (SELECT count(*) FROM others) AS others
    FROM me
    UNION ALL
    SELECT 'the role''s CONNECTION LIMIT', rolconnlimit, (SELECT count(*) FROM others WHERE usesysid = oid)
    FROM me WHERE rolconnlimit >= 0 AND NOT rolsuper
    UNION ALL
    SELECT 'the database''s CONNECTION LIMIT', datconnlimit,
        (SELECT count(*) FROM others WHERE datname = current_database())
    FROM pg_database, me WHERE pg_database.datname = current_database() AND datconnlimit >= 0 AND NOT rolsuper
) AS limits ORDER BY most - others LIMIT 1";

/// What pipelines of one process may want of one database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Sessions that they may have to themselves: one for each lane, and one for each pipeline's retries.
    pub own: usize,
    /// Most of these at a time.
    pub connections_max: usize,
}

impl Wanted {
    /// With those that pipelines share. Claims have some more only while all others are taken.
    fn sessions(self) -> usize {
        if self.own < self.connections_max {
            self.own + 1 + errands::ERRANDS_MAX
        } else {
            self.connections_max + BEYOND_MAX
        }
    }
}

/// `SL-P022` when the server leaves too few sessions. With `all`, sessions of Sluice that are there already count as those
/// of others: not where they may be the same pipelines, at work.
///
/// # Errors
/// When that could not be found out.
pub async fn shortage(
    options: &Options,
    wanted: Wanted,
    all: bool,
) -> Result<Option<Fault>, Fault> {
    let session = options.open().await?;
    let row = session.query_one(CAPACITY, &[&all]).await;
    let row = row.map_err(|error| fault("read how many connections there are", &error))?;
    let (name, most, others): (&str, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let (wanted, free) = (wanted.sessions(), most - others);
    Ok((free < i64::try_from(wanted).unwrap_or(i64::MAX)).then(|| {
        let message = format!(
            "{options}: the pipelines want up to {wanted} connections and {} are free: {name} allows {most}, others have \
             {others}",
            free.max(0)
        );
        Fault::block(sqlstate::FEW_CONNECTIONS, message)
    }))
}
