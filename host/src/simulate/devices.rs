//! Telemetry of home-energy devices: each device sends one reading a minute.

use clap::ValueEnum;

use super::text::{Instants, fixed, integer, padded};
use super::{Defect, Generator, Quality, chance};

/// Energy counters wrap here, as the devices' own do.
const ENERGY_WH_MAX: u64 = 900_000_000;
/// Length of a long payload.
const LONG_BYTES: usize = 2000;
const SAMPLES: usize = 60;
const DIAGNOSTICS: &[u8] = b"uptime=86400;rssi=-61;fw=2.14.7;";

/// How much a reading carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// About 190 bytes.
    Short,
    /// 2,000 bytes: with 60 samples and a text of diagnostics.
    Long,
}

/// Readings: message `i` is the reading of device `i % devices` in minute `i / devices`.
#[derive(Debug)]
pub struct Devices {
    count: u64,
    shape: Shape,
    bad_per_mille: u32,
    seed: u64,
    start_ms: i64,
    instants: Instants,
}

/// What is measured, in the smallest unit that is written.
struct Reading {
    power_tenths_w: i64,
    voltage_hundredths_v: i64,
    temperature_tenths_c: i64,
    status: &'static [u8],
}

impl Devices {
    /// So many devices, whose first minute starts `start_ms` milliseconds after 1970-01-01T00:00:00Z.
    ///
    /// # Panics
    /// Without devices.
    pub fn new(devices: u64, shape: Shape, bad_per_mille: u32, seed: u64, start_ms: i64) -> Self {
        assert!(devices > 0, "readings need at least one device");
        Self { count: devices, shape, bad_per_mille, seed, start_ms, instants: Instants::default() }
    }

    /// When message `index` is measured: the devices spread their readings over the minute.
    pub fn measured_at_ms(&self, index: u64) -> i64 {
        let (minute, device) = (index / self.count, index % self.count);
        let within = u128::from(device) * 60_000 / u128::from(self.count);
        self.start_ms + minute as i64 * 60_000 + within as i64
    }
}

impl Generator for Devices {
    fn write(&mut self, index: u64, key: &mut Vec<u8>, payload: &mut Vec<u8>) -> Quality {
        let mut random = chance(self.seed, index);
        let defect = (random.u32(0..1000) < self.bad_per_mille).then(|| pick_defect(&mut random));
        let reading = Reading::new(&mut random, defect);

        key.clear();
        key.extend_from_slice(b"hems-");
        padded(key, index % self.count, 8);

        payload.clear();
        payload.push(b'{');
        if defect != Some(Defect::MissingDeviceId) {
            payload.extend_from_slice(b"\"device_id\":\"");
            payload.extend_from_slice(key);
            payload.extend_from_slice(b"\",");
        }
        payload.extend_from_slice(b"\"measured_at\":\"");
        let measured_at_ms = self.measured_at_ms(index);
        self.instants.write(payload, measured_at_ms);
        payload.extend_from_slice(b"\",\"seq\":");
        integer(payload, index / self.count);
        reading.write(payload, 1_000_000 + index.wrapping_mul(7) % ENERGY_WH_MAX);
        if self.shape == Shape::Long {
            lengthen(payload, &mut random, reading.power_tenths_w);
        }
        payload.push(b'}');
        if defect == Some(Defect::Truncated) {
            payload.truncate(payload.len() / 2);
        }
        defect.map_or(Quality::Good, Quality::Bad)
    }
}

