//! A plugin that also wants a network.

#[allow(missing_docs, clippy::pedantic, unsafe_op_in_unsafe_fn)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package hostile:greedy@1.0.0;

            interface network {
                connect: func(host: string) -> u32;
            }

            world greedy {
                import network;
                import sluice:plugin/log@0.1.0;
                export sluice:plugin/transform@0.1.0;
            }
        ",
        generate_all,
    });
    export!(Greedy with_types_in self);
    use super::Greedy;
}

use bindings::exports::sluice::plugin::transform::{Batch, Guest, Outcome};
use bindings::hostile::greedy::network::connect;
use bindings::sluice::plugin::schema::{Attributes, Description, Payload};

struct Greedy;

impl Guest for Greedy {
    fn configure(_settings: String) -> Result<(), String> {
        Ok(())
    }

    fn describe() -> Description {
        Description {
            name: "greedy".into(),
            version: "1.0.0".into(),
            reads: Attributes::PAYLOAD,
            payload: Payload::Raw,
            outputs: Vec::new(),
            settings: String::new(),
        }
    }

    fn process(batch: Batch) -> Result<Outcome, String> {
        Err(format!("sent {} to {}", batch.count, connect("collector.example")))
    }
}
