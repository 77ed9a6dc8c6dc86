//! Messages at fault are found by bisection; the others become rows in their order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::rows::{Outcome, Rejection, RowColumn};

/// `len` messages named by their number, of which `bad` make the plugin commit its crime.
fn batch_with(len: usize, bad: &BTreeSet<usize>) -> (Batch, Decoded) {
    let names: Vec<String> = (0..len)
        .map(|row| if bad.contains(&row) { format!("broken-{row}") } else { row.to_string() })
        .collect();
    batch_of(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Every message has one disposition, rows are in order and contain their own values, guests were not wasted.
fn check(crime: &str, len: usize, bad: &BTreeSet<usize>) -> Vec<Rejection> {
    let generation = hostile_under(crime, hasty_limits()).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_with(len, bad);
    let outcome = instance.process_around(&mut batch, &mut decoded).expect(crime);
    let (original, original_decoded) = batch_with(len, bad);
    assert_eq!(format!("{batch:?}"), format!("{original:?}"), "the batch is as it was");
    assert_eq!(decoded.columns, original_decoded.columns, "{crime}");
    let good: Vec<u32> = (0..len as u32).filter(|row| !bad.contains(&(*row as usize))).collect();
    assert_eq!(outcome.tables[0].messages, good, "{crime}");
    assert_computed(&outcome, &good);
    let rejected: Vec<usize> = outcome.rejections.iter().map(|it| it.message as usize).collect();
    assert_eq!(rejected, bad.iter().copied().collect::<Vec<_>>(), "{crime}");
    // Each fault costs a guest; a part that fails and has more than one message costs two more calls.
    let faults = instance.started() - u64::from(instance.memory_bytes() > 0);
    let calls = 1 + 2 * (faults - bad.len() as u64);
    let halvings = u64::from(len.next_power_of_two().trailing_zeros());
    assert!(calls <= 2 * bad.len() as u64 * halvings + 2, "{calls} calls for {bad:?} of {len}");
    outcome.rejections.clone()
}

/// The hostile plugin computes nothing but what `honest` returns: one value per row.
fn assert_computed(outcome: &Outcome, good: &[u32]) {
    for column in &outcome.tables[0].columns {
        if let RowColumn::Computed(column) = column {
            assert_eq!(column.len(), good.len());
        }
    }
}

/// It would be so with each batch as large.
#[test]
fn a_batch_that_passes_in_parts_alone_was_too_large() {
    let mut found = 0;
    for power in 4..20 {
        let limits = Limits { output_bytes_max: 1 << power, ..hasty_limits() };
        let generation = hostile_under("none", limits).expect("a plugin that loads");
        let mut instance = instance(&generation);
        let (mut batch, mut decoded) = batch_with(1000, &BTreeSet::new());
        let Ok(outcome) = instance.process_around(&mut batch, &mut decoded) else { continue };
        if !outcome.rejections.is_empty() {
            assert!(!instance.take_too_large(), "messages are at fault");
            continue;
        }
        assert_eq!(outcome.tables[0].messages, (0..1000).collect::<Vec<_>>());
        found += usize::from(instance.take_too_large());
        assert!(!instance.take_too_large(), "it is told once");
    }
    assert!(found > 0, "no limit was between a part and all of it");
    let generation = hostile_under("panic", hasty_limits()).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_with(100, &BTreeSet::from([7]));
    instance.process_around(&mut batch, &mut decoded).expect("one is rejected");
    assert!(!instance.take_too_large());
}

#[test]
fn violating_rows_are_found_wherever_they_are() {
    for len in [1, 2, 3, 7, 64, 1000] {
        check("panic", len, &BTreeSet::from([0]));
        check("panic", len, &BTreeSet::from([len - 1]));
        check("panic", len, &BTreeSet::from([len / 2]));
        check("panic", len, &BTreeSet::from([0, len - 1]));
    }
    check("panic", 16, &(0..16).collect());
    check("panic", 50, &(10..40).collect());
}

#[test]
fn every_crime_in_process_is_isolated() {
    let codes = |crime: &str| {
        let rejections = check(crime, 9, &BTreeSet::from([4]));
        let Rejection { stage, code, reason, retry, .. } = &rejections[0];
        assert_eq!((stage.name(), retry), ("plugin", &false));
        format!("{code}: {}", without_positions(reason))
    };
    insta::assert_snapshot!(codes("panic"), @"trap: plugin trapped in process: panicked at plugins/hostile/src/crime.rs: cannot divide 1 by nothing");
    insta::assert_snapshot!(codes("deep-recursion"), @"stack-overflow: plugin overflowed its stack in process (at hostile::crime::recurse)");
    insta::assert_snapshot!(codes("endless-loop"), @"timeout: plugin took longer than 444ms in process (at hostile::crime::endless_loop)");
    insta::assert_snapshot!(codes("memory-hog"), @"memory-limit: plugin wants more than the 64 MiB of memory it may have in process (at hostile::crime::hog_memory)");
    insta::assert_snapshot!(codes("large-output"), @"output-too-large: plugin returned 20971555 bytes, allowed are 16777216 bytes");
    insta::assert_snapshot!(codes("giant-output"), @"output-too-large: plugin returned more than 33554432 bytes, allowed are 16777216 bytes");
    insta::assert_snapshot!(codes("wrong-kind"), @"contract-breach: plugin broke the contract: output `hostile`, column `length`: is boolean, described as int64");
    insta::assert_snapshot!(codes("invalid-utf8"), @"contract-breach: plugin broke the contract: output `hostile`, column `note`: row 0: not UTF-8");
}

#[test]
fn a_plugin_that_fails_on_every_message_does_not_dead_letter_the_topic() {
    let limits = Limits { poison_max: 3, ..limits() };
    let generation = hostile_under("panic", limits).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let mut rejected = |bad: &[usize], len| {
        let (mut batch, mut decoded) = batch_with(len, &bad.iter().copied().collect());
        match instance.process_around(&mut batch, &mut decoded) {
            Ok(outcome) => Ok(outcome.rejections.len()),
            Err(fault) => Err(shown(fault)),
        }
    };
    assert_eq!(rejected(&[0, 1, 2], 3), Ok(3));
    // They are counted from batch to batch, until one message passes.
    assert_eq!(rejected(&[], 1), Ok(0));
    assert_eq!(rejected(&[0, 1, 3, 4], 5), Ok(4));
    insta::assert_snapshot!(rejected(&[0, 1], 2).unwrap_err(), @"SL-G018: plugin failed on 4 messages in a row, each alone; on the last one: plugin trapped in process: panicked at plugins/hostile/src/crime.rs: cannot divide 1 by nothing");
}

/// One after the other is found in little time, but there are too many.
#[test]
fn a_batch_of_which_half_never_ends_is_not_taken_apart_for_hours() {
    let limits = Limits {
        call_time_max: Duration::from_millis(300),
        search_time_max: Duration::from_secs(2),
        ..limits()
    };
    let generation = hostile_under("endless-loop", limits).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_with(200, &(0..200).step_by(2).collect());
    let fault = instance.process_around(&mut batch, &mut decoded).unwrap_err();
    insta::assert_snapshot!(shown(fault), @"SL-G018: plugin fails on so many messages that they were not found within 2s; on the last one: plugin took longer than 250ms in process (at hostile::crime::endless_loop)");
    assert_eq!(decoded.messages.len(), 200, "the batch is as it was");
}

#[test]
fn the_search_for_messages_at_fault_ends_when_the_pipeline_ends() {
    let stop = crate::shutdown::Stop::default();
    let loader = loader(json!({ "crime": "panic", "on": "broken" })).until(&stop);
    let generation = loader.load_file(&component("hostile")).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_with(50, &BTreeSet::from([7]));
    stop.set();
    let fault = instance.process_around(&mut batch, &mut decoded).unwrap_err();
    assert!(matches!(fault, PluginFault::Interrupted), "{fault}");
    // What is not at fault is written to the end.
    let (mut batch, mut decoded) = batch_with(50, &BTreeSet::new());
    instance.process_around(&mut batch, &mut decoded).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_mix_is_taken_apart(len in 1_usize..200, seed in prop::collection::btree_set(0_usize..200, 0..20)) {
        let bad: BTreeSet<usize> = seed.into_iter().filter(|row| *row < len).collect();
        if bad.is_empty() {
            return Ok(());
        }
        check("panic", len, &bad);
    }
}
