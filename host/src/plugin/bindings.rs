//! What wasmtime generates from `wit/plugin.wit`; nothing else.
#![allow(missing_docs, clippy::pedantic, reason = "generated")]

// Owning (the default): a record parameter is taken by reference all the same, and one value can be
// kept and refilled from batch to batch.
wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
});
