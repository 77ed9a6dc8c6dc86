//! Plugin: one call a batch, columns in, checked rows out. Knows no Kafka and no Postgres.

pub mod bindings;
pub mod check;
pub mod engine;
pub mod instance;
pub mod limits;
pub mod load;
pub mod slot;
