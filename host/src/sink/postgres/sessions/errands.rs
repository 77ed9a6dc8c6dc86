//! Small statements of all pipelines on a few sessions. Each has a session to itself, for a bounded time, and a
//! session on which anything went wrong is thrown away: what it has still under way must not meet the next one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::Sessions;
use crate::fault::{Fault, sqlstate};
use crate::sink::postgres::connection::{Session, fault};
use crate::sink::postgres::options::Options;

/// Sessions for errands at a time.
pub const ERRANDS_MAX: usize = 2;
/// Longest time for an errand, waiting for a session included.
const ERRAND_MAX: Duration = Duration::from_secs(10);
/// No errand waits longer for a lock: others wait for its session.
const LOCK_WAIT: &str = "SET lock_timeout = '1s'";

/// Sessions for errands that nobody has now.
#[derive(Debug)]
pub(super) struct Errands {
    turns: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    sessions: Vec<(Session, Instant)>,
    /// True while a task waits to close those that stay unused.
    is_watched: bool,
}

impl Default for Errands {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(ERRANDS_MAX)), idle: Mutex::default() }
    }
}

impl Errands {
    fn change<T>(&self, change: impl FnOnce(&mut Idle) -> T) -> T {
        change(&mut self.idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Options {
    /// Lets `ask` put its question on a shared session: one or a few short statements, that leave nothing behind.
    ///
    /// # Errors
    /// Those of `ask`; `SL-P001` without an answer in time. `doing` says what it was for.
    pub async fn errand<T>(
        &self,
        doing: &str,
        ask: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let errand = async {
            let Some(sessions) = &self.sessions else { return ask(&self.open().await?).await };
            // Fails only with a semaphore that was closed, and this one never is.
            let _turn = sessions.errands.turns.acquire().await;
            let session = sessions.for_errand(self).await?;
            let mut errand = Errand { session: Some(session), options: self };
            let Some(session) = &errand.session else { unreachable!("set above") };
            let answer = ask(session).await;
            if let (Some(session), Ok(_)) = (errand.session.take(), &answer) {
                sessions.keep(session, self.idle_max);
            }
            answer
        };
        tokio::time::timeout(ERRAND_MAX, errand).await.unwrap_or_else(|_| {
            let message = format!("{doing}: no response within {ERRAND_MAX:?}");
            Err(Fault::retry(sqlstate::CONNECTION, message))
        })
    }
}

impl Sessions {
    async fn for_errand(&self, options: &Options) -> Result<Session, Fault> {
        let kept = self.errands.change(|idle| {
            idle.sessions.retain(|(session, _)| !session.is_closed());
            idle.sessions.pop()
        });
        if let Some((session, _)) = kept {
            return Ok(session);
        }
        let session = options.connect_as_process().await?;
        session
            .batch_execute(LOCK_WAIT)
            .await
            .map_err(|error| fault("prepare a shared session", &error))?;
        Ok(session)
    }

    fn keep(self: &Arc<Self>, session: Session, idle_max: Duration) {
        let watch = self.errands.change(|idle| {
            idle.sessions.push((session, Instant::now()));
            !std::mem::replace(&mut idle.is_watched, true)
        });
        if !watch {
            return;
        }
        let sessions = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(idle_max).await;
                let Some(sessions) = sessions.upgrade() else { return };
                let done = sessions.errands.change(|idle| {
                    idle.sessions.retain(|(_, since)| since.elapsed() < idle_max);
                    idle.is_watched = !idle.sessions.is_empty();
                    !idle.is_watched
                });
                if done {
                    return;
                }
            }
        });
    }
}

/// A session on which something is asked.
struct Errand<'a> {
    session: Option<Session>,
    options: &'a Options,
}

impl Drop for Errand<'_> {
    /// Somebody gave up in the middle of it: the server is told to give up as well.
    fn drop(&mut self) {
        let (Some(session), Ok(runtime)) = (self.session.take(), Handle::try_current()) else {
            return;
        };
        let options = self.options.clone();
        runtime.spawn(async move { session.cancel(&options).await });
    }
}
