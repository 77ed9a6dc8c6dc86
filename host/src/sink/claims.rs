//! Claims of partitions: who may move a position, and where it stands.

pub mod blocks;
mod crashes;
mod hosts;
pub mod resolve;
mod upkeep;

use std::time::Duration;

use postgres_types::ToSql;
use tokio_postgres::Row;
use uuid::Uuid;

use super::postgres::Options;
use super::postgres::blockers::Blockers;
use super::postgres::connection::{Session, fault};
use crate::fault::{Fault, sqlstate};
use crate::sink::LastRead;

pub use super::postgres::sessions::heartbeat::Heartbeat;
pub use crashes::Crash;
pub use hosts::Agreement;

/// How often a claim waits for a lock, 2 s each, before it reports that it cannot get through.
const ATTEMPTS_MAX: u32 = 4;
/// Longest time for one of them; only a server that hangs takes longer, and its session is given up.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// Claims partitions of one topic for one owner.
#[derive(Debug, Clone)]
pub struct Claims {
    options: Options,
    pipeline: String,
    topic: String,
    owner: String,
}

/// A stored position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// Topic id under which the position was stored; nil when the broker gave none.
    pub topic_id: Uuid,
    /// The next offset to write.
    pub next_offset: i64,
    /// Raised by each claim.
    pub epoch: i64,
    /// Who claimed it last.
    pub owner: String,
    /// True when that owner has ended without a word, and nobody has taken note of it yet.
    pub owner_crashed: bool,
    /// How many owners have crashed since the position moved, as far as was recorded.
    pub crashes: i32,
}

/// What a claim of one partition came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimAnswer {
    /// It is ours; every older claim is worth nothing from now on.
    Claimed {
        /// The partition.
        partition: i32,
        /// Where to start.
        next_offset: i64,
        /// Under which to write.
        epoch: i64,
        /// The last message before `next_offset`, as far as known.
        last: Option<LastRead>,
    },
    /// The position belongs to another topic of the same name, deleted since. It was not touched.
    OtherTopic {
        /// The partition.
        partition: i32,
        /// Id of that topic.
        stored_topic_id: Uuid,
    },
}

impl ClaimAnswer {
    /// The partition it is about.
    pub fn partition(&self) -> i32 {
        match self {
            Self::Claimed { partition, .. } | Self::OtherTopic { partition, .. } => *partition,
        }
    }
}

/// In the order of partitions, so that two claims never deadlock. `backend_pid` is that of
/// the writer, which sets it with its first batch. What blocked an earlier owner is for this one to find out again.
const CLAIM: &str = "\
WITH wanted AS (
    SELECT * FROM unnest($5::integer[], $6::bigint[]) AS w (partition, start_offset)
), struck AS (
    DELETE FROM sluice.blocks WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($5) AND owner <> $4
)
INSERT INTO sluice.positions AS p (pipeline, topic, partition, topic_id, next_offset, epoch, owner, released)
SELECT $1, $2, w.partition, $3::text::uuid, w.start_offset, 1, $4, false FROM wanted AS w ORDER BY w.partition
ON CONFLICT (pipeline, topic, partition) DO UPDATE
SET epoch = p.epoch + 1, owner = excluded.owner, backend_pid = NULL, claimed_at = now(), released = false
WHERE p.topic_id = excluded.topic_id
RETURNING p.partition, p.next_offset, p.epoch, p.last_offset, p.leader_epoch";

impl Claims {
    /// Claims of `topic` in the name of `owner`.
    pub fn new(options: &Options, pipeline: &str, topic: &str, owner: &str) -> Self {
        Self {
            options: options.named(pipeline, owner),
            pipeline: pipeline.to_owned(),
            topic: topic.to_owned(),
            owner: owner.to_owned(),
        }
    }

    /// All positions stored for the topic, whoever owns them.
    pub async fn stored(&self) -> Result<Vec<Position>, Fault> {
        self.errand("read positions", async |session| self.stored_on(session).await).await
    }

