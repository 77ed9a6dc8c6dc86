//! The road as a whole: real Kafka, real Postgres, real components, real processes.

mod advice;
mod commands;
mod commit;
mod fixtures;
mod happy;
mod hostile;
mod kill;
mod letters;
mod memory;
mod outage;
mod pause;
mod poison;
mod rebalance;
mod relay;
mod retry;
mod secure;
mod swap;
mod topics;
mod zombie;
