//! A row like those of `readings`, of which nothing is computed.

use sluice_plugin::{Row, Timestamp};

/// All fields as they were in the message.
#[derive(Row)]
#[row(
    output = "readings",
    pass(
        device_id: &str, measured_at: Timestamp, seq: i64, power_w: f64, voltage_v: f64,
        current_a: Option<f64>, energy_wh: Option<i64>, temperature_c: Option<f64>, status: &str,
    )
)]
pub struct Kept;
