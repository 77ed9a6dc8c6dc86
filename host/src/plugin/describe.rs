//! A plugin's description, translated into the host's own types and checked against itself: everything
//! that can be settled once is settled here, so that no batch has to ask again.

use std::collections::HashSet;

use super::bindings::sluice::plugin::columns::Kind as WitKind;
use super::bindings::sluice::plugin::schema as wit;
use super::fault::{PluginFault, printable};
use super::limits::Limits;
use crate::columns::Kind;
use crate::description::{
    Attributes, Description, FieldSource, InputField, Output, OutputField, Payload,
};
use crate::printable::is_unprintable;

/// Translates and checks; all that is wrong is said at once.
pub(super) fn checked(
    description: wit::Description,
    limits: &Limits,
) -> Result<Description, PluginFault> {
    let mut wrong = Findings { limits, found: Vec::new(), more: 0 };
    // Before anything is made of it: there may be millions of each.
    check_counts(&description, &mut wrong);
    wrong.fail_if_any()?;
    let description = translate(description);
    let mut wrong = Findings { limits, found: Vec::new(), more: 0 };
    check_identity(&description, &mut wrong);
    check_inputs(description.payload.fields(), &mut wrong);
    check_outputs(&description, &mut wrong);
    wrong.fail_if_any()?;
    Ok(description)
}

const FINDINGS_SHOWN_MAX: usize = 10;
/// Of a name that was not checked yet.
const NAME_SHOWN_BYTES: usize = 64;

struct Findings<'a> {
    limits: &'a Limits,
    found: Vec<String>,
    /// How many are not shown: a hostile description may be wrong a thousand times.
    more: usize,
}

impl Findings<'_> {
    fn say_if(&mut self, wrong: bool, finding: impl FnOnce() -> String) {
        if wrong && self.found.len() < FINDINGS_SHOWN_MAX {
            self.found.push(finding());
        } else {
            self.more += usize::from(wrong);
        }
    }

    fn fail_if_any(mut self) -> Result<(), PluginFault> {
        if self.more > 0 {
            self.found.push(format!("and {} more", self.more));
        }
        if self.found.is_empty() { Ok(()) } else { Err(PluginFault::Description(self.found)) }
    }

    /// Names become names of columns and labels, and stand in messages: short and on one line.
    fn check_name(&mut self, what: &str, name: &str) {
        let max = self.limits.name_bytes_max;
        self.say_if(name.is_empty(), || format!("{what} has no name"));
        self.say_if(name.len() > max, || {
            format!("{what} has a name of {} bytes, more than {max}", name.len())
        });
        self.say_if(name.contains(is_unprintable), || {
            format!("{what} has control characters in its name `{}`", printable(name, max))
        });
    }
}

fn check_counts(description: &wit::Description, wrong: &mut Findings<'_>) {
    let Limits { fields_max, outputs_max, schema_bytes_max, .. } = *wrong.limits;
    let inputs = match &description.payload {
        wit::Payload::Raw => 0,
        wit::Payload::Json(fields) => fields.len(),
    };
    wrong.say_if(inputs > fields_max, || format!("{inputs} input fields, more than {fields_max}"));
    let outputs = &description.outputs;
    wrong.say_if(outputs.len() > outputs_max, || {
        format!("{} outputs, more than {outputs_max}", outputs.len())
    });
    for wit::Output { name, fields } in outputs {
        wrong.say_if(fields.len() > fields_max, || {
            let name = printable(name, NAME_SHOWN_BYTES);
            format!("output `{name}` has {} fields, more than {fields_max}", fields.len())
        });
    }
    let bytes = description.settings.len();
    wrong.say_if(bytes > schema_bytes_max, || {
        format!("the schema of the settings has {bytes} bytes, more than {schema_bytes_max}")
    });
}

fn check_identity(description: &Description, wrong: &mut Findings<'_>) {
    wrong.check_name("the plugin", &description.name);
    let version = &description.version;
    wrong.say_if(!is_semantic_version(version), || {
        format!("version `{}` is not a semantic version such as 1.2.3", printable(version, 64))
    });
    let schema = &description.settings_schema;
    let is_object =
        || serde_json::from_str::<serde_json::Value>(schema).is_ok_and(|schema| schema.is_object());
    wrong.say_if(!schema.is_empty() && !is_object(), || {
        "the schema of the settings is not a JSON object".into()
    });
}

fn is_semantic_version(version: &str) -> bool {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').collect();
    let is_number = |text: &&str| {
        !text.is_empty()
            && text.len() <= 10
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text.len() == 1 || !text.starts_with('0'))
    };
    let is_suffix_byte = |byte: u8| byte.is_ascii_alphanumeric() || b".-+".contains(&byte);
    numbers.len() == 3
        && numbers.iter().all(is_number)
        && version.len() <= 64
        && version.len() != core.len() + 1
        && version.bytes().skip(core.len()).all(is_suffix_byte)
}

/// Of fields that lie within each other each byte is copied once for each.
const WITHIN_MAX: usize = 7;

