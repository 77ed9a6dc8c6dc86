//! Sluice moves Kafka messages into Postgres tables at bulk speed, exactly once, with a sandboxed
//! WebAssembly plugin in between. The modules stand in the order in which a batch travels.

pub mod settings;

pub mod pipeline;

pub mod source;

pub mod columns;

pub mod batch;

pub mod description;

pub mod exact;

pub mod decode;

pub mod plugin;

pub mod rows;

pub mod sink;

pub mod relay;

pub mod fault;

pub mod printable;

pub mod files;

pub mod backoff;

pub mod bell;

pub mod threads;

pub mod explain;

pub mod memory;

pub mod process;

pub mod shutdown;

pub mod versions;

pub mod progress;

pub mod simulate;

pub mod demo;

pub mod cli;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

#[cfg(test)]
mod readme;
