//! Plugin: one call a batch, columns in, checked rows out. Knows no Kafka and no Postgres.
//!
//! A file's bytes become a [`Generation`] (`load`), a generation makes an [`Instance`] per lane, and an instance turns
//! batches into checked outcomes. A [`Slot`] has what the lanes work with now, and a [`Watcher`] replaces it while
//! messages flow.
//!
//! [`Generation`]: crate::plugin::load::Generation
//! [`Instance`]: crate::plugin::instance::Instance
//! [`Slot`]: crate::plugin::slot::Slot
//! [`Watcher`]: crate::plugin::watch::Watcher

pub mod bindings;
pub(crate) mod cache;
pub mod check;
pub mod compile;
mod contract;
mod describe;
pub mod engine;
mod exchange;
pub mod fault;
mod frames;
mod guest_log;
pub mod instance;
mod isolate;
pub mod limits;
pub mod linked;
pub mod load;
pub mod slot;
mod state;
#[cfg(test)]
mod tests;
pub mod watch;

pub use self::fault::PluginFault;
pub use self::instance::{Context, Instance};
pub use self::limits::Limits;
pub use self::load::{Generation, Loader};
pub use self::slot::Slot;
pub use self::watch::Watcher;
