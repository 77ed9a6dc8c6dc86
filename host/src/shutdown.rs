//! Signals: the first SIGTERM or SIGINT drains, the second ends at once; SIGHUP looks at the plugins again.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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
                        "second signal, ending at once; what is under way is read again later"
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
    std::thread::Builder::new().name("signals".into()).spawn(handle).map(drop)
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
