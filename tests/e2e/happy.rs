//! What happens when nothing goes wrong.

use anyhow::{Context, Result};
use sluice_tests::checker::{Check, Disposition, Expected, Keep, Message, Readings, Shape, Table};
use sluice_tests::counts::scaled;
use sluice_tests::load::message::make;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::scene::Scene;

#[test]
fn every_message_has_one_disposition_whatever_its_codec_size_and_worth() -> Result<()> {
    let scene = Scene::readings("happy")?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 50, long_per_mille: 50 })?;
    for codec in ["none", "gzip", "snappy"] {
        load.compress(codec)?;
        load.send(scaled(50_000))?;
    }
    let host = scene.start("host", &scene.pipeline()?)?;
    for codec in ["lz4", "zstd"] {
        load.compress(codec)?;
        load.send(scaled(50_000))?;
    }
    scene.wait_until_drained()?;
    let events = host.drain()?;
    scene.check(&Readings::all())?;
    let summary = events.iter().find(|event| event.is("summary")).context("no summary")?;
    assert_eq!(summary.number("messages"), Some(i64::try_from(load.acknowledged())?));
    // A lone host that fences itself has lost track of who reads what.
    assert_eq!(summary.number("fenced"), Some(0));
    Ok(())
}

#[test]
fn a_lone_message_does_not_wait_for_company() -> Result<()> {
    let scene = Scene::new("lone", 1, Readings::TABLE)?;
    let host = scene.start("host", &scene.pipeline()?)?;
    host.wait_for("partitions claimed", sluice_tests::wait::SOON)?;
    let mut load = Load::new(&scene.topic, Mix { bad_per_mille: 0, long_per_mille: 0 })?;
    for count in 1..=5 {
        load.send(1)?;
        let second = std::time::Duration::from_secs(2);
        sluice_tests::wait::until_true("the message is a row", second, || {
            Ok(scene.database.number("SELECT count(*) FROM readings")? == count)
        })?;
    }
    host.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn a_drained_host_leaves_nothing_for_the_next_to_repeat() -> Result<()> {
    let scene = Scene::readings("drain")?;
    let stream = Load::new(&scene.topic, Mix::default())?.stream(3000);
    for turn in 0..scaled(30) {
        let host = scene.start(&format!("host-{turn}"), &scene.pipeline()?)?;
        host.wait_for("partitions claimed", sluice_tests::wait::SOON)?;
        host.drain()?;
    }
    stream.stop()?;
    let last = scene.start("last", &scene.pipeline()?)?;
    scene.wait_until_drained()?;
    last.drain()?;
    scene.check(&Readings::all())
}

#[test]
fn the_last_or_the_first_row_of_a_key_stays_as_the_mode_says() -> Result<()> {
    for (name, mode, shape) in [
        ("upsert", "upsert", Readings::keyed(Keep::Last)),
        ("ignore", "ignore", Readings::keyed(Keep::First)),
        (
            "newer",
            "upsert\"\nnewer_than = \"measured_at",
            Readings { newer: true, ..Readings::keyed(Keep::Last) },
        ),
    ] {
        let scene = Scene::new(name, 3, Readings::KEYED_TABLE)?;
        let mut pipeline = scene.pipeline()?;
        pipeline.sink_lines = format!("table = \"readings\"\nmode = \"{mode}\"\n");
        pipeline.batch_lines = "max_messages = 700".to_owned();
        let host = scene.start("host", &pipeline)?;
        send_out_of_order(&scene, scaled(30_000))?;
        scene.wait_until_drained()?;
        host.drain()?;
        scene.check(&shape)?;
    }
    Ok(())
}

/// The same devices again and again, and older readings behind newer ones.
fn send_out_of_order(scene: &Scene, count: usize) -> Result<()> {
    let mut order: Vec<u64> = (0..u64::try_from(count)?).collect();
    fastrand::Rng::with_seed(7).shuffle(&mut order);
    let messages: Vec<(i32, Made)> = order
        .iter()
        .flat_map(|number| {
            (0..3).map(|partition| (partition, make(Mix::default(), partition, *number)))
        })
        .collect();
    Load::new(&scene.topic, Mix::default())?.send_made(&messages)
}

#[test]
fn one_message_can_become_rows_of_two_tables() -> Result<()> {
    let scene = Scene::new("orders", 4, Orders::TABLES)?;
    let mut pipeline = scene.pipeline_of("orders")?;
    pipeline.sink_lines =
        "[sink.tables]\norders = \"orders\"\norder_lines = \"order_lines\"\n".to_owned();
    let host = scene.start("host", &pipeline)?;
    let messages: Vec<(i32, Made)> = (0..scaled(40_000))
        .map(|number| (i32::try_from(number % 4).unwrap_or(0), order(number)))
        .collect();
    Load::new(&scene.topic, Mix::default())?.send_made(&messages)?;
    scene.wait_until_drained()?;
    host.drain()?;
    Check::new("orders", &Orders).passes(&scene.topic, &scene.database)
}

/// Event `number`: an order of 0 to 4 lines (0 is wrong), paid, shipped.
fn order(number: usize) -> Made {
    let (order_id, at) = (format!("o-{:08}", number / 3), "2026-11-22T03:04:05.123Z");
    let lines: Vec<String> = (0..number / 3 % 5)
        .map(|line| {
            format!(
                r#"{{"sku":"sku-{number}-{line}","quantity":{},"unit_price":"{line}.25"}}"#,
                line + 1
            )
        })
        .collect();
    let truth = if number.is_multiple_of(3) && lines.is_empty() { "plugin" } else { "row" };
    let payload = match number % 3 {
        0 => format!(
            r#"{{"type":"OrderCreated","order_id":"{order_id}","at":"{at}","customer":"c-1","currency":"EUR","lines":[{}]}}"#,
            lines.join(",")
        ),
        1 => format!(
            r#"{{"type":"OrderPaid","order_id":"{order_id}","at":"{at}","amount":"39.98"}}"#
        ),
        _ => format!(
            r#"{{"type":"OrderShipped","order_id":"{order_id}","at":"{at}","carrier":"dhl"}}"#
        ),
    };
    Made::raw(truth, &order_id, &payload)
}

/// Orders and their lines as rows, reckoned in cents.
#[derive(Debug)]
struct Orders;

impl Orders {
    const TABLES: &str = "
        CREATE TABLE orders (order_id text NOT NULL, event text NOT NULL, at timestamptz NOT NULL, customer text,
            currency text, amount numeric, carrier text, arrival bigint GENERATED ALWAYS AS IDENTITY);
        CREATE TABLE order_lines (order_id text NOT NULL, line_no integer NOT NULL, sku text NOT NULL,
            quantity bigint NOT NULL, unit_price numeric NOT NULL, arrival bigint GENERATED ALWAYS AS IDENTITY)";
}

impl Shape for Orders {
    fn tables(&self) -> Vec<Table> {
        let table = |name, text| Table {
            name,
            text,
            arrival: Some("arrival"),
            marker: "",
            keep: Keep::All,
        };
        vec![
            table(
                "orders",
                "concat_ws('|', order_id, event, customer, currency, round(amount * 100), carrier)",
            ),
            table(
                "order_lines",
                "concat_ws('|', order_id, line_no, sku, quantity, round(unit_price * 100))",
            ),
        ]
    }

    fn disposition(&self, message: &Message) -> Disposition {
        if message.truth() != "row" {
            return Disposition::DeadLetter(message.truth().to_owned());
        }
        let event = message.json();
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let (id, kind) = (text("order_id"), text("type"));
        let lines = event["lines"].as_array().cloned().unwrap_or_default();
        let order = match kind {
            "OrderCreated" => {
                let cost = |line: &serde_json::Value| {
                    line["quantity"].as_i64().unwrap_or(0) * cents(&line["unit_price"])
                };
                let total: i64 = lines.iter().map(cost).sum();
                format!("{id}|{kind}|{}|{}|{total}", text("customer"), text("currency"))
            }
            "OrderPaid" => format!("{id}|{kind}|{}", cents(&event["amount"])),
            _ => format!("{id}|{kind}|{}", text("carrier")),
        };
        let mut rows = vec![Expected::new("orders", order)];
        for (index, line) in lines.iter().enumerate() {
            let sku = line["sku"].as_str().unwrap_or_default();
            let text = format!(
                "{id}|{}|{sku}|{}|{}",
                index + 1,
                line["quantity"],
                cents(&line["unit_price"])
            );
            rows.push(Expected::new("order_lines", text));
        }
        Disposition::Rows(rows)
    }
}

fn cents(amount: &serde_json::Value) -> i64 {
    amount.as_str().unwrap_or_default().replace('.', "").parse().unwrap_or(-1)
}
