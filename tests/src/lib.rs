//! What the tests of the whole stand on.

pub mod verify;

#[cfg(test)]
mod tidy;
