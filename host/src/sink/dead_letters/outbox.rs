//! The table of dead letters as an outbox: which dead letters wait for their topic, who relays them, and marking
//! what became of them.

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Row;

use super::read::{DEAD_LETTER, DeadLetter};
use crate::fault::{Fault, sqlstate};
use crate::sink::postgres::connection::fault_of_ours;
use crate::sink::postgres::{Options, Session};

/// How long a host has the relay of a pipeline to itself without saying so again.
pub const LEASE: Duration = Duration::from_secs(10);
/// Longer than any lock is waited for; a server that does not answer at all must not stop the relay.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// Takes the lease or prolongs it. A host that was killed leaves it at once, because its session is gone.
const TAKE_LEASE: &str = "\
INSERT INTO sluice.relays AS lease (pipeline, topic, owner, backend_pid, until, fault, fault_since)
VALUES ($1, $2, $3, pg_backend_pid(), clock_timestamp() + $4::float8 * interval '1 second', $5,
    CASE WHEN $5::text IS NOT NULL THEN now() END)
ON CONFLICT (pipeline) DO UPDATE SET topic = excluded.topic, owner = excluded.owner,
    backend_pid = excluded.backend_pid, until = excluded.until, fault = excluded.fault,
    fault_since = CASE WHEN excluded.fault IS NOT NULL THEN coalesce(lease.fault_since, excluded.fault_since) END
WHERE lease.owner = excluded.owner OR lease.until < clock_timestamp()
    OR NOT EXISTS (SELECT FROM pg_stat_get_activity(lease.backend_pid))";

/// The same condition the other way round.
const LEASE_TAKEN: &str = "\
SELECT EXISTS (
    SELECT FROM sluice.relays AS lease
    WHERE lease.pipeline = $1 AND lease.owner <> $2 AND lease.until >= clock_timestamp()
        AND EXISTS (SELECT FROM pg_stat_get_activity(lease.backend_pid))
) AS taken";

const LEAVE_LEASE: &str = "UPDATE sluice.relays SET until = '-infinity', fault = $3, \
    fault_since = CASE WHEN $3::text IS NOT NULL THEN coalesce(fault_since, now()) END \
    WHERE pipeline = $1 AND owner = $2";

const HAS_DEAD_LETTERS: &str =
    "SELECT EXISTS (SELECT FROM sluice.dead_letters WHERE pipeline = $1 AND relay) AS has";

/// The dead letters that come next, in the order in which they were written, which is that of the offsets within each
/// partition: no more than $2, each with the bytes of those before it. Always from the first on: a dead letter that was
/// committed late comes ahead of those of its partition that were written after it.
const NEXT: &str = "\
SELECT sized.*, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before
FROM (
    SELECT dead_letters.*, coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0)
        + (SELECT coalesce(sum(octet_length(part)), 0) FROM unnest(header_names || header_values) AS part) AS bytes
    FROM sluice.dead_letters AS dead_letters
    WHERE pipeline = $1 AND relay
    ORDER BY id LIMIT $2
) AS sized";

const MARK_RELAYED: &str = "UPDATE sluice.dead_letters \
    SET relay = false, relayed_at = clock_timestamp(), relay_fault = NULL WHERE id = ANY ($1)";

const MARK_REFUSED: &str = "UPDATE sluice.dead_letters AS dead_letter SET relay = false, relay_fault = refused.fault \
    FROM unnest($1::bigint[], $2::text[]) AS refused (id, fault) WHERE dead_letter.id = refused.id";

const LAG: &str = "\
SELECT count(*) AS waiting, coalesce((
    SELECT greatest(extract(epoch FROM clock_timestamp() - rejected_at), 0)::bigint FROM sluice.dead_letters
    WHERE pipeline = $1 AND relay ORDER BY id LIMIT 1), 0) AS oldest_seconds
FROM sluice.dead_letters WHERE pipeline = $1 AND relay";