impl Reading {
    #[inline]
    fn new(random: &mut fastrand::Rng, defect: Option<Defect>) -> Self {
        let status: &[u8] = match random.u32(0..100) {
            0..97 => b"ok",
            97..99 => b"degraded",
            _ => b"offline",
        };
        let mut reading = Self {
            power_tenths_w: random.i64(-10_000..80_000),
            voltage_hundredths_v: random.i64(22_000..24_000),
            temperature_tenths_c: random.i64(0..400),
            status,
        };
        match defect {
            Some(Defect::PowerOutOfRange) => reading.power_tenths_w = 999_999_990,
            Some(Defect::VoltageOutOfRange) => reading.voltage_hundredths_v = 99_999,
            Some(Defect::UnknownStatus) => reading.status = b"exploded",
            _ => {}
        }
        reading
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>, energy_wh: u64) {
        out.extend_from_slice(b",\"power_w\":");
        fixed(out, self.power_tenths_w, 1);
        out.extend_from_slice(b",\"voltage_v\":");
        fixed(out, self.voltage_hundredths_v, 2);
        out.extend_from_slice(b",\"current_a\":");
        fixed(out, self.power_tenths_w * 1000 / self.voltage_hundredths_v, 2);
        out.extend_from_slice(b",\"energy_wh\":");
        integer(out, energy_wh);
        out.extend_from_slice(b",\"temperature_c\":");
        fixed(out, self.temperature_tenths_c, 1);
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(self.status);
        out.push(b'"');
    }
}

/// Half of what is bad is not even JSON, the rest is evenly spread.
fn pick_defect(random: &mut fastrand::Rng) -> Defect {
    match random.u32(0..8) {
        0..4 => Defect::Truncated,
        4 => Defect::PowerOutOfRange,
        5 => Defect::UnknownStatus,
        6 => Defect::MissingDeviceId,
        _ => Defect::VoltageOutOfRange,
    }
}

