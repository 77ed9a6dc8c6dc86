//! The road as a whole: real Kafka, real Postgres, real components, real processes.

mod advice;
mod brokers;
mod commands;
mod commit;
mod cut;
mod deaths;
mod digits;
mod fixtures;
mod happy;
mod hold;
mod hostile;
mod kill;
mod letters;
mod memory;
mod outage;
mod pause;
mod poison;
mod rebalance;
mod relay;
mod resolve;
mod retry;
mod secure;
mod swap;
mod topics;
mod zombie;
