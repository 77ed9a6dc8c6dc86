//! Feeds the decoder sequences of messages and compares what it learned with its scanner and with `serde_json`.
//! How to run it stands in `Cargo.toml`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| sluice_fuzz::check(input));
