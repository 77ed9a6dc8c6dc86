//! The fuzzer: libFuzzer over one target of `sluice::fuzz`, which `SLUICE_FUZZ` names. How to build and run it stands
//! in `Cargo.toml`.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod targets {
    use std::sync::LazyLock;

    use sluice::fuzz::{TARGETS, Target};

    static TARGET: LazyLock<&Target> = LazyLock::new(|| {
        let name = std::env::var("SLUICE_FUZZ").unwrap_or_default();
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        let found = TARGETS.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| panic!("SLUICE_FUZZ is {name:?}, not one of {}", names.join(", ")))
    });

    libfuzzer_sys::fuzz_target!(|input: &[u8]| (TARGET.check)(input));
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!(
        "built without counters; build it as Cargo.toml says, or let `cargo verify fuzz` do it"
    );
    std::process::exit(2);
}
