//! What a batch costs between decode and Postgres, a message, on one core.
//!
//! The cost model, for readings of 190 B with nine columns, in batches of 50,000:
//!
//! | step | what it is made of | ns a message |
//! |---|---|---|
//! | crossing | four columns copied in (38 B), one index copied out, the rules, the check | 26-35 |
//! | crossing with raw payloads | 190 B copied in, JSON read by serde in the guest, nine columns out | 1,400 |
//! | check, all columns computed | every value of nine columns looked at once | 1 |
//! | encode | nine cells and a length each, gathered from nine columns; dead letters of one in a hundred | 47-75 |
//!
//! A call costs 4 us whatever is in it, which is why a batch is called for once and never a message.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use sluice::batch::{Batch, Message};
use sluice::cli::plugin::build;
use sluice::decode::Decoder;
use sluice::description::{Description, FieldSource, OutputField};
use sluice::exact::ExactInputs;
use sluice::plugin::check::{Returned, ReturnedRows, check};
use sluice::plugin::engine::prepare_thread;
use sluice::plugin::{Context, Instance, Limits, Loader};
use sluice::rows::{Checked, Decoded, Outcome, Rejection};
use sluice::settings::Settings;
use sluice::simulate::{Devices, Generator as _, Shape};
use sluice::sink::table::{Plan, Table, TableColumn};
use sluice::sink::types::Type;
use sluice::sink::{Delivery, Parking, Prepared, Range, Version, WaitingKeys};

const MESSAGES: u64 = 50_000;
const PARTITIONS: i32 = 12;

/// A batch on its way, after decode.
struct Lab {
    batch: Batch,
    decoded: Decoded,
    undecoded: Vec<Rejection>,
    instance: Instance,
    description: Description,
}

fn main() {
    if sluice::plugin::compile::is_asked_for() {
        assert_eq!(sluice::plugin::compile::child(), std::process::ExitCode::SUCCESS);
        return;
    }
    // A lane's thread has the stack that guests need.
    let bench = std::thread::Builder::new().stack_size(sluice::plugin::limits::THREAD_STACK_BYTES);
    bench.spawn(run).expect("a thread can start").join().expect("the benches run");
}

fn run() {
    prepare_thread();
    let mut criterion = Criterion::default().configure_from_args();
    let mut lab = Lab::new("readings", MESSAGES);
    crossing(&mut criterion, &mut lab);
    checking(&mut criterion, &lab);
    encoding(&mut criterion, &mut lab);
    criterion.final_summary();
}

fn crossing(criterion: &mut Criterion, lab: &mut Lab) {
    let mut group = criterion.benchmark_group("crossing");
    let mut single = Lab::new("readings", 1);
    group.bench_function("one message alone", |bench| bench.iter(|| single.process()));
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("four columns in", |bench| bench.iter(|| lab.process()));
    // Reads the JSON in the guest and computes every column there.
    let mut raw = Lab::new("readings-raw", MESSAGES);
    group.bench_function("payloads in, nine columns out", |bench| bench.iter(|| raw.process()));
    group.finish();
}

