//! The road as a whole: real Kafka, real Postgres, real components, real processes.

mod fixtures;
