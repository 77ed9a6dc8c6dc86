//! Permits for a bounded number of things, first come, first served; those who have one and can do without learn
//! when somebody waits. Knows not what the permits are for.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A bounded number of permits.
#[derive(Debug)]
pub struct Turns {
    permits: Arc<Semaphore>,
    demand: Mutex<Demand>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Demand {
    /// How many wait for a permit.
    waiting: usize,
    /// How many of them nobody has given one up for.
    unmet: usize,
    /// Permits that were taken away while somebody had them: they are not given out again.
    owed: usize,
}

/// The right to have one thing; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    turns: Arc<Turns>,
}

impl Turns {
    /// With `max` permits.
    pub fn new(max: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(max));
        Arc::new(Self { permits, demand: Mutex::default(), wanted: Notify::new() })
    }

    /// A permit, when it is our turn.
    pub async fn permit(self: &Arc<Self>) -> Permit {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                let _waiting = Waiting::begin(self);
                // Fails only with a semaphore that was closed, and this one never is.
                self.permits.clone().acquire_owned().await.ok()
            }
        };
        Permit { permit, turns: self.clone() }
    }

    /// Returns when somebody waits; the caller then gives its permit up, and nobody else does for the same one.
    pub async fn wanted(&self) {
        loop {
            let mut notified = std::pin::pin!(self.wanted.notified());
            notified.as_mut().enable();
            if self.meet_demand() {
                return;
            }
            notified.await;
        }
    }

    /// Fewer permits from now on; those in use count when they come back.
    pub fn take_away(&self, count: usize) {
        let forgotten = self.permits.forget_permits(count);
        self.change(|demand| demand.owed += count - forgotten);
    }

    fn meet_demand(&self) -> bool {
        self.change(|demand| {
            let wanted = demand.unmet > 0;
            demand.unmet -= usize::from(wanted);
            wanted
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Demand) -> T) -> T {
        change(&mut self.demand.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let owed = self.turns.change(|demand| {
            let owed = demand.owed > 0;
            demand.owed -= usize::from(owed);
            owed
        });
        if owed && let Some(permit) = self.permit.take() {
            permit.forget();
        }
    }
}

/// Counts as waiting until it is dropped.
struct Waiting<'a>(&'a Turns);

impl<'a> Waiting<'a> {
    fn begin(turns: &'a Turns) -> Self {
        turns.change(|demand| {
            demand.waiting += 1;
            demand.unmet += 1;
        });
        turns.wanted.notify_waiters();
        Self(turns)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // It may have got what came back by itself: then nobody has to give one up for it.
        self.0.change(|demand| {
            demand.waiting -= 1;
            demand.unmet = demand.unmet.min(demand.waiting);
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        future.now_or_never()
    }

    #[test]
    fn one_gives_up_for_each_who_waits() {
        let turns = Turns::new(2);
        let taken: Vec<Permit> = (0..2).map(|_| now(turns.permit()).unwrap()).collect();
        assert!(now(turns.wanted()).is_none(), "nobody waits");
        let mut next = Box::pin(turns.permit());
        assert!(now(next.as_mut()).is_none());
        assert!(now(turns.wanted()).is_some(), "somebody waits");
        assert!(now(turns.wanted()).is_none(), "for one");
        drop(taken);
        assert!(now(next).is_some());
        assert!(now(turns.wanted()).is_none());
    }

    #[test]
    fn who_waits_no_more_is_not_waited_for() {
        let turns = Turns::new(1);
        let _taken = now(turns.permit()).unwrap();
        assert!(now(turns.permit()).is_none());
        assert!(now(turns.wanted()).is_none(), "it was dropped");
    }

    #[test]
    fn permits_in_use_are_taken_away_when_they_come_back() {
        let turns = Turns::new(3);
        let taken: Vec<Permit> = (0..3).map(|_| now(turns.permit()).unwrap()).collect();
        turns.take_away(2);
        drop(taken);
        let _one = now(turns.permit()).unwrap();
        assert!(now(turns.permit()).is_none());
    }
}
