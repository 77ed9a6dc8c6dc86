//! Lines for the host's log, which adds pipeline, plugin and batch and limits their rate.
//!
//! `log::info!("{} devices", count)`, and likewise `trace!`, `debug!`, `warn!`, `error!`. Outside
//! a component (in unit tests) lines go to stderr.

pub use crate::bindings::sluice::plugin::log::Level;
#[doc(inline)]
pub use crate::{
    log_debug as debug, log_error as error, log_info as info, log_trace as trace, log_warn as warn,
};

/// Writes one line; the macros are the usual way.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::sluice::plugin::log::write(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{}: {message}", name(level));
}

#[cfg(not(target_arch = "wasm32"))]
fn name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// Writes a line of level trace.
#[macro_export]
#[doc(hidden)]
macro_rules! log_trace {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Trace, &::std::format!($($message)+)) };
}

/// Writes a line of level debug.
#[macro_export]
#[doc(hidden)]
macro_rules! log_debug {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Debug, &::std::format!($($message)+)) };
}

/// Writes a line of level info.
#[macro_export]
#[doc(hidden)]
macro_rules! log_info {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Info, &::std::format!($($message)+)) };
}

/// Writes a line of level warn.
#[macro_export]
#[doc(hidden)]
macro_rules! log_warn {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Warn, &::std::format!($($message)+)) };
}

/// Writes a line of level error.
#[macro_export]
#[doc(hidden)]
macro_rules! log_error {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Error, &::std::format!($($message)+)) };
}
