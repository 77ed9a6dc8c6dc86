//! Checks home-energy readings and keeps the good ones.

use sluice_plugin::{Message, Rejection, Row, Settings, Timestamp, Transform, reject};

/// Settable per pipeline; checked against its JSON Schema before the plugin goes live.
#[derive(Settings)]
struct Limits {
    /// Readings beyond this are sensor faults, in watts.
    #[settings(default = 50_000.0, minimum = 0.0)]
    max_power_w: f64,
}

/// What the rules need to see. The host decodes these fields out of the JSON payload.
#[derive(Message)]
struct Reading<'a> {
    device_id: &'a str,
    power_w: f64,
    voltage_v: f64,
    status: &'a str,
}

/// A row of the output `readings`. Nothing in it is computed here, so nothing of it crosses the
/// sandbox: the host takes these fields from the message, and rejects one that lacks a field or
/// whose `measured_at` is not RFC 3339.
#[derive(Row)]
#[row(
    output = "readings",
    pass(
        device_id: &str, measured_at: Timestamp, seq: i64, power_w: f64, voltage_v: f64,
        current_a: Option<f64>, energy_wh: Option<i64>, temperature_c: Option<f64>, status: &str,
    )
)]
struct Kept;

impl Transform for Limits {
    type Message<'a> = Reading<'a>;
    type Rows<'a> = Kept;

    fn transform<'a>(&'a self, reading: Reading<'a>) -> Result<Kept, Rejection> {
        if reading.device_id.is_empty() {
            reject!("no-device", "device_id is empty");
        }
        if reading.power_w.abs() > self.max_power_w {
            reject!("power-out-of-range", "{} W is beyond {} W", reading.power_w, self.max_power_w);
        }
        if !(80.0..=300.0).contains(&reading.voltage_v) {
            reject!("voltage-out-of-range", "{} V is not within 80 V and 300 V", reading.voltage_v);
        }
        if !matches!(reading.status, "ok" | "degraded" | "offline") {
            reject!("unknown-status", "status is {:?}", reading.status);
        }
        Ok(Kept)
    }
}

sluice_plugin::export!(Limits);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Reading<'_> =
        Reading { device_id: "hems-00004711", power_w: 1234.5, voltage_v: 229.81, status: "ok" };

    fn check(reading: Reading<'_>, expected: Result<(), &str>) {
        let limits = Limits { max_power_w: 50_000.0 };
        let outcome = limits.transform(reading).map(|Kept| ());
        assert_eq!(outcome.as_ref().map_err(Rejection::code).copied(), expected);
    }

    #[test]
    fn good_readings_are_kept_up_to_the_very_limit() {
        check(GOOD, Ok(()));
        check(Reading { power_w: -50_000.0, ..GOOD }, Ok(()));
        check(Reading { voltage_v: 80.0, status: "degraded", ..GOOD }, Ok(()));
        check(Reading { voltage_v: 300.0, status: "offline", ..GOOD }, Ok(()));
    }

    #[test]
    fn each_rule_has_its_own_code() {
        check(Reading { device_id: "", ..GOOD }, Err("no-device"));
        check(Reading { power_w: 50_000.1, ..GOOD }, Err("power-out-of-range"));
        check(Reading { power_w: -50_000.1, ..GOOD }, Err("power-out-of-range"));
        check(Reading { voltage_v: 79.9, ..GOOD }, Err("voltage-out-of-range"));
        check(Reading { voltage_v: f64::NAN, ..GOOD }, Err("voltage-out-of-range"));
        check(Reading { status: "OK", ..GOOD }, Err("unknown-status"));
    }

    #[test]
    fn settings_are_optional_and_checked() {
        assert_eq!(Limits::from_json("{}").map(|limits| limits.max_power_w), Ok(50_000.0));
        assert_eq!(
            Limits::from_json(r#"{"max_power_w":9}"#).map(|limits| limits.max_power_w),
            Ok(9.0)
        );
        assert!(Limits::from_json(r#"{"max_power":9}"#).is_err());
        assert!(Limits::from_json(r#"{"max_power_w":-1}"#).is_err());
    }
}