    /// Claims `wanted`: partitions, each with the offset at which it starts if it has no position yet. Answers in
    /// the order of partitions.
    ///
    /// Waits for an owner that is in the middle of a COMMIT. One that was paused or disconnected inside a
    /// transaction does not keep us waiting: its session is ended.
    pub async fn claim(
        &self,
        topic_id: Uuid,
        wanted: &[(i32, i64)],
    ) -> Result<Vec<ClaimAnswer>, Fault> {
        let mut blockers = Blockers::default();
        for _ in 0..ATTEMPTS_MAX {
            let claim = self.try_claim(topic_id, wanted, &mut blockers);
            let claim = tokio::time::timeout(ATTEMPT_MAX, claim);
            let answer = claim.await.unwrap_or_else(|_| {
                let message = format!("claim partitions: no answer within {ATTEMPT_MAX:?}");
                Err(Fault::retry(sqlstate::TOO_SLOW, message))
            });
            match answer {
                Err(fault) if fault.code == sqlstate::CONTENTION => {
                    tracing::debug!(
                        topic = self.topic,
                        "claim waits for the previous owner: {fault}"
                    );
                }
                answer => return answer,
            }
        }
        let message = format!(
            "claim partitions of topic {:?}: the previous owner still holds the lock",
            self.topic
        );
        Err(Fault::retry(sqlstate::CLAIM_BLOCKED, message))
    }

    async fn try_claim(
        &self,
        topic_id: Uuid,
        wanted: &[(i32, i64)],
        blockers: &mut Blockers,
    ) -> Result<Vec<ClaimAnswer>, Fault> {
        let session = self.options.connect_for_claim().await?;
        tokio::select! {
            answer = self.claim_on(&session, topic_id, wanted) => answer,
            () = blockers.end_abandoned(&self.options, session.pid()) => unreachable!("it never returns"),
        }
    }

    async fn claim_on(
        &self,
        session: &Session,
        topic_id: Uuid,
        wanted: &[(i32, i64)],
    ) -> Result<Vec<ClaimAnswer>, Fault> {
        let doing = format!("claim partitions of topic {:?}", self.topic);
        let translate = |error: tokio_postgres::Error| schema_fault(&doing, &error);
        session.batch_execute("SET lock_timeout = '2s'").await.map_err(translate)?;
        let claim = async |wanted: &[(i32, i64)]| {
            let (partitions, starts): (Vec<i32>, Vec<i64>) = wanted.iter().copied().unzip();
            let Self { pipeline, topic, owner, .. } = self;
            let id = topic_id.to_string();
            let parameters: [&(dyn ToSql + Sync); 6] =
                [pipeline, topic, &id, owner, &partitions, &starts];
            let claimed = session.query(CLAIM, &parameters).await.map_err(translate)?;
            Ok::<_, Fault>(claimed.iter().map(claimed_answer).collect::<Vec<_>>())
        };
        let mut answers = claim(wanted).await?;
        if answers.len() < wanted.len() {
            let is_wanted =
                |it: &&Position| wanted.iter().any(|&(wanted, _)| wanted == it.partition);
            let stored = self.stored_on(session).await?;
            let others = stored.iter().filter(is_wanted).filter(|it| it.topic_id != topic_id);
            let (nameless, others): (Vec<&Position>, _) =
                others.partition(|it| it.topic_id.is_nil());
            if !nameless.is_empty() {
                let nameless: Vec<i32> = nameless.iter().map(|it| it.partition).collect();
                self.adopt(session, topic_id, &nameless).await?;
                let nameless: Vec<(i32, i64)> = nameless.into_iter().map(|it| (it, 0)).collect();
                answers.extend(claim(&nameless).await?);
            }
            answers.extend(others.into_iter().map(|other| ClaimAnswer::OtherTopic {
                partition: other.partition,
                stored_topic_id: other.topic_id,
            }));
        }
        answers.sort_by_key(ClaimAnswer::partition);
        Ok(answers)
    }
}

/// A missing table of ours is explained as such.
fn schema_fault(doing: &str, error: &tokio_postgres::Error) -> Fault {
    let translated = fault(doing, error);
    if translated.code == sqlstate::STATEMENT {
        return Fault::block(sqlstate::SCHEMA, translated.message);
    }
    translated
}

fn claimed_answer(row: &Row) -> ClaimAnswer {
    ClaimAnswer::Claimed {
        partition: row.get("partition"),
        next_offset: row.get("next_offset"),
        epoch: row.get("epoch"),
        last: Option::zip(row.get("last_offset"), row.get("leader_epoch"))
            .map(|(offset, leader_epoch)| LastRead { offset, leader_epoch }),
    }
}
