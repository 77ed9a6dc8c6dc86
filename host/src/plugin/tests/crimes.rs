//! Each crime: what the operator reads, and that the same instance works on afterwards.

use super::*;

/// Commits the crime on one batch; then an honest batch must pass, and both must be whole.
fn commit(crime: &str) -> String {
    let generation = hostile(crime).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["a", "broken", "c"]);
    let fault = instance.process(&mut batch, &mut decoded).expect_err(crime);
    let (original, original_decoded) = batch_of(&["a", "broken", "c"]);
    assert_eq!(format!("{batch:?}"), format!("{original:?}"), "{crime}");
    assert_eq!(decoded.columns, original_decoded.columns, "{crime}");
    let (mut batch, mut decoded) = batch_of(&["x", "y"]);
    let outcome = instance.process(&mut batch, &mut decoded).expect("an honest batch passes");
    assert_eq!(outcome.tables[0].messages, [0, 1], "{crime}");
    shown(fault)
}

fn refuse(component_name: &str, settings: serde_json::Value) -> String {
    shown(loader(settings).load_file(&component(component_name)).expect_err(component_name))
}

#[test]
fn crimes_against_the_host_end_in_the_sandbox() {
    insta::assert_snapshot!(commit("panic"), @"");
    insta::assert_snapshot!(commit("trap"), @"");
    insta::assert_snapshot!(commit("out-of-bounds"), @"");
    insta::assert_snapshot!(commit("deep-recursion"), @"");
    insta::assert_snapshot!(commit("endless-loop"), @"");
    insta::assert_snapshot!(commit("memory-hog"), @"");
    insta::assert_snapshot!(commit("giant-output"), @"");
    insta::assert_snapshot!(commit("rows-without-end"), @"");
}

#[test]
fn lies_in_an_outcome_are_named() {
    let lies = [
        "boolean-of-two",
        "code-with-spaces",
        "ends-descend",
        "ends-pass-the-data",
        "extra-column",
        "invalid-utf8",
        "lengths-differ",
        "message-out-of-range",
        "messages-descend",
        "missing-output",
        "not-json",
        "null-in-required",
        "null-of-two",
        "reject-and-keep",
        "reject-out-of-range",
        "reject-twice",
        "split-character",
        "wrong-kind",
    ];
    let table: String = lies.map(|lie| format!("{lie:<21}{}\n", commit(lie))).concat();
    insta::assert_snapshot!(table, @"");
}

#[test]
fn an_error_result_fails_the_batch_and_keeps_the_instance() {
    insta::assert_snapshot!(commit("error-result"), @"");
    let generation = hostile("error-result").expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["broken"]);
    instance.process(&mut batch, &mut decoded).expect_err("the crime");
    instance.process(&mut batch, &mut decoded).expect_err("the crime");
    assert_eq!(instance.started(), 1);
}

#[test]
fn components_that_are_no_plugins_are_refused_by_name() {
    insta::assert_snapshot!(refuse("hostile-forbidden-import", json!({})), @"");
    insta::assert_snapshot!(refuse("hostile-wrong-world", json!({})), @"");
    insta::assert_snapshot!(refuse("hostile-wrong-version", json!({})), @"");
    insta::assert_snapshot!(refuse("hostile-wrong-types", json!({})), @"");
}

#[test]
fn a_plugin_that_cannot_be_configured_or_described_is_refused() {
    let refuse = |crime: &str| refuse("hostile", json!({ "crime": crime }));
    insta::assert_snapshot!(refuse("configure-refuses"), @"");
    insta::assert_snapshot!(refuse("configure-panics"), @"");
    insta::assert_snapshot!(refuse("configure-loops"), @"");
    insta::assert_snapshot!(refuse("describe-panics"), @"");
    insta::assert_snapshot!(refuse("describe-nonsense").replace("; ", ";\n"), @"");
    insta::assert_snapshot!(refuse("no-such-crime").split(',').next().unwrap_or_default(), @"");
}

#[test]
fn a_component_may_not_be_larger_than_allowed() {
    let small = Limits { component_bytes_max: 1000, ..limits() };
    let loader = loader(json!({})).with_limits(small);
    let fault = loader.load(&[0; 1001]).expect_err("too big");
    insta::assert_snapshot!(shown(fault), @"");
    assert!(matches!(
        loader.load_file(&component("hostile")),
        Err(PluginFault::TooBig { max: 1000, .. })
    ));
}

#[test]
fn memory_taken_by_a_hog_is_given_back() {
    let generation = hostile("memory-hog").expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["broken"]);
    instance.process(&mut batch, &mut decoded).expect_err("the crime");
    let before = resident_bytes();
    for _ in 0..10 {
        instance.process(&mut batch, &mut decoded).expect_err("the crime");
    }
    // Ten times 64 MiB were taken; other tests run beside.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes more than before");
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: usize = statm.split(' ').nth(1).and_then(|it| it.parse().ok()).expect("a number");
    pages * 4096
}
