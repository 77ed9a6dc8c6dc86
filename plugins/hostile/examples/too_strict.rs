//! Rejects nearly everything: a version that should not have been deployed, until its twin replaces it.

use sluice_plugin::{Message, Rejection, Settings, Transform, reject};

#[path = "readings/kept.rs"]
mod kept;

use kept::Kept;

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
