//! The decoder and the data types it needs, taken from the host's sources: nothing else is compiled. The fuzzer takes
//! them from the host itself.
#![cfg(not(fuzzing))]

#[path = "../../src"]
mod host {
    #![allow(dead_code, reason = "the rest of the host uses more of it")]

    pub mod batch;
    pub mod columns;
    pub mod decode;
    pub mod description;
    pub mod exact;
    pub mod rows;
}

pub use host::{batch, columns, decode, description, exact, rows};
