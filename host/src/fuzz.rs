//! What a fuzzer checks in the parts that read foreign bytes: each target takes any bytes, and panics where a promise
//! is broken. Only tests and the fuzzer itself (`host/fuzz`) compile this.

mod address;
mod columns;
mod component;
mod copy;
mod decimal;
mod decode;
mod input;
mod numeric;
mod outcome;
mod settings;
mod times;
mod wire;

#[cfg(test)]
mod tests;

/// One thing that is fuzzed.
#[derive(Debug)]
pub struct Target {
    /// By which the fuzzer finds it, and the folder of its inputs in `host/fuzz/corpus`.
    pub name: &'static str,
    /// Panics where the input shows a bug.
    pub check: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target { name: "address", check: address::check },
    Target { name: "component", check: component::check },
    Target { name: "copy", check: copy::check },
    Target { name: "decode", check: decode::check },
    Target { name: "numeric", check: numeric::check },
    Target { name: "outcome", check: outcome::check },
    Target { name: "settings", check: settings::check },
    Target { name: "times", check: times::check },
];
