//! The messages of the load: home-energy readings, a few of them wrong in a known way. Pure.

use rdkafka::message::{Header, OwnedHeaders};
use serde_json::json;

/// Name of the header that says what becomes of a message: `row`, or the stage that rejects it.
pub const TRUTH: &str = "truth";

/// Microseconds between the readings of one device; all times lie after this many seconds.
const EPOCH_MS: i64 = 1_790_000_000_000;

/// Devices in each partition.
const DEVICES: u64 = 500;

/// Shares of a load.
#[derive(Debug, Clone, Copy)]
pub struct Mix {
    /// Messages of a thousand that become no row.
    pub bad_per_mille: u64,
    /// Messages of a thousand in the long form, about 2 KB.
    pub long_per_mille: u64,
}

impl Default for Mix {
    fn default() -> Self {
        Self { bad_per_mille: 20, long_per_mille: 10 }
    }
}

/// A message before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Payload.
    pub payload: Option<Vec<u8>>,
    /// Headers in order; the first is [`TRUTH`].
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Time of the message.
    pub timestamp_ms: i64,
}

impl Made {
    /// A message with `payload` that ends as `truth` says.
    pub fn raw(truth: &str, key: &str, payload: &str) -> Self {
        Self {
            key: Some(key.as_bytes().to_vec()),
            payload: Some(payload.as_bytes().to_vec()),
            headers: vec![(TRUTH.to_owned(), Some(truth.as_bytes().to_vec()))],
            timestamp_ms: EPOCH_MS,
        }
    }

    pub(super) fn owned_headers(&self) -> OwnedHeaders {
        self.headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(self.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_deref() })
            })
    }
}

/// Message `number` of `partition`; always the same.
pub fn make(mix: Mix, partition: i32, number: u64) -> Made {
    let device_id = format!("hems-{partition:02}-{:04}", number % DEVICES);
    let timestamp_ms = EPOCH_MS + i64::try_from(number).unwrap_or(0) * 7;
    // Primes spread the kinds over partitions and numbers.
    let lot = (number * 7919 + u64::try_from(partition).unwrap_or(0) * 104_729) % 1000;
    let good = lot >= mix.bad_per_mille;
    let (truth, payload) = if good {
        let long = lot < mix.bad_per_mille + mix.long_per_mille;
        ("row", Some(reading(&device_id, timestamp_ms, number, long).to_string().into_bytes()))
    } else {
        bad(&device_id, timestamp_ms, number)
    };
    let mut headers = vec![(TRUTH.to_owned(), Some(truth.as_bytes().to_vec()))];
    if !good {
        // What a dead letter must keep: order, doubles, missing values, bytes that are no text.
        headers.push(("trace".to_owned(), Some(number.to_be_bytes().to_vec())));
        headers.push(("trace".to_owned(), None));
        headers.push((String::new(), Some(vec![])));
    }
    let key = (!number.is_multiple_of(97)).then(|| device_id.clone().into_bytes());
    Made { key, payload, headers, timestamp_ms }
}

fn reading(device_id: &str, timestamp_ms: i64, number: u64, long: bool) -> serde_json::Value {
    let measured_at =
        jiff::Timestamp::from_millisecond(timestamp_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    // Quarters print the same in Postgres and in Rust.
    let quarter = |range: u64| (number % range) as f64 / 4.0;
    let status = ["ok", "degraded", "offline"][(number % 3) as usize];
    let mut reading = json!({
        "device_id": device_id,
        "measured_at": format!("{measured_at:.3}"),
        "seq": number,
        "power_w": quarter(40_000) - 5000.0,
        "voltage_v": 220.0 + quarter(80),
        "current_a": quarter(64),
        "energy_wh": number * 3,
        "temperature_c": quarter(160) - 10.0,
        "status": status,
    });
    if long {
        reading["samples_w"] = (0..60).map(|i| (number + i) as f64 / 2.0).collect();
        reading["diagnostics"] = "d\u{fc}ster \"quoted\" \\ line\n".repeat(55).into();
    }
    reading
}

/// A message that must end as a dead letter, and the stage that rejects it.
fn bad(device_id: &str, timestamp_ms: i64, number: u64) -> (&'static str, Option<Vec<u8>>) {
    let mut reading = reading(device_id, timestamp_ms, number, false);
    let stage = match number % 8 {
        0 => return ("decode", Some(reading.to_string().as_bytes()[..40].to_vec())),
        1 => return ("decode", None),
        2 => return ("decode", Some(vec![0xff, 0xfe, 0x00])),
        3 => {
            reading.as_object_mut().map(|object| object.remove("power_w"));
            "decode"
        }
        4 => {
            reading["seq"] = "many".into();
            "decode"
        }
        5 => {
            reading["voltage_v"] = 1000.0.into();
            "plugin"
        }
        6 => {
            reading["status"] = "odd".into();
            "plugin"
        }
        _ => {
            reading["power_w"] = 60_000.0.into();
            "plugin"
        }
    };
    (stage, Some(reading.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_has_the_shares_it_was_asked_for() {
        let mix = Mix { bad_per_mille: 100, long_per_mille: 50 };
        let made: Vec<Made> = (0..1000).map(|number| make(mix, 3, number)).collect();
        let bad = made.iter().filter(|made| made.headers[0].1.as_deref() != Some(b"row")).count();
        let long = made
            .iter()
            .filter(|made| made.payload.as_ref().is_some_and(|payload| payload.len() > 1500))
            .count();
        assert_eq!((bad, long), (100, 50));
    }

    #[test]
    fn a_message_can_be_made_again() {
        assert_eq!(make(Mix::default(), 1, 42), make(Mix::default(), 1, 42));
        assert_ne!(make(Mix::default(), 1, 42), make(Mix::default(), 2, 42));
    }
}
