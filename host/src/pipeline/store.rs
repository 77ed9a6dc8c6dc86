//! Positions in Postgres as the source's claim store: blocking calls, made by the claimer.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::fault::{Fault, sqlstate};
use crate::settings::{RetryOrder, Settings};
use crate::sink::claims::resolve::RESOLVER;
use crate::sink::claims::{self, Agreement, Claims, Heartbeat};
use crate::sink::parked::due;
use crate::sink::postgres::{Options, Session};
use crate::source::{ClaimAnswer, ClaimStore, Claimed, Crash, KeysRead, Stored};

/// Longest time for one of the small things that are asked: the claimer has others to do.
const ASK_WAIT: Duration = Duration::from_secs(6);
/// Longest time for a clean release: a Postgres that is away must not keep the host from ending.
const CLEAN_RELEASE_WAIT: Duration = Duration::from_secs(2);

/// Claims of one pipeline on one topic.
pub struct PostgresClaims {
    claims: Claims,
    options: Options,
    pipeline: String,
    order: RetryOrder,
    agreement: Agreement,
    runtime: Handle,
    heartbeat: Option<Heartbeat>,
    /// True once others could see that this host lives: before that, nothing is claimed.
    has_lived: bool,
}

impl PostgresClaims {
    /// Connects with the first claim.
    pub fn new(options: &Options, settings: &Settings, owner: &str, runtime: Handle) -> Self {
        let (pipeline, topic) = (&settings.pipeline.name, &settings.source.topic);
        let claims = Claims::new(options, pipeline, topic, owner);
        let order = settings.retry.order;
        let agreement = Agreement { group: settings.source.group.clone(), order: order.name() };
        Self {
            claims,
            options: options.clone(),
            pipeline: pipeline.clone(),
            order,
            agreement,
            runtime,
            heartbeat: None,
            has_lived: false,
        }
    }

    /// Asks something while others can see that this host lives.
    fn ask<T>(
        &mut self,
        ask: impl AsyncFnOnce(&Claims, &Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.show_life()?;
        let claims = &self.claims;
        let asking = claims.errand("ask for claims", async |session| ask(claims, session).await);
        self.runtime.block_on(in_time(ASK_WAIT, asking))
    }
}

async fn in_time<T>(
    limit: Duration,
    ask: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout(limit, ask).await.unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> Fault {
    Fault::retry(sqlstate::CONNECTION, "postgres gives no answer")
}

impl ClaimStore for PostgresClaims {
    fn show_life(&mut self) -> Result<(), Fault> {
        if !self.is_known_to_live() {
            self.heartbeat = None;
            let heartbeat = in_time(ASK_WAIT, self.claims.heartbeat());
            let heartbeat = self.runtime.block_on(heartbeat)?;
            // While others took this host for gone, one that means something else by the pipeline may have begun.
            let (claims, agreement) = (&self.claims, &self.agreement);
            let join = async |session: &Session| claims.join(session, agreement).await;
            let joining = in_time(ASK_WAIT, claims.errand("join the hosts of the pipeline", join));
            self.runtime.block_on(joining)?;
            self.heartbeat = Some(heartbeat);
            self.has_lived = true;
        }
        Ok(())
    }

    fn is_known_to_live(&self) -> bool {
        self.heartbeat.as_ref().is_some_and(Heartbeat::is_there)
    }

    fn positions(&mut self) -> Result<Vec<Stored>, Fault> {
        let positions = self.ask(async |claims, session| claims.stored_on(session).await)?;
        Ok(positions.into_iter().map(stored).collect())
    }

    fn initialise(&mut self, topic_id: Uuid, starts: &[(i32, i64)]) -> Result<(), Fault> {
        self.runtime.block_on(in_time(ASK_WAIT, self.claims.initialise(topic_id, starts)))
    }

    fn record_crashes(&mut self, crashes: &[Crash]) -> Result<(), Fault> {
        let crashes: Vec<claims::Crash> = crashes.iter().map(crash).collect();
        self.ask(async |claims, session| claims.record_crashes(session, &crashes).await)
    }

    fn reset_crashes(&mut self, partition: i32) -> Result<(), Fault> {
        self.ask(async |claims, session| claims.reset_crashes(session, partition).await)
    }

    fn claim(&mut self, topic_id: Uuid, partitions: &[i32]) -> Result<Vec<ClaimAnswer>, Fault> {
        // Positions were stored before; a start counts only if they are deleted at this very moment.
        let wanted: Vec<(i32, i64)> = partitions.iter().map(|&partition| (partition, 0)).collect();
        let answers = self.runtime.block_on(self.claims.claim(topic_id, &wanted))?;
        Ok(answers.iter().map(answer).collect())
    }

    /// In the background: with millions of keys it takes seconds, and other partitions are not to wait.
    fn read_parked_keys(&mut self, topic_id: Uuid, partitions: Vec<i32>, read: KeysRead) {
        if self.order != RetryOrder::Key {
            for partition in partitions {
                read(partition, Ok(Vec::new()));
            }
            return;
        }
        let (options, pipeline) = (self.options.clone(), self.pipeline.clone());
        self.runtime.spawn(async move {
            for partition in partitions {
                let keys = due::parked_keys(&options, &pipeline, topic_id, partition).await;
                read(partition, keys);
            }
        });
    }

    fn fence(&mut self, partitions: &[i32]) -> Result<(), Fault> {
        self.runtime.block_on(in_time(ASK_WAIT, self.claims.fence(partitions)))
    }

    fn block(&mut self, partitions: &[i32], fault: &Fault) -> Result<(), Fault> {
        self.ask(async |claims, session| claims.block(session, partitions, fault).await)
    }

    fn unblock(&mut self, partitions: &[i32], anybody: bool) -> Result<(), Fault> {
        self.ask(async |claims, session| claims.unblock(session, partitions, anybody).await)
    }

    fn release_cleanly(&mut self) -> Result<(), Fault> {
        if !self.has_lived {
            return Ok(());
        }
        let claims = &self.claims;
        let release = claims
            .errand("release partitions", async |session| claims.release_cleanly(session).await);
        let said = self.runtime.block_on(in_time(CLEAN_RELEASE_WAIT, release));
        self.heartbeat = None;
        said
    }
}

fn stored(position: claims::Position) -> Stored {
    let claims::Position { partition, topic_id, next_offset, epoch, owner, owner_crashed, crashes } =
        position;
    let resolved = owner == RESOLVER;
    Stored { partition, topic_id, next_offset, epoch, owner, owner_crashed, crashes, resolved }
}

fn crash(crash: &Crash) -> claims::Crash {
    let Crash { partition, owner, counts } = crash.clone();
    claims::Crash { partition, owner, counts }
}

fn answer(answer: &claims::ClaimAnswer) -> ClaimAnswer {
    match *answer {
        claims::ClaimAnswer::Claimed { partition, next_offset, epoch, last } => {
            ClaimAnswer::Claimed(Claimed { partition, next_offset, epoch, last })
        }
        claims::ClaimAnswer::OtherTopic { partition, stored_topic_id } => {
            ClaimAnswer::OtherTopic { partition, stored: stored_topic_id }
        }
    }
}
