//! Signals: the first SIGTERM or SIGINT drains, the second ends at once; SIGHUP looks at the plugins again. And how work
//! that takes long learns that nobody wants it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Tells work that takes long to end early. What is made of it by [`Stop::nested`] can be told alone, or with it.
#[derive(Debug, Clone)]
pub struct Stop {
    /// The first is its own.
    flags: Vec<Arc<AtomicBool>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { flags: vec![Arc::default()] }
    }
}

impl Stop {
    /// For a part of the work.
    #[must_use]
    pub fn nested(&self) -> Self {
        let own = std::iter::once(Arc::default());
        Self { flags: own.chain(self.flags.iter().cloned()).collect() }
    }

    /// The work is to end.
    pub fn set(&self) {
        self.flags[0].store(true, Ordering::Relaxed);
    }

    /// True when it is.
    pub fn is_set(&self) -> bool {
        self.flags.iter().any(|it| it.load(Ordering::Relaxed))
    }
}

/// What a process does when it is signalled.
pub trait Obeys: Send + Sync + 'static {
    /// Finish what is under way, then end.
    fn drain(&self);

    /// Look at the plugins' files again.
    fn reload(&self);
}

/// Handles signals on a thread of its own from now on.
///
/// # Errors
/// When the system does not let us handle signals.
pub fn listen(obeys: Arc<dyn Obeys>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = move || {
        let mut draining = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => obeys.reload(),
                _ if draining => {
                    tracing::warn!(
                        "second signal, exiting at once; what is not committed is read again at the next start"
                    );
                    std::process::exit(128 + signal);
                }
                _ => {
                    draining = true;
                    tracing::info!(signal, "draining, a second signal ends at once");
                    obeys.drain();
                }
            }
        }
    };
    std::thread::Builder::new().name("sluice-signals".into()).spawn(handle).map(drop)
}

/// Becomes true on the first Ctrl-C; the second one ends the process at once. For commands that end by themselves.
pub fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    // Where handlers cannot be set, Ctrl-C ends the process, which does no harm either.
    let _ = signal_hook::flag::register_conditional_default(
        signal_hook::consts::SIGINT,
        Arc::clone(&flag),
    );
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&flag));
    flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_work_ends_alone_or_with_all_of_it() {
        let all = Stop::default();
        let (one, other) = (all.nested(), all.clone().nested());
        one.set();
        assert_eq!([one.is_set(), other.is_set(), all.is_set()], [true, false, false]);
        all.set();
        assert!(other.is_set());
    }
}
