//! Rejects nearly everything: a version that should not have been deployed, until its twin replaces it.

use sluice_plugin::{Message, Rejection, Row, Settings, Timestamp, Transform, reject};

/// Takes the settings of `readings`, so that one can replace the other.
#[derive(Settings)]
struct TooStrict {
    #[settings(default = 50_000.0, minimum = 0.0)]
    max_power_w: f64,
}

/// What the rule needs to see.
#[derive(Message)]
struct Reading<'a> {
    device_id: &'a str,
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

impl Transform for TooStrict {
    type Message<'a> = Reading<'a>;
    type Rows<'a> = Kept;

    fn transform<'a>(&'a self, reading: Reading<'a>) -> Result<Kept, Rejection> {
        if !reading.device_id.is_empty() {
            reject!(
                "too-strict",
                "{:?} is not one of {} devices",
                reading.device_id,
                self.max_power_w
            );
        }
        Ok(Kept)
    }
}

sluice_plugin::export!(TooStrict, name = "too-strict");
