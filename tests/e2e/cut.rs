//! Connections to Postgres that are cut behind each single byte of a transaction.

use anyhow::{Context as _, Result};
use sluice_tests::checker::Readings;
use sluice_tests::counts::long;
use sluice_tests::load::{Load, Made, Mix};
use sluice_tests::proxy::{Proxy, Way};
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

/// By default every seventh byte is cut behind, from a random one of the first seven on.
const STRIDE: usize = 7;

#[test]
fn a_request_cut_at_any_byte_leaves_the_batch_there_once() -> Result<()> {
    cut_everywhere("cut_requests", Way::ToServer, 1000)
}

#[test]
fn a_reply_cut_at_any_byte_leaves_the_batch_there_once() -> Result<()> {
    cut_everywhere("cut_replies", Way::ToClient, 150)
}

/// A transaction has at least `least` bytes on its `way`, or else this test does not test what it says.
fn cut_everywhere(name: &str, way: Way, least: usize) -> Result<()> {
    let scene = Scene::new(name, 1, Readings::TABLE)?;
    let proxy = Proxy::start(scene.database.port()?)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.lanes = 1;
    pipeline.url = proxy.url(scene.database.url(), scene.database.port()?);
    let host = scene.start("host", &pipeline)?;
    let mut batches = Batches { load: Load::new(&scene.topic, Mix::default())?, sent: 0 };
    batches.pass(&scene)?;
    let (first, step) = if long() { (0, 1) } else { (fastrand::usize(0..STRIDE), STRIDE) };
    let mut all = None;
    for bytes in (first..).step_by(step) {
        proxy.cut_behind(bytes, way);
        batches.pass(&scene).with_context(|| format!("cut behind byte {bytes}"))?;
        let cut = proxy.byte_cut().context("a cut was asked for")?;
        all = cut.missed();
        if all.is_some() {
            break;
        }
        assert!(cut.is_cut(), "{cut:?}");
    }
    assert!(all.is_some_and(|all| all >= least), "the transaction has {all:?} bytes");
    let events = host.drain()?;
    let written = events.iter().find(|event| event.is("summary")).context("no summary")?;
    let written = written.number("batches").context("no number of batches")?;
    // Now and then the broker hands out the two messages of a batch one by one.
    assert!(written <= batches.sent + batches.sent / 10, "{written} batches");
    scene.check(&Readings::all())
}

/// Batches of two messages, alike to the byte: one becomes a row, one a dead letter.
struct Batches {
    load: Load,
    sent: i64,
}

impl Batches {
    /// Sends a batch and waits until it is there, once.
    fn pass(&mut self, scene: &Scene) -> Result<()> {
        let number = 1_000_000 + self.sent;
        let [good, bad] = [("row", 230), ("plugin", 999)].map(|(truth, voltage_v)| {
            let payload = format!(
                r#"{{"device_id":"hems-1","measured_at":"2026-11-22T03:04:05.123Z","seq":{number},"power_w":1.5,"voltage_v":{voltage_v},"current_a":2.25,"energy_wh":3,"temperature_c":21.5,"status":"ok"}}"#
            );
            (0, Made::raw(truth, "hems-1", &payload))
        });
        self.load.send_made(&[good, bad])?;
        self.sent += 1;
        let there = format!(
            "SELECT next_offset = {} FROM sluice.positions WHERE pipeline = '{}'",
            2 * self.sent,
            scene.name
        );
        until_true("the batch is written", SOON, || scene.database.is_true(&there))?;
        let counts =
            "SELECT (SELECT count(*) FROM readings) * 1000000 + count(*) FROM sluice.dead_letters";
        assert_eq!(scene.database.number(counts)?, self.sent * 1_000_001, "rows, and dead letters");
        Ok(())
    }
}
