//! What the tests of the whole stand on.

#[cfg(test)]
mod tidy;