const REFUSED: &str = "SELECT count(*) AS refused FROM sluice.dead_letters \
    WHERE pipeline = $1 AND relay_fault IS NOT NULL";

const TROUBLE: &str = "SELECT fault, extract(epoch FROM now() - fault_since)::bigint AS seconds \
    FROM sluice.relays WHERE pipeline = $1";

/// How far a relay is behind; see [`Standing`].
#[derive(Debug, Clone, Copy)]
pub struct Lag {
    /// Dead letters that wait to be sent.
    pub waiting: u64,
    /// Age of the one that waits longest, in seconds.
    pub oldest_seconds: u64,
}

/// A dead letter to be sent, or the id of one that cannot be read and why.
pub type Next = Result<DeadLetter, (i64, Fault)>;

/// How the relay of a pipeline stands, whichever host it is on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Dead letters that wait to be sent.
    pub waiting: u64,
    /// Age of the one that waits longest, in seconds; 0 when none does.
    pub oldest_seconds: u64,
    /// Dead letters that the topic does not take.
    pub refused: u64,
    /// What keeps the relay from its work, code first.
    pub fault: Option<String>,
    /// For how many seconds it has done so.
    pub fault_seconds: Option<i64>,
}

impl Standing {
    /// How the relay of `pipeline` stands now.
    pub async fn read(session: &Session, pipeline: &str) -> Result<Self, Fault> {
        let doing = "read how the relay of dead letters stands";
        let explained = |error: tokio_postgres::Error| fault_of_ours(doing, &error);
        let Lag { waiting, oldest_seconds } =
            lag(&session.query_one(LAG, &[&pipeline]).await.map_err(explained)?);
        let refused = session.query_one(REFUSED, &[&pipeline]).await.map_err(explained)?;
        let troubled = session.query_opt(TROUBLE, &[&pipeline]).await.map_err(explained)?;
        Ok(Self {
            waiting,
            oldest_seconds,
            refused: refused.get::<_, i64>("refused").max(0) as u64,
            fault: troubled.as_ref().and_then(|row| row.get("fault")),
            fault_seconds: troubled.as_ref().and_then(|row| row.get("seconds")),
        })
    }
}

/// One pipeline's outbox as one host sees it.
#[derive(Debug)]
pub struct Outbox {
    options: Options,
    key: Key,
    /// While this host relays: the lease goes with it.
    session: Option<Session>,
}

#[derive(Debug)]
struct Key {
    pipeline: String,
    topic: String,
    owner: String,
}

impl Outbox {
    /// Connects with the first lease; what is asked without one is asked on a session that others use, too.
    pub fn new(options: Options, pipeline: &str, topic: &str, owner: &str) -> Self {
        let (pipeline, topic, owner) = (pipeline.to_owned(), topic.to_owned(), owner.to_owned());
        Self { options, key: Key { pipeline, topic, owner }, session: None }
    }

    /// True when this host may relay for the next [`LEASE`]. `fault` is what keeps it from doing so, for others
    /// to see.
    pub async fn take_lease(&mut self, fault: Option<&str>) -> Result<bool, Fault> {
        let lease = LEASE.as_secs_f64();
        let taken = self.ask("take the lease of the relay", async |session, key| {
            let Key { pipeline, topic, owner } = key;
            session.execute(TAKE_LEASE, &[pipeline, topic, owner, &lease, &fault]).await
        });
        Ok(taken.await? == 1)
    }

    /// True when another host relays: there is no use in asking for the lease.
    pub async fn is_leased_elsewhere(&mut self) -> Result<bool, Fault> {
        let row = self.look("look for the lease of the relay", async |session, key| {
            session.query_one(LEASE_TAKEN, &[&key.pipeline, &key.owner]).await
        });
        Ok(row.await?.get("taken"))
    }

    /// Closes the session, and with it whatever lease was not left.
    pub fn close(&mut self) {
        self.session = None;
    }

