//! Which pipelines have parked messages: asked once a second for all those of a process that use the same database,
//! because most of them have none most of the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::backoff::Backoff;
use crate::bell::Bell;
use crate::fault::{Fault, Remedy};
use crate::sink::postgres::connection::fault_of_ours;
use crate::sink::postgres::{Options, Session};

/// What is parked is found after this time at the latest.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

const PARKED: &str = "SELECT name FROM unnest($1::text[]) AS name \
     WHERE EXISTS (SELECT FROM sluice.parked WHERE pipeline = name AND attempts > 0) \
         OR EXISTS (SELECT FROM sluice.parked WHERE pipeline = name AND attempts = 0)";

/// All databases that are looked at now.
static ALL: Mutex<Vec<Weak<Looks>>> = Mutex::new(Vec::new());

/// The looks at one database.
#[derive(Debug)]
struct Looks {
    options: Options,
    watched: Mutex<Vec<Weak<Watched>>>,
}

/// A pipeline that is looked for, until this is dropped.
#[derive(Debug)]
pub struct Watched {
    pipeline: String,
    found: AtomicBool,
    bell: Arc<Bell>,
    /// Kept as long as a pipeline is looked for.
    _looks: Arc<Looks>,
}

impl Watched {
    /// Has `pipeline` looked for from now on; `bell` is rung whenever something of it is parked.
    pub fn start(
        options: &Options,
        pipeline: &str,
        bell: Arc<Bell>,
        runtime: &Handle,
    ) -> Arc<Self> {
        let looks = Looks::of(options, runtime);
        let watched = Arc::new(Self {
            pipeline: pipeline.to_owned(),
            // By hosts before this one: nobody has looked yet.
            found: AtomicBool::new(true),
            bell,
            _looks: looks.clone(),
        });
        looks.change(|all| all.push(Arc::downgrade(&watched)));
        watched
    }

    /// True when something was found since this was asked last.
    pub fn take_found(&self) -> bool {
        self.found.swap(false, Ordering::AcqRel)
    }

    fn tell(&self) {
        self.found.store(true, Ordering::Release);
        self.bell.ring();
    }
}

impl Looks {
    fn of(options: &Options, runtime: &Handle) -> Arc<Self> {
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|looks| looks.strong_count() > 0);
        let shared = |looks: &Arc<Self>| match (looks.options.sessions(), options.sessions()) {
            (Some(theirs), Some(ours)) => Arc::ptr_eq(theirs, ours),
            _ => false,
        };
        if let Some(known) = all.iter().filter_map(Weak::upgrade).find(shared) {
            return known;
        }
        let new = Arc::new(Self { options: options.clone(), watched: Mutex::default() });
        all.push(Arc::downgrade(&new));
        let looks = Arc::downgrade(&new);
        runtime.spawn(async move {
            let mut backoff = Backoff::default();
            let mut wait = LOOK_EVERY;
            loop {
                tokio::time::sleep(wait).await;
                let Some(looks) = looks.upgrade() else { return };
                wait = match looks.look().await {
                    Ok(()) => {
                        backoff = Backoff::default();
                        LOOK_EVERY
                    }
                    Err(_) => backoff.pause().max(LOOK_EVERY),
                };
            }
        });
        new
    }

    async fn look(&self) -> Result<(), Fault> {
        let watched: Vec<Arc<Watched>> = self.change(|all| {
            all.retain(|it| it.strong_count() > 0);
            all.iter().filter_map(Weak::upgrade).collect()
        });
        let names: Vec<&str> = watched.iter().map(|it| &*it.pipeline).collect();
        let doing = "look for parked messages";
        let parked = async |session: &Session| {
            let rows = session.query(PARKED, &[&names]).await;
            rows.map_err(|error| fault_of_ours(doing, &error))
        };
        match self.options.errand(doing, parked).await {
            Ok(rows) => {
                let parked: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                watched.iter().filter(|it| parked.contains(&it.pipeline)).for_each(|it| it.tell());
                Ok(())
            }
            Err(fault) => {
                // Of an outage lanes tell; anything else each pipeline is to meet for itself, and tell.
                if fault.remedy != Remedy::Retry {
                    for it in &watched {
                        it.tell();
                    }
                }
                Err(fault)
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Weak<Watched>>) -> T) -> T {
        change(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
