//! Keeps one row per device, and deletes it when the device goes offline.

use sluice_plugin::{Change, Message, Rejection, Row, Settings, Timestamp, Transform};

/// None.
#[derive(Settings)]
struct Devices {}

/// What the rule needs to see.
#[derive(Message)]
struct Reading<'a> {
    status: &'a str,
}

/// A row like those of `readings`.
#[derive(Row)]
#[row(
    output = "readings",
    pass(
        device_id: &str, measured_at: Timestamp, seq: i64, power_w: f64, voltage_v: f64,
        current_a: Option<f64>, energy_wh: Option<i64>, temperature_c: Option<f64>, status: &str,
    )
)]
struct Kept;

impl Transform for Devices {
    type Message<'a> = Reading<'a>;
    type Rows<'a> = Change<Kept>;

    fn transform<'a>(&'a self, reading: Reading<'a>) -> Result<Change<Kept>, Rejection> {
        Ok(match reading.status {
            "offline" => Change::Delete(Kept),
            _ => Change::Put(Kept),
        })
    }
}

sluice_plugin::export!(Devices, name = "deletes");