fn check_inputs(fields: &[InputField], wrong: &mut Findings<'_>) {
    let mut seen: HashSet<&str> = HashSet::new();
    let all: HashSet<&str> = fields.iter().map(|field| field.pointer.as_str()).collect();
    for (index, InputField { pointer, .. }) in fields.iter().enumerate() {
        let shown = printable(pointer, wrong.limits.name_bytes_max);
        let slashes = pointer.match_indices('/');
        let within = slashes.filter(|&(at, _)| at > 0 && all.contains(&pointer[..at])).count();
        wrong.say_if(within > WITHIN_MAX, || {
            format!("input field `{shown}` lies within {within} others, more than {WITHIN_MAX}")
        });
        wrong.say_if(!seen.insert(pointer), || format!("input field `{shown}` is listed twice"));
        wrong.say_if(!is_pointer(pointer), || {
            format!("input field {index}: `{shown}` is not a JSON Pointer such as `/power_w`")
        });
        wrong.say_if(pointer.len() > wrong.limits.name_bytes_max, || {
            format!("input field {index}: a pointer of {} bytes", pointer.len())
        });
    }
}

/// RFC 6901; the empty pointer, which means the whole document, is what raw payloads are for.
fn is_pointer(pointer: &str) -> bool {
    let escapes_are_right = || pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    pointer.starts_with('/') && escapes_are_right()
}

fn check_outputs(description: &Description, wrong: &mut Findings<'_>) {
    let outputs = &description.outputs;
    wrong.say_if(outputs.is_empty(), || "there is no output".into());
    let mut seen = HashSet::new();
    for output in outputs {
        let shown = printable(&output.name, wrong.limits.name_bytes_max);
        wrong.check_name("an output", &output.name);
        wrong.say_if(!seen.insert(&output.name), || format!("output `{shown}` is listed twice"));
        check_fields(&shown, &output.fields, description.payload.fields(), wrong);
    }
}

fn check_fields(
    output: &str,
    fields: &[OutputField],
    inputs: &[InputField],
    wrong: &mut Findings<'_>,
) {
    wrong.say_if(fields.is_empty(), || format!("output `{output}` has no field"));
    let mut seen = HashSet::new();
    for field in fields {
        let shown = printable(&field.name, wrong.limits.name_bytes_max);
        wrong.check_name(&format!("a field of output `{output}`"), &field.name);
        wrong.say_if(!seen.insert(&field.name), || {
            format!("field `{output}.{shown}` is listed twice")
        });
        if let FieldSource::Field(index) = field.source
            && let Err(finding) = check_pass_through(field, index, inputs)
        {
            wrong.say_if(true, || format!("field `{output}.{shown}` {finding}"));
        }
    }
}

fn check_pass_through(
    field: &OutputField,
    index: usize,
    inputs: &[InputField],
) -> Result<(), String> {
    let Some(input) = inputs.get(index) else {
        return Err(format!("passes input field {index} through, of {}", inputs.len()));
    };
    let pointer = printable(&input.pointer, 256);
    if field.kind != input.kind {
        let (to, from) = (field.kind.name(), input.kind.name());
        return Err(format!("is {to} and passes `{pointer}` through, which is {from}"));
    }
    if !field.nullable && !input.required {
        return Err(format!(
            "is not nullable and passes `{pointer}` through, which is not required"
        ));
    }
    Ok(())
}

fn translate(description: wit::Description) -> Description {
    let reads = |flag| description.reads.contains(flag);
    Description {
        reads: Attributes {
            payload: reads(wit::Attributes::PAYLOAD),
            key: reads(wit::Attributes::KEY),
            timestamp: reads(wit::Attributes::TIMESTAMP),
            position: reads(wit::Attributes::POSITION),
            headers: reads(wit::Attributes::HEADERS),
        },
        name: description.name,
        version: description.version,
        payload: match description.payload {
            wit::Payload::Raw => Payload::Raw,
            wit::Payload::Json(fields) => {
                Payload::Json(fields.into_iter().map(translate_input).collect())
            }
        },
        outputs: description.outputs.into_iter().map(translate_output).collect(),
        settings_schema: description.settings,
    }
}

fn translate_input(field: wit::InputField) -> InputField {
    let wit::InputField { pointer, kind, required, read } = field;
    InputField { pointer, kind: translate_kind(kind), required, read }
}

fn translate_output(output: wit::Output) -> Output {
    let fields = output.fields.into_iter().map(|field| OutputField {
        name: field.name,
        kind: translate_kind(field.kind),
        nullable: field.nullable,
        source: match field.source {
            wit::Source::Computed => FieldSource::Computed,
            wit::Source::Field(index) => FieldSource::Field(index as usize),
        },
    });
    Output { fields: fields.collect(), name: output.name }
}

fn translate_kind(kind: WitKind) -> Kind {
    match kind {
        WitKind::Boolean => Kind::Boolean,
        WitKind::Int64 => Kind::Int64,
        WitKind::Float64 => Kind::Float64,
        WitKind::Text => Kind::Text,
        WitKind::Bytes => Kind::Bytes,
        WitKind::Timestamp => Kind::Timestamp,
        WitKind::Json => Kind::Json,
        WitKind::Int64List => Kind::Int64List,
        WitKind::Float64List => Kind::Float64List,
    }
}

#[cfg(test)]
mod tests;
