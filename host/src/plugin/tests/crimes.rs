//! Each crime: what the operator reads, and that the same instance works on afterwards.

use super::*;

/// Commits the crime on one batch; then an honest batch must pass, and both must be whole. Only an
/// error result leaves the guest as it was; after all else it must have been replaced.
fn commit(crime: &str) -> String {
    commit_under(crime, limits())
}

fn commit_under(crime: &str, limits: Limits) -> String {
    let generation = hostile_under(crime, limits).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["a", "broken", "c"]);
    let fault = instance.process(&mut batch, &mut decoded).expect_err(crime);
    let (original, original_decoded) = batch_of(&["a", "broken", "c"]);
    assert_eq!(format!("{batch:?}"), format!("{original:?}"), "{crime}");
    assert_eq!(decoded.columns, original_decoded.columns, "{crime}");
    let (mut batch, mut decoded) = batch_of(&["x", "y"]);
    let outcome = instance.process(&mut batch, &mut decoded).expect("an honest batch passes");
    assert_eq!(outcome.tables[0].messages, [0, 1], "{crime}");
    let replaced = !matches!(fault, PluginFault::Failed(_));
    assert_eq!(instance.started(), 1 + u64::from(replaced), "{crime}");
    shown(fault)
}

fn refuse(component_name: &str, settings: serde_json::Value) -> String {
    shown(
        loader(settings)
            .with_limits(hasty_limits())
            .load_file(&component(component_name))
            .expect_err(component_name),
    )
}

#[test]
fn crimes_against_the_host_end_in_the_sandbox() {
    insta::assert_snapshot!(commit("panic"), @"SL-G011: plugin trapped in process: panicked at plugins/hostile/src/crime.rs: cannot divide 3 by nothing");
    insta::assert_snapshot!(commit("trap"), @"SL-G011: plugin trapped in process: wasm `unreachable` instruction executed (at hostile::crime::trap)");
    insta::assert_snapshot!(commit("out-of-bounds"), @"SL-G011: plugin trapped in process: out of bounds memory access (at hostile::crime::read_out_of_bounds)");
    insta::assert_snapshot!(commit("deep-recursion"), @"SL-G014: plugin overflowed its stack in process (at hostile::crime::recurse)");
    insta::assert_snapshot!(commit_under("endless-loop", hasty_limits()), @"SL-G012: plugin took longer than 1s in process (at hostile::crime::endless_loop)");
    insta::assert_snapshot!(commit("memory-hog"), @"SL-G013: plugin wants more than the 64 MiB of memory it may have in process (at hostile::crime::hog_memory)");
    insta::assert_snapshot!(commit("large-output"), @"SL-G015: plugin returned 20971625 bytes, allowed are 16777216 bytes");
    insta::assert_snapshot!(commit("giant-output"), @"SL-G015: plugin returned more than 33554432 bytes, allowed are 16777216 bytes");
    insta::assert_snapshot!(commit("rows-without-end"), @"SL-G015: plugin returned 5000000 rows, allowed are 4000000 rows");
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
    insta::assert_snapshot!(table, @r"
    boolean-of-two       SL-G016: plugin broke the contract: output `hostile`, column `long`: row 0: 2 is neither 0 nor 1
    code-with-spaces     SL-G016: plugin broke the contract: rejection of message 0: code `not a code` is not one word of at most 64 ASCII characters
    ends-descend         SL-G016: plugin broke the contract: output `hostile`, column `note`: row 1: ends at 0, before row 0 does
    ends-pass-the-data   SL-G016: plugin broke the contract: output `hostile`, column `note`: its last value ends at 1000, its data at 0
    extra-column         SL-G016: plugin broke the contract: output `hostile`, 5 columns for 4 computed fields
    invalid-utf8         SL-G016: plugin broke the contract: output `hostile`, column `note`: row 0: not UTF-8
    lengths-differ       SL-G016: plugin broke the contract: output `hostile`, column `length`: 4 values for 3 rows
    message-out-of-range SL-G016: plugin broke the contract: output `hostile`, row 2: message 3, of a batch of 3
    messages-descend     SL-G016: plugin broke the contract: output `hostile`, row 1: message 0 after message 1
    missing-output       SL-G016: plugin broke the contract: returned rows for 0 outputs, described 1
    not-json             SL-G016: plugin broke the contract: output `hostile`, column `detail`: row 0: not JSON
    null-in-required     SL-G016: plugin broke the contract: output `hostile`, column `length`: row 0: no value, though the field is not nullable
    null-of-two          SL-G016: plugin broke the contract: output `hostile`, column `note`: nulls: row 0: 2 is neither 0 nor 1
    reject-and-keep      SL-G016: plugin broke the contract: output `hostile`, row 0: message 0 was rejected
    reject-out-of-range  SL-G016: plugin broke the contract: rejection 0: message 3, of a batch of 3
    reject-twice         SL-G016: plugin broke the contract: rejection 1: message 0 rejected twice
    split-character      SL-G016: plugin broke the contract: output `hostile`, column `note`: row 0: not UTF-8
    wrong-kind           SL-G016: plugin broke the contract: output `hostile`, column `length`: is boolean, described as int64
    ");
}

#[test]
fn an_error_result_fails_the_batch_and_keeps_the_instance() {
    insta::assert_snapshot!(commit("error-result"), @"SL-G017: plugin failed: lookup table is empty second line");
    let generation = hostile("error-result").expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["broken"]);
    instance.process(&mut batch, &mut decoded).expect_err("the crime");
    instance.process(&mut batch, &mut decoded).expect_err("the crime");
    assert_eq!(instance.started(), 1);
}

