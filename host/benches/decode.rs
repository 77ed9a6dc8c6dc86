//! What decoding a message costs, by size, layout and method.
//!
//! A message of a known layout costs, in nanoseconds of CPU time on one core of a virtual machine of two
//! (AMD EPYC), with nothing on the other:
//!
//! | part | cost |
//! |---|---|
//! | message: its place in the arena, its end, its row | 5 |
//! | each member: the bytes up to its value, and the jump to its kind | 5 |
//! | a text of up to 32 bytes, beside that | 4 |
//! | an integer | 5 |
//! | a decimal, with its division | 7 |
//! | a time with milliseconds | 8 |
//! | 60 numbers and 1,300 characters that no field wants | 120 |
//!
//! That is 107 for a short reading of nine members, and 229 for a long one. The portable road takes 158
//! and 900, the scanner 460 and 1,470. One bad message in a hundred, as here, adds about 10 to each: the
//! scanner and the words of its rejection. A neighbour on the other core adds up to a half.
//!
//! What costs more: short texts with characters beyond ASCII (10 each) and long ones (half a nanosecond a
//! byte: the standard library's check); texts with escapes, numbers of more than 16 bytes or with
//! exponents (55 each, by the scanner); and messages without any common layout, which cost what the
//! scanner costs and a fifth for the attempt.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_main};
use sluice::batch::{Batch, Message};
use sluice::columns::Kind;
use sluice::decode::{Decoder, Method};
use sluice::description::InputField;
use sluice::exact::ExactInputs;
use sluice::rows::Decoded;

/// Messages of a batch; the default of `batch.max_messages` is larger, the cost of a message the same.
const MESSAGES: usize = 4096;

/// The nine members of a reading and what the plugin makes of them.
const FIELDS: [(&str, Kind); 9] = [
    ("device_id", Kind::Text),
    ("measured_at", Kind::Timestamp),
    ("seq", Kind::Int64),
    ("power_w", Kind::Float64),
    ("voltage_v", Kind::Float64),
    ("current_a", Kind::Float64),
    ("energy_wh", Kind::Int64),
    ("temperature_c", Kind::Float64),
    ("status", Kind::Text),
];

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// A number with `places` behind the dot, as a device writes it.
    fn decimal(&mut self, limit: u64, places: usize) -> String {
        let scale = 10_u64.pow(places as u32);
        format!("{}.{:0places$}", self.below(limit), self.below(scale))
    }
}

/// A reading's members, as JSON texts, in the order of [`FIELDS`].
fn members(dice: &mut Dice) -> [String; 9] {
    let (day, hour, minute) = (1 + dice.below(28), dice.below(24), dice.below(60));
    let (second, milli) = (dice.below(60), dice.below(1000));
    let status = ["ok", "ok", "ok", "degraded", "offline"][dice.below(5) as usize];
    [
        format!("\"hems-{:08}\"", dice.below(500_000)),
        format!("\"2026-11-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z\""),
        dice.below(1_000_000).to_string(),
        format!("{}{}", ["", "-"][dice.below(2) as usize], dice.decimal(10_000, 1)),
        format!("2{}", dice.decimal(60, 2)),
        dice.decimal(40, 2),
        dice.below(2_000_000_000).to_string(),
        format!("{}{}", ["", "-"][dice.below(2) as usize], dice.decimal(40, 1)),
        format!("\"{status}\""),
    ]
}

/// Members in the order that `order` names, between braces, with `more` behind them.
fn object(members: &[String], order: &[usize], more: &str) -> String {
    let texts: Vec<_> =
        order.iter().map(|index| format!("\"{}\":{}", FIELDS[*index].0, members[*index])).collect();
    format!("{{{}{more}}}", texts.join(","))
}

const IN_ORDER: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const OTHERWISE: [usize; 9] = [8, 1, 0, 7, 6, 5, 4, 3, 2];

fn short(dice: &mut Dice) -> String {
    object(&members(dice), &IN_ORDER, "")
}

/// A reading with members that no field wants.
fn long(dice: &mut Dice) -> String {
    let samples: Vec<_> = (0..60).map(|_| dice.decimal(4000, 1)).collect();
    let mut text = String::new();
    while text.len() < 1300 {
        let (code, volts) = (dice.below(100), dice.decimal(300, 2));
        let _ = write!(text, "inverter {code}: bus {volts} V, relay closed, no fault; ");
    }
    let samples = samples.join(",");
    object(
        &members(dice),
        &IN_ORDER,
        &format!(",\"samples_w\":[{samples}],\"diagnostics\":\"{text}\""),
    )
}