/// Appends samples and diagnostics, up to the length of a long payload.
fn lengthen(out: &mut Vec<u8>, random: &mut fastrand::Rng, power_tenths_w: i64) {
    out.extend_from_slice(b",\"samples_w\":[");
    for sample in 0..SAMPLES {
        if sample > 0 {
            out.push(b',');
        }
        fixed(out, power_tenths_w + random.i64(0..1000), 1);
    }
    out.extend_from_slice(b"],\"diagnostics\":\"");
    // Two bytes are left for the closing quote and brace.
    while out.len() < LONG_BYTES - 2 {
        let room = LONG_BYTES - 2 - out.len();
        out.extend_from_slice(&DIAGNOSTICS[..room.min(DIAGNOSTICS.len())]);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fmt::Write as _;

    use super::*;

    const START_MS: i64 = 1_795_403_040_000;

    fn message(generator: &mut Devices, index: u64) -> (String, String, Quality) {
        let (mut key, mut payload) = (Vec::new(), Vec::new());
        let quality = generator.write(index, &mut key, &mut payload);
        (String::from_utf8(key).unwrap(), String::from_utf8(payload).unwrap(), quality)
    }

    /// The first message of each quality, in the order in which they appear.
    fn one_of_each() -> String {
        let mut generator = Devices::new(500_000, Shape::Short, 400, 22, START_MS);
        let mut seen = Vec::new();
        let mut text = String::new();
        for index in 2_355_504_711.. {
            let (key, payload, quality) = message(&mut generator, index);
            if !seen.contains(&quality) {
                seen.push(quality);
                writeln!(text, "{key} {quality:?}\n  {payload}").unwrap();
            }
            if seen.len() == 6 {
                return text;
            }
        }
        unreachable!()
    }

    #[test]
    fn readings_look_like_those_of_the_devices() {
        insta::assert_snapshot!(one_of_each(), @r#"
        hems-00004711 Good
          {"device_id":"hems-00004711","measured_at":"2026-11-26T09:35:00.565Z","seq":4711,"power_w":5850.9,"voltage_v":228.23,"current_a":25.63,"energy_wh":289532977,"temperature_c":14.1,"status":"ok"}
        hems-00004712 Bad(Truncated)
          {"device_id":"hems-00004712","measured_at":"2026-11-26T09:35:00.565Z","seq":4711,"power_w":6894
        hems-00004730 Bad(UnknownStatus)
          {"device_id":"hems-00004730","measured_at":"2026-11-26T09:35:00.567Z","seq":4711,"power_w":7411.2,"voltage_v":234.60,"current_a":31.59,"energy_wh":289533110,"temperature_c":20.8,"status":"exploded"}
        hems-00004738 Bad(PowerOutOfRange)
          {"device_id":"hems-00004738","measured_at":"2026-11-26T09:35:00.568Z","seq":4711,"power_w":99999999.0,"voltage_v":224.71,"current_a":445018.01,"energy_wh":289533166,"temperature_c":13.7,"status":"ok"}
        hems-00004760 Bad(MissingDeviceId)
          {"measured_at":"2026-11-26T09:35:00.571Z","seq":4711,"power_w":6811.8,"voltage_v":235.93,"current_a":28.87,"energy_wh":289533320,"temperature_c":39.2,"status":"ok"}
        hems-00004817 Bad(VoltageOutOfRange)
          {"device_id":"hems-00004817","measured_at":"2026-11-26T09:35:00.578Z","seq":4711,"power_w":4032.6,"voltage_v":999.99,"current_a":4.03,"energy_wh":289533719,"temperature_c":1.1,"status":"degraded"}
        "#);
    }

    #[test]
    fn the_long_shape_adds_samples_and_diagnostics_up_to_2000_bytes() {
        let mut generator = Devices::new(500_000, Shape::Long, 0, 22, START_MS);
        let (_, payload, _) = message(&mut generator, 4711);
        assert_eq!(payload.len(), 2000);
        let value: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(value["samples_w"].as_array().unwrap().len(), 60);
        assert!(value["diagnostics"].as_str().unwrap().starts_with("uptime=86400;rssi=-61;"));
        assert_eq!(value["device_id"], "hems-00004711");
    }

    #[test]
    fn a_message_depends_on_its_number_and_the_seed_alone() {
        let mut forward = Devices::new(1000, Shape::Short, 100, 22, START_MS);
        let all: Vec<_> = (0..3000).map(|index| message(&mut forward, index)).collect();
        let mut backward = Devices::new(1000, Shape::Short, 100, 22, START_MS);
        for index in (0..3000).rev() {
            assert_eq!(message(&mut backward, index), all[index as usize]);
        }
        let mut other = Devices::new(1000, Shape::Short, 100, 23, START_MS);
        assert_ne!(message(&mut other, 0), all[0]);
    }

    #[test]
    fn the_share_of_bad_messages_is_as_asked_for() {
        let mut generator = Devices::new(500_000, Shape::Short, 10, 22, START_MS);
        let mut counts: HashMap<Quality, u32> = HashMap::new();
        for index in 0..200_000 {
            *counts.entry(message(&mut generator, index).2).or_default() += 1;
        }
        let bad: u32 =
            counts.iter().filter(|(quality, _)| !quality.is_good()).map(|(_, n)| n).sum();
        assert!((1800..2200).contains(&bad), "{bad} of 200,000 are bad");
        let truncated = counts[&Quality::Bad(Defect::Truncated)];
        assert!((bad * 4 / 10..bad * 6 / 10).contains(&truncated), "{truncated} are truncated");
        let mut clean = Devices::new(500_000, Shape::Short, 0, 22, START_MS);
        assert!((0..10_000).all(|index| message(&mut clean, index).2.is_good()));
    }

    #[test]
    fn good_messages_are_json_within_the_limits_and_bad_ones_are_not() {
        let mut generator = Devices::new(500, Shape::Short, 300, 22, START_MS);
        for index in 0..5000 {
            let (key, payload, quality) = message(&mut generator, index);
            assert_eq!(is_acceptable(&key, &payload), quality.is_good(), "{payload}");
        }
    }

    fn is_acceptable(key: &str, payload: &str) -> bool {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(payload) else { return false };
        let number = |name: &str| value[name].as_f64().unwrap();
        value["device_id"] == key
            && value["measured_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok()
            && number("power_w").abs() <= 50_000.0
            && (80.0..=300.0).contains(&number("voltage_v"))
            && ["ok", "degraded", "offline"].contains(&value["status"].as_str().unwrap())
    }

    #[test]
    fn a_device_reads_once_a_minute_and_the_devices_spread_over_it() {
        let generator = Devices::new(500_000, Shape::Short, 0, 22, START_MS);
        assert_eq!(generator.measured_at_ms(0), START_MS);
        assert_eq!(generator.measured_at_ms(250_000), START_MS + 30_000);
        assert_eq!(generator.measured_at_ms(499_999), START_MS + 59_999);
        assert_eq!(generator.measured_at_ms(500_000), START_MS + 60_000);
    }
}
