//! Sessions of paused or cut-off hosts that keep us waiting, and their end.

use std::time::{Duration, Instant};

use super::connection::{Session, fault};
use super::options::Options;
use crate::fault::Fault;

/// Time a session must have been waiting for its client before it counts as abandoned.
const PATIENCE: Duration = Duration::from_secs(1);

/// Only sessions of Sluice that keep what we wait for, and that wait for their own client: inside a transaction with
/// nothing to do, or in a COPY whose data does not come. A host at work is waiting for the server instead, and is left
/// alone.
///
/// A session that is idle has been so since `state_change`. In a COPY that is when it began, and at almost any moment the
/// session waits for its client where the link is slower than the server: there it counts what came of the data. At PATIENCE
/// that allows for links of 2 Mbit/s and more, for the server counts a message when it is complete, and ours have 256 KiB.
const END: &str = "\
WITH waiting AS (
    SELECT a.pid, a.application_name, a.state LIKE 'idle in transaction%' AS is_idle,
        concat_ws(' ', a.backend_start, a.state_change, c.bytes_processed) AS stand
    FROM pg_stat_activity AS a LEFT JOIN pg_stat_progress_copy AS c ON c.pid = a.pid
    WHERE a.pid = ANY(pg_blocking_pids($1))
        AND a.application_name LIKE 'sluice/%'
        AND (a.state LIKE 'idle in transaction%' OR a.wait_event = 'ClientRead')
        AND a.state_change < clock_timestamp() - $2::float8 * interval '1 second'
)
SELECT pid, application_name, stand, CASE
    WHEN is_idle OR (pid, stand) IN (SELECT s.pid, s.stand FROM unnest($3::integer[], $4::text[]) AS s (pid, stand))
    THEN pg_terminate_backend(pid) ELSE false END AS ended
FROM waiting";

/// Sessions that were found waiting for their client, how far each was, and since when it is known not to be any further.
#[derive(Debug, Default)]
pub(in crate::sink) struct Blockers {
    seen: Vec<(i32, String, Instant)>,
}

impl Blockers {
    /// For as long as it is polled: ends abandoned sessions that block the session with process id `blocked`.
    /// Runs beside the statement that may wait; never returns.
    pub async fn end_abandoned(&mut self, options: &Options, blocked: i32) {
        loop {
            tokio::time::sleep(PATIENCE / 2).await;
            let doing = "look for blocking sessions";
            let stalled = self.stalled(Instant::now());
            let look = async |session: &Session| look(session, blocked, &stalled, doing).await;
            match options.errand(doing, look).await {
                Ok(found) => self.note(found, Instant::now()),
                Err(fault) => tracing::debug!("cannot look for blocking sessions: {fault}"),
            }
        }
    }

    /// Those that have come no further for long enough.
    fn stalled(&self, now: Instant) -> (Vec<i32>, Vec<String>) {
        let stalled = self.seen.iter().filter(|(.., since)| now - *since >= PATIENCE);
        stalled.map(|(pid, stand, _)| (*pid, stand.clone())).unzip()
    }

    fn note(&mut self, found: Vec<(i32, String)>, now: Instant) {
        let before = std::mem::take(&mut self.seen);
        let since = |pid: i32, stand: &str| {
            let known = before.iter().find(|known| known.0 == pid && known.1 == stand);
            known.map_or(now, |(.., since)| *since)
        };
        let seen = found.into_iter().map(|(pid, stand)| {
            let since = since(pid, &stand);
            (pid, stand, since)
        });
        self.seen = seen.collect();
    }
}

/// Ends those of `stalled` that stand where they stood, and what is idle; returns all that wait for their clients.
async fn look(
    session: &Session,
    blocked: i32,
    (pids, stands): &(Vec<i32>, Vec<String>),
    doing: &str,
) -> Result<Vec<(i32, String)>, Fault> {
    let waiting = session.query(END, &[&blocked, &PATIENCE.as_secs_f64(), pids, stands]).await;
    let waiting = waiting.map_err(|error| fault(doing, &error))?;
    for row in &waiting {
        let (pid, name): (i32, String) = (row.get("pid"), row.get("application_name"));
        if row.get("ended") {
            tracing::warn!(
                pid,
                owner = name,
                "ended the session of a previous owner that kept a transaction open"
            );
        }
    }
    Ok(waiting.iter().map(|row| (row.get("pid"), row.get("stand"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_stalled_when_it_is_no_further_after_a_second() {
        let (mut blockers, start) = (Blockers::default(), Instant::now());
        let mut look = |ms: u64, found: &[(i32, &str)]| {
            let now = start + Duration::from_millis(ms);
            let stalled = blockers.stalled(now).0;
            blockers.note(found.iter().map(|it| (it.0, it.1.to_owned())).collect(), now);
            stalled
        };
        assert_eq!(look(0, &[(1, "a"), (2, "a")]), Vec::<i32>::new());
        assert_eq!(look(500, &[(1, "a"), (2, "b")]), Vec::<i32>::new());
        assert_eq!(look(1000, &[(1, "a"), (2, "c")]), [1]);
        assert_eq!(look(1500, &[(2, "c")]), [1]);
        // What was not waiting for its client in between has been at work.
        assert_eq!(look(1999, &[(1, "a"), (2, "c")]), Vec::<i32>::new());
        assert_eq!(look(2000, &[(1, "a"), (2, "c")]), [2]);
        assert_eq!(look(2999, &[]), [1, 2]);
        assert_eq!(look(3500, &[]), Vec::<i32>::new());
    }
}
