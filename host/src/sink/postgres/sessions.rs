//! The sessions of this process with one database: how many its pipelines have at a time, and the few that they
//! share. Knows neither what is written on a session nor which pipeline asks.
//!
//! A session of one's own takes a [`Permit`] for its life; whoever finds none free waits for its turn, and lanes give
//! theirs up for those who wait ([`Turns`]). What never waits behind lanes: the heartbeats of all owners, on one
//! session ([`heartbeat`]), small statements, on at most [`errands::ERRANDS_MAX`] ([`errands`]), and claims, which
//! have `CLAIMS_MAX` more when all permits are taken.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::connection::Session;
use super::options::{Key, Options};
use crate::fault::{Fault, sqlstate};
use crate::sink::claims::blocks::host_name;
use errands::Errands;
use heartbeat::Heartbeats;
pub use turns::Permit;
use turns::Turns;

pub mod capacity;
pub mod errands;
pub mod heartbeat;
pub mod turns;

/// What a process has beyond `connections_max`: one session for heartbeats, and those for errands and claims.
pub const BEYOND_MAX: usize = 1 + errands::ERRANDS_MAX + CLAIMS_MAX;
/// Sessions for claims when no permit is free.
const CLAIMS_MAX: usize = 3;
/// A session with a batch behind it is kept for its lane at least this long, whoever waits: making it costs Postgres
/// a process.
pub const TURN_MIN: Duration = Duration::from_secs(1);

/// All databases that pipelines of this process use now.
static ALL: Mutex<Vec<Weak<Sessions>>> = Mutex::new(Vec::new());

/// What the pipelines of this process share of one database.
#[derive(Debug)]
pub struct Sessions {
    key: Arc<Key>,
    connections_max: Mutex<usize>,
    turns: Arc<Turns>,
    claims: Arc<Turns>,
    errands: Errands,
    heartbeats: Heartbeats,
}

impl Sessions {
    /// Those of the database that `key` names. Where its pipelines differ in `connections_max`, the smallest counts.
    fn of(key: &Arc<Key>, connections_max: usize) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|sessions| sessions.strong_count() > 0);
        let known = all.iter().filter_map(Weak::upgrade).find(|sessions| sessions.key == *key);
        if let Some(known) = known {
            known.lower(connections_max);
            return known;
        }
        let new = Arc::new(Self {
            key: key.clone(),
            connections_max: Mutex::new(connections_max),
            turns: Turns::new(connections_max),
            claims: Turns::new(CLAIMS_MAX),
            errands: Errands::default(),
            heartbeats: Heartbeats::default(),
        });
        all.push(Arc::downgrade(&new));
        new
    }

    fn lower(&self, connections_max: usize) {
        let mut known = self.connections_max.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == connections_max {
            return;
        }
        let smallest = (*known).min(connections_max);
        tracing::warn!(
            connections_max = smallest,
            "pipelines of one database differ in [sink] connections_max ({known} and {connections_max}): the smallest \
             counts for all of them"
        );
        self.turns.take_away(*known - smallest);
        *known = smallest;
    }

    /// How many sessions pipelines may have to themselves at a time.
    pub fn connections_max(&self) -> usize {
        *self.connections_max.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when somebody waits for a permit and the caller is the one to give up its own.
    pub async fn wanted(&self) {
        self.turns.wanted().await;
    }
}

impl Options {
    /// The same, sharing with the other pipelines of this process that use the same database as the same user.
    #[must_use]
    pub fn sharing(mut self, connections_max: usize) -> Self {
        self.sessions = Some(Sessions::of(&self.key, connections_max));
        self
    }

    /// The same for somebody who does not wait longer than `wait` for a permit.
    #[must_use]
    pub fn waiting_at_most(mut self, wait: Duration) -> Self {
        self.permit_wait = Some(wait);
        self
    }

    /// What is shared, if anything is.
    pub fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.sessions.as_ref()
    }

    /// Opens a session of one's own on a server that takes writes, when it is our turn.
    pub async fn connect(&self) -> Result<Session, Fault> {
        let Some(sessions) = &self.sessions else { return self.open().await };
        let permit = match self.permit_wait {
            None => sessions.turns.permit().await,
            Some(wait) => tokio::time::timeout(wait, sessions.turns.permit())
                .await
                .map_err(|_| self.no_turn(wait))?,
        };
        Ok(self.open().await?.with(permit))
    }

    /// The same for a claim, which does not wait behind lanes.
    pub async fn connect_for_claim(&self) -> Result<Session, Fault> {
        let Some(sessions) = &self.sessions else { return self.open().await };
        let permit = tokio::select! {
            biased;
            permit = sessions.turns.permit() => permit,
            permit = sessions.claims.permit() => permit,
        };
        Ok(self.open().await?.with(permit))
    }

    /// Opens a session in the name of the process, beyond what is counted.
    async fn connect_as_process(&self) -> Result<Session, Fault> {
        self.called(&format!("sluice/{}/{}", host_name(), std::process::id())).open().await
    }

    fn no_turn(&self, wait: Duration) -> Fault {
        let max = self.sessions.as_ref().map_or(0, |sessions| sessions.connections_max());
        let message =
            format!("connect to {self}: none of {max} connections was free within {wait:?}");
        Fault::retry(sqlstate::RESOURCES, message)
    }
}
