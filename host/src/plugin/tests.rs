//! Real components, most of them hostile, against the real host.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::cache::Cache;
use super::*;
use crate::batch::{Batch, Message};
use crate::columns::{Column, Kind, Spans, Values};
use crate::rows::Decoded;
use crate::settings::{Isolation, PluginSettings};

mod crimes;
mod isolate;
mod life;
mod swap;

/// The folder `target`, whatever it is called: a test runs in `<target>/<profile>/deps`.
fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(3).expect("<target>/<profile>/deps/<test>").to_owned()
}

/// A component that `cargo plugins` has built.
fn component(name: &str) -> PathBuf {
    let file = target_folder().join("plugins").join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing: run `cargo plugins` first", file.display());
    file
}

fn limits() -> Limits {
    Limits {
        memory_bytes_max: 64 << 20,
        recycle_memory_bytes: 48 << 20,
        call_time_max: Duration::from_secs(30),
        output_bytes_max: 16 << 20,
        hostcall_bytes_max: 32 << 20,
        recycle_calls: 1_000_000,
        ..Limits::default()
    }
}

/// A second for a call: enough for honest ones on a busy machine.
fn hasty_limits() -> Limits {
    Limits { call_time_max: Duration::from_secs(1), ..limits() }
}

/// Loads with a cache in the target folder, so that each component is compiled once.
fn loader(settings: serde_json::Value) -> Loader {
    let settings = PluginSettings {
        path: PathBuf::new(),
        settings,
        memory_bytes: 0,
        timeout: Duration::ZERO,
        isolation: Isolation::Lane,
        poison_limit: 100,
    };
    let cache = Cache::at(target_folder().join("tmp").join("compiled"));
    Loader::new("test", &settings).with_limits(limits()).with_cache(Some(cache))
}

/// The hostile plugin; it commits `crime` on batches that have `broken` in a payload.
fn hostile(crime: &str) -> Result<Arc<Generation>, PluginFault> {
    hostile_under(crime, limits())
}

fn hostile_under(crime: &str, limits: Limits) -> Result<Arc<Generation>, PluginFault> {
    let loader = loader(json!({ "crime": crime, "on": "broken" })).with_limits(limits);
    loader.load_file(&component("hostile"))
}

fn instance(generation: &Arc<Generation>) -> Instance {
    let context = Context { pipeline: "test".into() };
    generation.instantiate(context).expect("an instance")
}

/// Messages `{"device_id": id, "seq": n}` at offsets from 100 on, all decoded.
fn batch_of(ids: &[&str]) -> (Batch, Decoded) {
    let mut batch = Batch::new("readings");
    let mut decoded = Decoded {
        messages: Vec::new(),
        columns: vec![Column::new(Kind::Text), Column::new(Kind::Int64)],
        ..Decoded::default()
    };
    for (offset, id) in (100_i64..).zip(ids) {
        let payload = json!({ "device_id": id, "seq": offset }).to_string();
        batch.push(Message {
            partition: 2,
            offset,
            timestamp_us: 1_000_000,
            key: Some(id.as_bytes()),
            payload: Some(payload.as_bytes()),
        });
        batch.push_header(b"source", None);
        batch.close_message();
        decoded.messages.push(decoded.messages.len() as u32);
        texts(&mut decoded.columns[0]).push(id.as_bytes());
        integers(&mut decoded.columns[1]).push(offset);
    }
    (batch, decoded)
}

fn texts(column: &mut Column) -> &mut Spans {
    let Values::Text(spans) = &mut column.values else { panic!("not a text column") };
    spans
}

fn integers(column: &mut Column) -> &mut Vec<i64> {
    let Values::Int64(values) = &mut column.values else { panic!("not an integer column") };
    values
}

/// Code and text as an operator reads them, without what differs from build to build.
fn shown(fault: PluginFault) -> String {
    without_positions(&crate::fault::Fault::from(fault).to_string())
}

/// `crime.rs:12:34:` as `crime.rs:`.
fn without_positions(text: &str) -> String {
    let mut parts = text.split(".rs:");
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        rest.push_str(".rs:");
        rest.push_str(part.trim_start_matches(|it: char| it.is_ascii_digit() || it == ':'));
    }
    rest
}
