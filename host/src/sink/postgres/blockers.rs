//! Sessions of paused or cut-off hosts that keep us waiting, and their end.

use std::time::Duration;

use super::connection::{Session, fault};
use super::options::Options;
use crate::fault::Fault;

/// Time a session must have been waiting for its client before it counts as abandoned.
const PATIENCE: Duration = Duration::from_secs(1);

/// Only sessions of Sluice that hold what we wait for, and that have been waiting for their own client all
/// the while: inside a transaction with nothing to do, or in a COPY whose data does not come. A host at
/// work is waiting for the server instead, and is left alone.
const END: &str = "\
SELECT a.pid, a.application_name, pg_terminate_backend(a.pid) AS ended
FROM pg_stat_activity AS a
WHERE a.pid = ANY(pg_blocking_pids($1))
    AND a.application_name LIKE 'sluice/%'
    AND (a.state LIKE 'idle in transaction%' OR a.wait_event = 'ClientRead')
    AND a.state_change < clock_timestamp() - $2::float8 * interval '1 second'";

/// For as long as it is polled: ends abandoned sessions that block the session with process id `blocked`.
/// Runs beside the statement that may wait; never returns.
pub(in crate::sink) async fn end_abandoned(options: &Options, blocked: i32) {
    loop {
        tokio::time::sleep(PATIENCE / 2).await;
        let doing = "look for blocking sessions";
        let end = async |session: &Session| end(session, blocked, doing).await;
        if let Err(fault) = options.errand(doing, end).await {
            tracing::debug!("cannot look for blocking sessions: {fault}");
        }
    }
}

async fn end(session: &Session, blocked: i32, doing: &str) -> Result<(), Fault> {
    let ended = session.query(END, &[&blocked, &PATIENCE.as_secs_f64()]).await;
    for row in ended.map_err(|error| fault(doing, &error))? {
        let (pid, name): (i32, String) = (row.get("pid"), row.get("application_name"));
        if row.get("ended") {
            tracing::warn!(
                pid,
                owner = name,
                "ended the session of an owner that kept a transaction open"
            );
        }
    }
    Ok(())
}
