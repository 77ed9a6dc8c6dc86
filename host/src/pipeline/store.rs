//! Positions in Postgres as the source's claim store: blocking calls, made on the claims thread.

use tokio::runtime::Handle;
use uuid::Uuid;

use crate::fault::Fault;
use crate::settings::Settings;
use crate::sink::claims::{self, Claims};
use crate::sink::postgres::Options;
use crate::source::{ClaimAnswer, ClaimStore, Claimed};

/// Claims of one pipeline on one topic.
pub struct PostgresClaims {
    claims: Claims,
    runtime: Handle,
}

impl PostgresClaims {
    /// Connects with the first claim.
    pub fn new(options: &Options, settings: &Settings, owner: &str, runtime: Handle) -> Self {
        let (pipeline, topic) = (&settings.pipeline.name, &settings.source.topic);
        Self { claims: Claims::new(options, pipeline, topic, owner), runtime }
    }
}

impl ClaimStore for PostgresClaims {
    fn initialise(&self, topic_id: Uuid, starts: &[(i32, i64)]) -> Result<(), Fault> {
        self.runtime.block_on(self.claims.initialise(topic_id, starts))
    }

    fn known(&self) -> Result<Vec<i32>, Fault> {
        let stored = self.runtime.block_on(self.claims.stored())?;
        Ok(stored.into_iter().map(|position| position.partition).collect())
    }

    fn claim(&self, topic_id: Uuid, partitions: &[i32]) -> Result<Vec<ClaimAnswer>, Fault> {
        // Positions were stored before; a start counts only if they are deleted at this very moment.
        let wanted: Vec<(i32, i64)> = partitions.iter().map(|&partition| (partition, 0)).collect();
        let answers = self.runtime.block_on(self.claims.claim(topic_id, &wanted))?;
        Ok(answers.iter().map(answer).collect())
    }

    fn fence(&self, partitions: &[i32]) -> Result<(), Fault> {
        self.runtime.block_on(self.claims.fence(partitions))
    }
}

fn answer(answer: &claims::ClaimAnswer) -> ClaimAnswer {
    match *answer {
        claims::ClaimAnswer::Claimed { partition, next_offset, epoch } => {
            ClaimAnswer::Claimed(Claimed { partition, next_offset, epoch })
        }
        claims::ClaimAnswer::OtherTopic { partition, stored_topic_id } => {
            ClaimAnswer::OtherTopic { partition, stored: stored_topic_id }
        }
    }
}
