//! The sink against a real Postgres: one server per test process, one database per test.

mod advance;
mod cells;
mod claims;
mod commit;
mod crashes;
mod dead_letters;
mod definitions;
mod differential;
mod digits;
mod dropped;
pub(crate) mod lab;
mod login;
mod migrate;
mod modes;
mod outages;
mod outbox;
mod parked;
mod plan;
mod proxy;
mod refusals;
mod refused;
mod resolve;
mod search;
mod search_path;
mod sessions;
mod tls;
