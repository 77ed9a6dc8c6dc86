//! The road as a whole: real Kafka, real Postgres, real components, real processes.

mod advice;
mod commands;
mod commit;
mod deaths;
mod fixtures;
mod happy;
mod hold;
mod hostile;
mod kill;
mod memory;
mod outage;
mod rebalance;
mod resolve;
mod secure;
mod swap;
mod topics;
mod zombie;