/// As if the plugin had computed every column itself.
fn checking(criterion: &mut Criterion, lab: &Lab) {
    let mut description = lab.description.clone();
    for field in &mut description.outputs[0].fields {
        field.source = FieldSource::Computed;
    }
    let rows = lab.decoded.messages.len() as u32;
    // In the order of the output's fields, which is not that of the input's.
    let source = |field: &OutputField| match field.source {
        FieldSource::Field(index) => lab.decoded.columns[index].clone(),
        FieldSource::Computed => unreachable!("readings computes nothing"),
    };
    let columns = lab.description.outputs[0].fields.iter().map(source).collect();
    let output = ReturnedRows { messages: (0..rows).collect(), columns, deletes: Vec::new() };
    let returned = Returned { outputs: vec![output], rejections: Vec::new() };
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("check");
    group.throughput(Throughput::Elements(u64::from(rows)));
    group.bench_function("nine computed columns", |bench| {
        bench.iter_batched(
            || returned.clone(),
            |returned| check(returned, &description, &lab.decoded, &limits).expect("it is right"),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion, lab: &mut Lab) {
    let plan = lab.plan();
    let outcome = lab.process();
    let version = Arc::new(Version {
        digest: "0".repeat(64),
        plugin: "readings".to_owned(),
        version: "0.1.0".to_owned(),
    });
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("readings, nine columns", |bench| {
        let mut reuse = Prepared::default();
        let waiting = WaitingKeys::default();
        bench.iter(|| {
            let delivery = Delivery {
                batch: &lab.batch,
                decoded: &lab.decoded,
                outcome: &outcome,
                undecoded: &lab.undecoded,
                ranges: ranges(),
                version: version.clone(),
                parking: Parking::default(),
                waiting: &waiting,
            };
            reuse = plan.encode(delivery, std::mem::take(&mut reuse));
            black_box(reuse.bytes())
        });
    });
    group.finish();
}

fn ranges() -> Vec<Range> {
    (0..PARTITIONS).map(|partition| Range { partition, ..Range::default() }).collect()
}

impl Lab {
    fn new(plugin: &str, messages: u64) -> Self {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let component = build::build(&workspace, "readings").expect("the plugin builds");
        let component = component.with_file_name(format!("{plugin}.wasm"));
        let generation = loader().load_file(&component).expect("the plugin is fit");
        let description = generation.description.clone();
        let mut reads = Decoder::new(description.payload.fields(), &ExactInputs::default())
            .expect("pointers are right");
        let batch = batch(messages);
        let (mut decoded, mut rejected) = (Decoded::default(), Vec::new());
        reads.decode(&batch, &mut decoded, &mut rejected);
        let context = Context { pipeline: "bench".into() };
        let instance = generation.instantiate(context).expect("the plugin starts");
        Self { batch, decoded, undecoded: rejected, instance, description }
    }

    fn process(&mut self) -> Checked<Outcome> {
        self.instance.process(&mut self.batch, &mut self.decoded).expect("the plugin works")
    }

    /// Into a table with the columns that the plugin names.
    fn plan(&self) -> Plan {
        let columns = self.description.outputs[0].fields.iter().map(|field| {
            let name = match field.name.as_str() {
                "measured_at" => "timestamptz",
                "seq" | "energy_wh" => "int8",
                "device_id" | "status" => "text",
                _ => "float8",
            };
            TableColumn {
                name: field.name.clone(),
                type_name: name.to_owned(),
                cast_name: name.to_owned(),
                target: Type::new(name, -1, Vec::new()),
                not_null: !field.nullable,
                has_default: false,
                default: None,
                collation: None,
                generated: false,
            }
        });
        let table = Table {
            name: "readings".to_owned(),
            unsafe_for_rows: Vec::new(),
            unsafe_for_updates: Vec::new(),
            row_security: false,
            columns: columns.collect(),
            unique: Vec::new(),
            has_primary_key: false,
        };
        let tables = BTreeMap::from([("readings".to_owned(), Some(table))]);
        Plan::new(&self.description.outputs, &settings().sink.tables, &tables).expect("it fits")
    }
}

fn loader() -> Loader {
    Loader::new("bench", &settings().plugin)
}

fn settings() -> Settings {
    let text = r#"
        [pipeline]
        name = "bench"
        [source]
        brokers = "localhost:9092"
        topic = "readings"
        [plugin]
        path = "readings.wasm"
        [sink]
        url = "postgres://localhost/postgres"
        table = "readings"
    "#;
    Settings::parse("bench.toml", text, &|_| None).expect("the settings are right")
}

/// One bad message in a hundred, in runs of a partition as fetches are.
fn batch(messages: u64) -> Batch {
    const RUN: u64 = 500;
    let mut devices = Devices::new(500_000, Shape::Short, 10, 7, 1_795_316_645_000);
    let mut batch = Batch::new("readings");
    let (mut key, mut payload) = (Vec::new(), Vec::new());
    for index in 0..messages {
        devices.write(index, &mut key, &mut payload);
        batch.push(Message {
            partition: (index / RUN) as i32 % PARTITIONS,
            offset: index as i64,
            timestamp_us: 1_795_316_645_000_000,
            key: Some(&key),
            payload: Some(&payload),
        });
        batch.close_message();
    }
    batch
}
