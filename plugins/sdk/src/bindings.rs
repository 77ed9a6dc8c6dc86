//! Generated from `wit/plugin.wit`; not for authors.
#![allow(missing_docs, unsafe_op_in_unsafe_fn, clippy::all, clippy::pedantic)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "sluice_plugin::bindings",
});
