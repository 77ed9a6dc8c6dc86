//! The server processes behind the sessions of this process. A process of the server serves one session at a time; two that
//! have the same one share it through a pooler that hands it on after each transaction. Nothing that a session is set up
//! with holds there: settings, prepared statements, temporary tables and locks are those of whoever came before.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Those that sessions of this process have now.
static TAKEN: Mutex<BTreeSet<Backend>> = Mutex::new(BTreeSet::new());

/// A process of a server: its number, and when it was started, because numbers are used again and servers are many.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Backend {
    pub pid: i32,
    pub started: String,
}

/// Kept as long as the session that has it.
#[derive(Debug)]
pub(super) struct Taken(Backend);

impl Backend {
    /// `None` when another session of this process has it.
    pub fn take(self) -> Option<Taken> {
        taken().insert(self.clone()).then(|| Taken(self))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        taken().remove(&self.0);
    }
}

fn taken() -> MutexGuard<'static, BTreeSet<Backend>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_had_by_one_session_at_a_time() {
        let backend = |started: &str| Backend { pid: -7, started: started.to_owned() };
        let first = backend("monday").take();
        assert!(first.is_some());
        assert!(backend("monday").take().is_none());
        assert!(backend("tuesday").take().is_some(), "another one with the same number");
        drop(first);
        assert!(backend("monday").take().is_some());
    }
}
