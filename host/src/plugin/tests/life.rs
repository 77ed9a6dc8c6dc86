//! How instances live, what crosses, and what is logged.

use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::rows::RowColumn;

#[test]
fn an_honest_plugin_gets_its_columns_and_passes_others_through() {
    let generation = hostile("none").expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["short", "a-very-long-device-id"]);
    let outcome = instance.process(&mut batch, &mut decoded).expect("an outcome");
    let table = &outcome.tables[0];
    assert_eq!(table.messages, [0, 1]);
    assert!(matches!(table.columns[0], RowColumn::Field(0)));
    assert!(matches!(table.columns[1], RowColumn::Field(1)));
    let computed: Vec<_> = table.columns[2..]
        .iter()
        .map(|column| match column {
            RowColumn::Computed(column) => column,
            RowColumn::Field(_) => panic!("computed"),
        })
        .collect();
    assert_eq!(computed[0].values, Values::Int64(vec![5, 21]));
    assert_eq!((computed[1].is_null(0), computed[1].is_null(1)), (true, false));
    assert_eq!(computed[3].values, Values::Boolean(vec![0, 1]));
}

#[test]
fn messages_that_were_not_decoded_are_left_out_and_indexes_still_fit() {
    let generation = hostile("reject-all").expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, _) = batch_of(&["a", "b", "broken", "d"]);
    let (_, mut decoded) = batch_of(&["b", "broken"]);
    decoded.messages = vec![1, 2];
    let outcome = instance.process(&mut batch, &mut decoded).expect("an outcome");
    let rejected: Vec<_> = outcome.rejections.iter().map(|rejection| rejection.message).collect();
    assert_eq!(rejected, [1, 2]);
    assert!(outcome.tables[0].messages.is_empty());
    assert_eq!((batch.len(), batch.payloads.len(), batch.keys.len()), (4, 4, 4));
    // The payload with the marker is among the messages that were decoded; now it is not.
    let (_, mut decoded) = batch_of(&["b", "d"]);
    decoded.messages = vec![1, 3];
    let outcome = instance.process(&mut batch, &mut decoded).expect("an outcome");
    assert_eq!(outcome.tables[0].messages, [0, 1]);
}

#[test]
fn a_batch_without_decoded_messages_never_reaches_the_guest() {
    let loader = loader(json!({ "crime": "trap" }));
    let generation = loader.load_file(&component("hostile")).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, _) = batch_of(&["a"]);
    let (_, mut decoded) = batch_of(&[]);
    let outcome = instance.process(&mut batch, &mut decoded).expect("an empty outcome");
    assert_eq!((outcome.tables.len(), outcome.tables[0].columns.len()), (1, 6));
    assert!(outcome.tables[0].messages.is_empty() && outcome.rejections.is_empty());
}

/// The number of the call that the guest believes in, batch by batch.
fn calls(loader: &Loader, batches: usize) -> Vec<i64> {
    let generation = loader.load_file(&component("hostile")).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let mut call = || {
        let (mut batch, mut decoded) = batch_of(&["a"]);
        let outcome = instance.process(&mut batch, &mut decoded).expect("an outcome");
        let RowColumn::Computed(column) = &outcome.tables[0].columns[2] else { panic!("computed") };
        let Values::Int64(values) = &column.values else { panic!("integers") };
        values[0]
    };
    (0..batches).map(|_| call()).collect()
}

#[test]
fn an_instance_lives_until_it_is_worn() {
    let counting = || loader(json!({ "crime": "count-calls" }));
    assert_eq!(calls(&counting(), 5), [1, 2, 3, 4, 5]);
    let worn_after_two = Limits { recycle_calls: 2, ..limits() };
    assert_eq!(calls(&counting().with_limits(worn_after_two), 5), [1, 2, 1, 2, 1]);
    assert_eq!(calls(&counting().with_isolation(Isolation::Batch), 3), [1, 1, 1]);
}

#[test]
fn each_call_has_its_own_time() {
    let generation = hostile_under("none", hasty_limits()).expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["a"; 1_000]);
    let started = Instant::now();
    while started.elapsed() < 2 * hasty_limits().call_time_max {
        instance.process(&mut batch, &mut decoded).expect("an outcome");
        // Many calls: an instance that was replaced would have a new deadline.
        assert_eq!(instance.started(), 1);
    }
}

#[test]
fn a_guest_that_leaks_is_replaced_before_it_reaches_its_limit() {
    let loader = loader(json!({ "crime": "leak" }));
    let generation = loader.load_file(&component("hostile")).expect("a plugin that loads");
    let mut instance = instance(&generation);
    for _ in 0..20 {
        let (mut batch, mut decoded) = batch_of(&["a"]);
        instance.process(&mut batch, &mut decoded).expect("an outcome");
        assert!(instance.memory_bytes() < generation.limits.recycle_memory_bytes);
    }
    assert!(instance.started() > 2, "{} guests", instance.started());
}

#[test]
fn a_reason_on_several_lines_is_made_fit_to_print() {
    let generation = hostile("reject-multiline").expect("a plugin that loads");
    let mut instance = instance(&generation);
    let (mut batch, mut decoded) = batch_of(&["broken"]);
    let outcome = instance.process(&mut batch, &mut decoded).expect("an outcome");
    assert_eq!(outcome.rejections[0].reason, r"first second\u{0}");
}

/// Collects what the host logs on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the host's log shows when `crime` is committed.
fn log_of(crime: &str) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let generation = hostile(crime).expect("a plugin that loads");
        let mut instance = instance(&generation);
        let (mut batch, mut decoded) = batch_of(&["a", "broken"]);
        // Whether it fails is not the question here.
        let _ = instance.process(&mut batch, &mut decoded);
    });
    let text = String::from_utf8(lines.0.lock().expect("no panic").clone()).expect("UTF-8");
    // The digest differs from build to build.
    let text = without_positions(&text);
    let digest = text.find("digest=\"").map(|at| text[at + 8..at + 20].to_owned());
    digest.map_or(text.clone(), |digest| text.replace(&digest, "<digest>"))
}

#[test]
fn a_guests_lines_carry_plugin_and_offsets_and_no_control_characters() {
    insta::assert_snapshot!(log_of("log-line"), @r#" WARN plugin: something is odd\u{1b}[31m pipeline="test" plugin="hostile" digest="<digest>" offsets="2:100-101""#);
    insta::assert_snapshot!(log_of("panic"), @r#"ERROR plugin: panicked at plugins/hostile/src/crime.rs: cannot divide 2 by nothing pipeline="test" plugin="hostile" digest="<digest>" offsets="2:100-101""#);
    assert_eq!(log_of("none"), "");
}

#[test]
fn a_log_flood_is_cut() {
    let text = log_of("log-flood");
    assert_eq!(text.lines().count(), limits().log_lines_max + 1);
    assert!(text.len() < 64 << 10, "{} bytes", text.len());
    insta::assert_snapshot!(text.lines().last().unwrap_or_default(), @r#" WARN plugin: 99801 more lines of this call dropped pipeline="test" plugin="hostile" digest="<digest>" offsets="2:100-101""#);
}
