//! A plugin that claims our version of the contract but has other types.

#[allow(missing_docs, clippy::pedantic, unsafe_op_in_unsafe_fn)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package sluice:plugin@0.1.0;

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