/// The same with characters beyond ASCII, as German text has them.
fn long_foreign(dice: &mut Dice) -> String {
    long(dice).replace("closed", "geschloßen").replace("no fault", "Küche läuft")
}

fn two_orders(dice: &mut Dice) -> String {
    let order = if dice.below(2) == 0 { IN_ORDER } else { OTHERWISE };
    object(&members(dice), &order, "")
}

/// Every order of the members: nothing can be learned.
fn any_order(dice: &mut Dice) -> String {
    let mut order = IN_ORDER;
    for index in (1..order.len()).rev() {
        order.swap(index, dice.below(index as u64 + 1) as usize);
    }
    object(&members(dice), &order, "")
}

fn nested(dice: &mut Dice) -> String {
    let [device, time, seq, power, voltage, current, energy, temperature, status] = members(dice);
    format!(
        "{{\"meta\":{{\"device\":{{\"device_id\":{device},\"firmware\":\"2.{}\"}},\"measured_at\":{time},\
         \"seq\":{seq}}},\"phases\":[{{\"power_w\":{power},\"voltage_v\":{voltage},\"current_a\":{current}}}],\
         \"energy_wh\":{energy},\"temperature_c\":{temperature},\"tags\":{{\"room\":\"Küche\",\"floor\":1}},\
         \"status\":{status}}}",
        dice.below(10)
    )
}

const NESTED: [&str; 9] = [
    "/meta/device/device_id",
    "/meta/measured_at",
    "/meta/seq",
    "/phases/0/power_w",
    "/phases/0/voltage_v",
    "/phases/0/current_a",
    "/energy_wh",
    "/temperature_c",
    "/status",
];

/// A batch of messages, one in a hundred of which has a text where a number belongs.
fn batch(make: impl Fn(&mut Dice) -> String) -> Batch {
    let mut dice = Dice(4711);
    let mut batch = Batch::new("readings");
    for offset in 0..MESSAGES as i64 {
        let mut payload = make(&mut dice);
        if offset % 100 == 99 {
            payload = payload.replace("\"power_w\":", "\"power_w\":\"none\",\"was\":");
        }
        let payload = Some(payload.as_bytes());
        batch.push(Message { partition: 0, offset, timestamp_us: -1, key: None, payload });
        batch.close_message();
    }
    batch
}

fn fields(pointers: [&str; 9]) -> Vec<InputField> {
    let fields = pointers.iter().zip(FIELDS);
    fields
        .map(|(pointer, (_, kind))| InputField {
            pointer: (*pointer).to_owned(),
            kind,
            required: true,
            read: true,
        })
        .collect()
}

fn decode(criterion: &mut Criterion) {
    let flat = FIELDS.map(|(name, _)| format!("/{name}"));
    let flat = fields(flat.each_ref().map(String::as_str));
    let nested_fields = fields(NESTED);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    let mut measure = |name: &str, fields: &[InputField], batch: &Batch, method| {
        let mut decoder = Decoder::using(method, fields, &ExactInputs::default())
            .expect("the pointers are well-formed");
        let (mut into, mut rejected) = (Decoded::default(), Vec::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                rejected.clear();
                decoder.decode(black_box(batch), &mut into, &mut rejected);
                assert_eq!(into.messages.len() + rejected.len(), MESSAGES);
            });
        });
    };
    let batches = [
        ("short", &flat, batch(short)),
        ("long", &flat, batch(long)),
        ("long_foreign", &flat, batch(long_foreign)),
        ("two_orders", &flat, batch(two_orders)),
        ("any_order", &flat, batch(any_order)),
        ("nested", &nested_fields, batch(nested)),
    ];
    for (name, fields, batch) in &batches {
        measure(name, fields, batch, Method::Best);
        measure(&format!("{name}/portable"), fields, batch, Method::Portable);
        measure(&format!("{name}/scanner"), fields, batch, Method::Scanner);
    }
    group.finish();
}

fn benches() {
    let criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    decode(&mut criterion.configure_from_args());
}

criterion_main!(benches);
