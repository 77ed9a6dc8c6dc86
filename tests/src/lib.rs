//! What the tests of the whole stand on: a real broker, a real Postgres, hosts as child processes, a load
//! that knows the truth, a checker that accounts for every offset, and a proxy that breaks connections.

pub mod certificates;
pub mod checker;
pub mod child;
pub mod counts;
pub mod crimes;
pub mod folders;
pub mod gate;
pub mod host;
pub mod kafka;
pub mod load;
pub mod operator;
pub mod pair;
pub mod plugins;
pub mod poison;
pub mod postgres;
pub mod proxy;
pub mod scene;
pub mod vigil;
pub mod wait;
pub mod work;

pub mod verify;

#[cfg(test)]
mod tidy;
