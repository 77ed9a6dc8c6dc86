//! Heartbeats: owners that others can see alive, all those of a process and database on one session. The kernel closes
//! it however the process ends, and with it every heartbeat; a single one ends when it is dropped.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::fault::{Fault, sqlstate};
use crate::sink::postgres::connection::{Session, fault};
use crate::sink::postgres::options::Options;

/// The lock that an owner holds while it lives: nobody ever wants it exclusively, so it is always granted. "slui" in
/// ASCII.
pub const LOCK: i32 = 0x736c_7569;

/// Longest time for that lock; a session that takes longer is given up, for all.
const LOCK_MAX: Duration = Duration::from_secs(4);

/// A server may close sessions that do nothing, and that is all this one does.
const STAY: &str = "SELECT set_config('idle_session_timeout', '0', false) \
     WHERE current_setting('idle_session_timeout', true) IS NOT NULL";

/// The session that heartbeats of this process share; gone with the last of them.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    session: Mutex<Weak<Session>>,
}

/// Others see that this owner lives, until it is dropped or its session is lost.
#[derive(Debug)]
pub struct Heartbeat {
    session: Arc<Session>,
    owner: String,
    runtime: Handle,
}

impl Heartbeat {
    /// False when the session is gone, and with it the heartbeat.
    pub fn is_there(&self) -> bool {
        !self.session.is_closed()
    }

    async fn lock(&self) -> Result<(), Fault> {
        let lock = statement("pg_advisory_lock_shared", &self.owner);
        let locked = self.session.batch_execute(&lock);
        match tokio::time::timeout(LOCK_MAX, locked).await {
            Ok(locked) => locked.map_err(|error| fault("begin the heartbeat", &error)),
            Err(_) => {
                self.session.end();
                let message = format!("begin the heartbeat: no response within {LOCK_MAX:?}");
                Err(Fault::retry(sqlstate::CONNECTION, message))
            }
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let (session, unlock) =
            (self.session.clone(), statement("pg_advisory_unlock_shared", &self.owner));
        self.runtime.spawn(async move {
            // An error means that the session is gone, and the lock with it.
            let _ = session.batch_execute(&unlock).await;
        });
    }
}

impl Options {
    /// Lets others see that `owner` lives.
    pub async fn heartbeat(&self, owner: &str) -> Result<Heartbeat, Fault> {
        let session = match &self.sessions {
            Some(sessions) => sessions.heartbeats.session(self).await?,
            None => Arc::new(open(self).await?),
        };
        // Before the lock is asked for: whoever gives up waiting for it has unlocked it, too.
        let heartbeat = Heartbeat { session, owner: owner.to_owned(), runtime: Handle::current() };
        heartbeat.lock().await?;
        Ok(heartbeat)
    }
}

impl Heartbeats {
    /// The session, made by one for all when it was lost.
    async fn session(&self, options: &Options) -> Result<Arc<Session>, Fault> {
        let mut known = self.session.lock().await;
        if let Some(session) = known.upgrade().filter(|session| !session.is_closed()) {
            return Ok(session);
        }
        let session = Arc::new(open(options).await?);
        *known = Arc::downgrade(&session);
        Ok(session)
    }
}

async fn open(options: &Options) -> Result<Session, Fault> {
    let session = options.connect_as_process().await?;
    let stays = session.batch_execute(STAY).await;
    stays.map_err(|error| fault("prepare the session of heartbeats", &error))?;
    Ok(session)
}

fn statement(function: &str, owner: &str) -> String {
    format!("SELECT {function}({LOCK}, hashtext('{}'))", owner.replace('\'', "''"))
}
