//! Keeps one row per device, and deletes it when the device goes offline.

use sluice_plugin::{Change, Message, Rejection, Settings, Transform};

#[path = "readings/kept.rs"]
mod kept;

use kept::Kept;

/// None.
#[derive(Settings)]
struct Devices {}

/// What the rule needs to see.
#[derive(Message)]
struct Reading<'a> {
    status: &'a str,
}

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
