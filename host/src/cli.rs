//! Placeholder.

pub mod demo;
pub mod simulate;
