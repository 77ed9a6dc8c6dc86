//! The road as a whole: real Kafka, real Postgres, real components, real processes.

mod advice;
mod commands;
mod commit;
mod fixtures;
mod happy;
mod hostile;
mod kill;
mod memory;
mod outage;
mod poison;
mod rebalance;
mod secure;
mod swap;
mod topics;
mod zombie;