    /// Lets another host go on at once. `fault`: why this one does not.
    pub async fn leave_lease(&mut self, fault: Option<&str>) -> Result<(), Fault> {
        let left = self.look("leave the lease of the relay", async |session, key| {
            session.execute(LEAVE_LEASE, &[&key.pipeline, &key.owner, &fault]).await
        });
        left.await?;
        self.close();
        Ok(())
    }

    /// True when dead letters wait.
    pub async fn has_dead_letters(&mut self) -> Result<bool, Fault> {
        let row = self.look("look for dead letters to be relayed", async |session, key| {
            session.query_one(HAS_DEAD_LETTERS, &[&key.pipeline]).await
        });
        Ok(row.await?.get("has"))
    }

    /// The dead letters to be sent next: at most `dead_letters_max`, and no more when they have `bytes_max`.
    pub async fn next(
        &mut self,
        dead_letters_max: i64,
        bytes_max: i64,
    ) -> Result<Vec<Next>, Fault> {
        let query = format!(
            "SELECT {DEAD_LETTER} FROM ({NEXT}) AS dead_letters WHERE bytes_before < $3::bigint ORDER BY id"
        );
        let rows = self.ask("read dead letters to be relayed", async |session, key| {
            session.query(&query, &[&key.pipeline, &dead_letters_max, &bytes_max]).await
        });
        let dead_letter =
            |row: &Row| DeadLetter::from_row(row).map_err(|fault| (row.get(0), fault));
        Ok(rows.await?.iter().map(dead_letter).collect())
    }

    /// Marks dead letters as sent.
    pub async fn mark_relayed(&mut self, ids: &[i64]) -> Result<(), Fault> {
        let marked = self.ask("mark relayed dead letters", async |session, _| {
            session.execute(MARK_RELAYED, &[&ids]).await
        });
        marked.await.map(drop)
    }

    /// Marks dead letters as not to be sent, with the reason of each.
    pub async fn mark_refused(&mut self, refused: &[(i64, String)]) -> Result<(), Fault> {
        let (ids, faults): (Vec<i64>, Vec<&str>) =
            refused.iter().map(|(id, fault)| (*id, fault.as_str())).unzip();
        let marked = self.ask("mark dead letters that cannot be relayed", async |session, _| {
            session.execute(MARK_REFUSED, &[&ids, &faults]).await
        });
        marked.await.map(drop)
    }

    /// How far the relay is behind.
    pub async fn lag(&mut self) -> Result<Lag, Fault> {
        let row = self
            .look("count dead letters that wait for their relay", async |session, key| {
                session.query_one(LAG, &[&key.pipeline]).await
            });
        Ok(lag(&row.await?))
    }

    /// One statement, on the session if there is one.
    async fn look<T>(
        &mut self,
        doing: &str,
        statement: impl AsyncFnOnce(&Session, &Key) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Fault> {
        if self.session.is_some() {
            return self.ask(doing, statement).await;
        }
        let Self { options, key, .. } = self;
        let ask = async |session: &Session| {
            statement(session, key).await.map_err(|error| fault_of_ours(doing, &error))
        };
        options.errand(doing, ask).await
    }

    /// One statement on the session; with any error the session is thrown away.
    async fn ask<T>(
        &mut self,
        doing: &str,
        statement: impl AsyncFnOnce(&Session, &Key) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Fault> {
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => within(doing, self.options.connect()).await?,
        };
        let answer = within(doing, async {
            statement(&session, &self.key).await.map_err(|error| fault_of_ours(doing, &error))
        });
        let answer = answer.await?;
        self.session = Some(session);
        Ok(answer)
    }
}

async fn within<T>(doing: &str, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    tokio::time::timeout(ANSWER_MAX, work).await.unwrap_or_else(|_| {
        Err(Fault::retry(sqlstate::TOO_SLOW, format!("{doing}: no answer within {ANSWER_MAX:?}")))
    })
}

fn lag(row: &Row) -> Lag {
    let number = |name: &str| row.get::<_, i64>(name).max(0) as u64;
    Lag { waiting: number("waiting"), oldest_seconds: number("oldest_seconds") }
}
