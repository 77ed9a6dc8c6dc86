//! The rules of `readings` over payloads that the host does not decode: serde does, in the sandbox. The
//! benchmark compares the two.

use std::borrow::Cow;

use serde::Deserialize;
use sluice_plugin::{Message, Rejection, Row, Settings, Timestamp, Transform, reject};

/// The settings of `readings`.
#[derive(Settings)]
struct Limits {
    #[settings(default = 50_000.0, minimum = 0.0)]
    max_power_w: f64,
}

/// The payload as it is.
#[derive(Message)]
struct Envelope<'a> {
    #[message(payload)]
    payload: &'a [u8],
}

/// A row: all of it is computed here, so all of it crosses the sandbox.
#[derive(Deserialize, Row)]
#[row(output = "readings")]
struct Reading<'a> {
    #[serde(borrow)]
    device_id: Cow<'a, str>,
    measured_at: Timestamp,
    seq: i64,
    power_w: f64,
    voltage_v: f64,
    current_a: Option<f64>,
    energy_wh: Option<i64>,
    temperature_c: Option<f64>,
    #[serde(borrow)]
    status: Cow<'a, str>,
}

impl Transform for Limits {
    type Message<'a> = Envelope<'a>;
    type Rows<'a> = Reading<'a>;

    fn transform<'a>(&'a self, message: Envelope<'a>) -> Result<Reading<'a>, Rejection> {
        let reading: Reading<'a> = serde_json::from_slice(message.payload)
            .map_err(|error| Rejection::new("malformed-reading", error.to_string()))?;
        if reading.device_id.is_empty() {
            reject!("no-device", "device_id is empty");
        }
        if reading.power_w.abs() > self.max_power_w {
            reject!("power-out-of-range", "{} W is beyond {} W", reading.power_w, self.max_power_w);
        }
        if !(80.0..=300.0).contains(&reading.voltage_v) {
            reject!("voltage-out-of-range", "{} V is not within 80 V and 300 V", reading.voltage_v);
        }
        if !matches!(&*reading.status, "ok" | "degraded" | "offline") {
            reject!("unknown-status", "status is {:?}", reading.status);
        }
        Ok(reading)
    }
}

sluice_plugin::export!(Limits, name = "readings-raw");
