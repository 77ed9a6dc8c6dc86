//! Commands, one file each.

pub mod plugin;
