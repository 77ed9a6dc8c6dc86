//! The rules of `readings`, and in each row the mark of the version that made it: so that a test sees who did.

use sluice_plugin::{Message, Rejection, Row, Settings, Timestamp, Transform, reject};

use crate::MARK;

/// Takes the settings of `readings`, so that one can replace the other.
#[derive(Settings)]
pub struct Marker {
    #[settings(default = 50_000.0, minimum = 0.0)]
    max_power_w: f64,
}

/// What the rules need to see.
#[derive(Message)]
pub struct Reading<'a> {
    device_id: &'a str,
    power_w: f64,
    voltage_v: f64,
    status: &'a str,
}

/// A marked row.
#[derive(Row)]
#[row(
    output = "readings",
    pass(
        device_id: &str, measured_at: Timestamp, seq: i64, power_w: f64, voltage_v: f64,
        current_a: Option<f64>, energy_wh: Option<i64>, temperature_c: Option<f64>, status: &str,
    )
)]
pub struct Kept {
    marker: &'static str,
}

impl Transform for Marker {
    type Message<'a> = Reading<'a>;
    type Rows<'a> = Kept;

    fn transform<'a>(&'a self, reading: Reading<'a>) -> Result<Kept, Rejection> {
        let good = !reading.device_id.is_empty()
            && reading.power_w.abs() <= self.max_power_w
            && (80.0..=300.0).contains(&reading.voltage_v)
            && matches!(reading.status, "ok" | "degraded" | "offline");
        if !good {
            reject!("out-of-range", "no reading that {MARK} keeps");
        }
        Ok(Kept { marker: MARK })
    }
}