#[test]
fn components_that_are_no_plugins_are_refused_by_name() {
    insta::assert_snapshot!(refuse("hostile-forbidden-import", json!({})), @"SL-G003: plugin imports what sluice does not offer: hostile:greedy/network@1.0.0");
    insta::assert_snapshot!(refuse("hostile-wrong-world", json!({})), @"SL-G004: plugin does not export sluice:plugin/transform@0.1.0, but hostile:other/run@1.0.0");
    insta::assert_snapshot!(refuse("hostile-wrong-version", json!({})), @"SL-G005: plugin was built for sluice:plugin/transform@0.2.0, this sluice offers sluice:plugin/transform@0.1.0");
    insta::assert_snapshot!(refuse("hostile-wrong-types", json!({})), @"SL-G006: plugin does not fit the contract: instance export `sluice:plugin/transform@0.1.0` does not have export `configure`");
}

#[test]
fn a_plugin_that_cannot_be_configured_or_described_is_refused() {
    let refuse = |crime: &str| refuse("hostile", json!({ "crime": crime }));
    insta::assert_snapshot!(refuse("configure-refuses"), @"SL-G008: plugin refuses its settings: max_power_w must be positive");
    insta::assert_snapshot!(refuse("configure-panics"), @"SL-G011: plugin trapped in configure: panicked at plugins/hostile/src/crime.rs: no settings suit me");
    insta::assert_snapshot!(refuse("configure-loops"), @"SL-G012: plugin took longer than 1s in configure (at hostile::crime::endless_loop)");
    insta::assert_snapshot!(refuse("describe-millions"), @"SL-G015: plugin returned more than 8388608 bytes, allowed are 8388608 bytes");
    insta::assert_snapshot!(refuse("describe-panics"), @"SL-G011: plugin trapped in describe: panicked at plugins/hostile/src/describe.rs: nothing to say");
    insta::assert_snapshot!(refuse("describe-nonsense").replace("; ", ";\n"), @r"
    SL-G009: plugin describes itself wrongly: version `latest` is not a semantic version such as 1.2.3;
    field `hostile.device_id` passes input field 7 through, of 2;
    field `hostile.seq` is float64 and passes `/seq` through, which is int64;
    field `hostile.note` is listed twice;
    an output has no name;
    output `` has no field
    ");
    insta::assert_snapshot!(refuse("no-such-crime").split(',').next().unwrap_or_default(), @"SL-G008: plugin refuses its settings: unknown variant `no-such-crime`");
}

#[test]
fn a_component_may_not_be_larger_than_allowed() {
    let small = Limits { component_bytes_max: 1000, ..limits() };
    let loader = loader(json!({})).with_limits(small);
    let fault = loader.load(&[0; 1001]).expect_err("too big");
    insta::assert_snapshot!(shown(fault), @"SL-G002: plugin has 1001 bytes, more than the 1000 allowed");
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
