//! A plugin of a later version of the contract.

#[allow(missing_docs, clippy::pedantic, unsafe_op_in_unsafe_fn)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package sluice:plugin@0.2.0;

            interface transform {
                process: func(messages: list<string>) -> list<string>;
            }

            world plugin {
                export transform;
            }
        ",
    });
    export!(Other with_types_in self);
    use super::Other;
}

struct Other;

impl bindings::exports::sluice::plugin::transform::Guest for Other {
    fn process(messages: Vec<String>) -> Vec<String> {
        messages
    }
}
