//! The road, measured.
fn main() {}
