//! What is wrong with a description, and that nothing wrong gets through.

use super::*;

fn input(pointer: &str, kind: WitKind, required: bool) -> wit::InputField {
    wit::InputField { pointer: pointer.into(), kind, required, read: true }
}

fn field(name: &str, kind: WitKind, nullable: bool, source: wit::Source) -> wit::OutputField {
    wit::OutputField { name: name.into(), kind, nullable, source }
}

fn honest() -> wit::Description {
    let fields = vec![
        field("device_id", WitKind::Text, false, wit::Source::Field(0)),
        field("power_w", WitKind::Float64, true, wit::Source::Field(1)),
        field("status", WitKind::Text, false, wit::Source::Computed),
    ];
    wit::Description {
        name: "readings".into(),
        version: "1.2.3-rc.1+build.5".into(),
        reads: wit::Attributes::KEY | wit::Attributes::HEADERS,
        payload: wit::Payload::Json(vec![
            input("/device_id", WitKind::Text, true),
            input("/a~1b/~0c", WitKind::Float64, false),
        ]),
        outputs: vec![wit::Output { name: "readings".into(), fields }],
        settings: "{}".into(),
    }
}

/// What is found in the honest description after `spoil`.
fn findings(spoil: impl FnOnce(&mut wit::Description)) -> String {
    let mut description = honest();
    spoil(&mut description);
    match checked(description, &Limits::default()) {
        Ok(_) => String::new(),
        Err(PluginFault::Description(found)) => found.join("\n"),
        Err(other) => panic!("{other}"),
    }
}

fn inputs(description: &mut wit::Description) -> &mut Vec<wit::InputField> {
    let wit::Payload::Json(fields) = &mut description.payload else { panic!("decoded") };
    fields
}

#[test]
fn an_honest_description_is_taken_over() {
    let description = checked(honest(), &Limits::default()).expect("honest");
    let Attributes { payload, key, timestamp, position, headers } = description.reads;
    assert_eq!((payload, key, timestamp, position, headers), (false, true, false, false, true));
    assert_eq!(description.payload.fields()[1].pointer, "/a~1b/~0c");
    assert_eq!(description.outputs[0].fields[1].source, FieldSource::Field(1));
    assert_eq!(description.outputs[0].fields[2].source, FieldSource::Computed);
}

#[test]
fn each_contradiction_is_named() {
    let check = |spoil: &dyn Fn(&mut wit::Description), expected: &str| {
        assert_eq!(findings(spoil), expected);
    };
    check(&|it| it.name.clear(), "the plugin has no name");
    check(&|it| it.name = "a\nb".into(), "the plugin has control characters in its name `a b`");
    check(&|it| it.settings = "[]".into(), "the schema of the settings is not a JSON object");
    check(
        &|it| inputs(it)[0].pointer = "device_id".into(),
        "input field 0: `device_id` is not a JSON Pointer such as `/power_w`",
    );
    check(
        &|it| inputs(it)[0].pointer = "/a~2".into(),
        "input field 0: `/a~2` is not a JSON Pointer such as `/power_w`",
    );
    check(
        &|it| inputs(it)[1].pointer = "/device_id".into(),
        "input field `/device_id` is listed twice",
    );
    check(&|it| it.outputs.clear(), "there is no output");
    check(&|it| it.outputs.push(it.outputs[0].clone()), "output `readings` is listed twice");
    check(&|it| it.outputs[0].fields.clear(), "output `readings` has no field");
    check(
        &|it| it.outputs[0].fields[2].name = "power_w".into(),
        "field `readings.power_w` is listed twice",
    );
    check(&|it| it.outputs[0].fields[2].name.clear(), "a field of output `readings` has no name");
}

/// Each byte of the innermost is copied once for each field around it.
#[test]
fn fields_within_each_other_are_bounded() {
    let nested = |depth: usize| {
        findings(|it| {
            let pointers = (1..=depth).map(|steps| "/a".repeat(steps));
            inputs(it).extend(pointers.map(|pointer| input(&pointer, WitKind::Json, false)));
        })
    };
    assert_eq!(nested(8), "");
    assert_eq!(nested(9), "input field `/a/a/a/a/a/a/a/a/a` lies within 8 others, more than 7");
}

#[test]
fn what_is_passed_through_must_fit_its_input() {
    let check = |spoil: &dyn Fn(&mut wit::OutputField), expected: &str| {
        assert_eq!(findings(|it| spoil(&mut it.outputs[0].fields[1])), expected);
    };
    check(
        &|field| field.source = wit::Source::Field(2),
        "field `readings.power_w` passes input field 2 through, of 2",
    );
    check(
        &|field| field.kind = WitKind::Int64,
        "field `readings.power_w` is int64 and passes `/a~1b/~0c` through, which is float64",
    );
    check(
        &|field| field.nullable = false,
        "field `readings.power_w` is not nullable and passes `/a~1b/~0c` through, which is not required",
    );
    // Raw payloads have no fields at all.
    assert_eq!(
        findings(|it| it.payload = wit::Payload::Raw),
        "field `readings.device_id` passes input field 0 through, of 0\n\
         field `readings.power_w` passes input field 1 through, of 0"
    );
}

#[test]
fn a_thousand_contradictions_are_cut() {
    let found = findings(|it| {
        *inputs(it) = (0..1_000).map(|_| input("", WitKind::Text, true)).collect();
    });
    assert_eq!(found.lines().count(), FINDINGS_SHOWN_MAX + 1);
    assert!(found.ends_with(" more"), "{found}");
}

/// What is far too much is not looked at one by one.
#[test]
fn millions_of_fields_are_counted_and_nothing_else() {
    let found = findings(|it| {
        *inputs(it) = (0..100_000).map(|_| input("", WitKind::Text, true)).collect();
        it.outputs = vec![it.outputs[0].clone(); 65];
        let fields = &mut it.outputs[0].fields;
        *fields = vec![fields[0].clone(); 1601];
        it.settings = format!("[{}0]", "0,".repeat(40_000));
    });
    assert_eq!(
        found,
        "100000 input fields, more than 1600\n65 outputs, more than 64\n\
         output `readings` has 1601 fields, more than 1600\n\
         the schema of the settings has 80003 bytes, more than 65536"
    );
}

#[test]
fn versions_are_semantic() {
    for version in ["0.0.0", "1.2.3", "10.20.30-alpha.1", "1.0.0+2026"] {
        assert!(is_semantic_version(version), "{version}");
    }
    for version in ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.2.x", "01.2.3", "1.2.3-", "1.2.3 "] {
        assert!(!is_semantic_version(version), "{version}");
    }
}
