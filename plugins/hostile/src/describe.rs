//! What the guest says of itself: the truth, unless its crime is a lie.

use crate::bindings::sluice::plugin::columns::Kind;
use crate::bindings::sluice::plugin::schema::{
    Attributes, Description, InputField, Output, OutputField, Payload, Source,
};
use crate::crime::Crime;

/// The description under `crime`.
pub fn describe(crime: Crime) -> Description {
    let mut description = honest();
    match crime {
        Crime::DescribeNonsense => lie(&mut description),
        Crime::DescribePanics => panic!("nothing to say"),
        Crime::DescribeMillions => {
            let fields = (0..400_000).map(|_| input("", Kind::Text, true));
            description.payload = Payload::Json(fields.collect());
        }
        _ => {}
    }
    description
}

fn honest() -> Description {
    Description {
        name: "hostile".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        reads: Attributes::PAYLOAD,
        payload: Payload::Json(vec![
            input("/device_id", Kind::Text, true),
            input("/seq", Kind::Int64, false),
        ]),
        outputs: vec![Output {
            name: "hostile".into(),
            fields: vec![
                field("device_id", Kind::Text, false, Source::Field(0)),
                field("seq", Kind::Int64, false, Source::Field(1)),
                field("length", Kind::Int64, false, Source::Computed),
                field("note", Kind::Text, true, Source::Computed),
                field("detail", Kind::Json, true, Source::Computed),
                field("long", Kind::Boolean, false, Source::Computed),
            ],
        }],
        settings:
            r#"{"type":"object","properties":{"crime":{"type":"string"},"on":{"type":"string"},"told":{"type":"boolean"}}}"#
                .into(),
    }
}

fn input(pointer: &str, kind: Kind, read: bool) -> InputField {
    InputField { pointer: pointer.into(), kind, required: true, read }
}

fn field(name: &str, kind: Kind, nullable: bool, source: Source) -> OutputField {
    OutputField { name: name.into(), kind, nullable, source }
}

fn lie(description: &mut Description) {
    description.version = "latest".into();
    let fields = &mut description.outputs[0].fields;
    fields[0].source = Source::Field(7);
    fields[1].kind = Kind::Float64;
    fields[2].name = "note".into();
    description.outputs.push(Output { name: String::new(), fields: Vec::new() });
}
