//! A component that is no plugin.

#[allow(missing_docs, clippy::pedantic, unsafe_op_in_unsafe_fn)]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package hostile:other@1.0.0;

            interface run {
                run: func() -> u32;
            }

            world other {
                export run;
            }
        ",
    });
    export!(Other with_types_in self);
    use super::Other;
}

struct Other;

impl bindings::exports::hostile::other::run::Guest for Other {
    fn run() -> u32 {
        42
    }
}
