//! A guest that commits the crime its settings name: `{"crime": "endless-loop", "on": "broken"}`.
//! Written against the bare contract, because the SDK would not let it.
//!
//! Without a crime it is an honest plugin over messages with `/device_id` and `/seq`. With `on`, only
//! batches with that text in a payload see the crime. With `told`, each message may name one itself, as in
//! `{"device_id": "a", "seq": 1, "crime": "panic"}`.

mod crime;
mod describe;
mod honest;

use std::cell::RefCell;

use serde::Deserialize;

use self::bindings::exports::sluice::plugin::transform::{Batch, Guest, Outcome};
use self::bindings::sluice::plugin::log::{self, Level};
use self::bindings::sluice::plugin::schema::Description;
use self::crime::Crime;

/// What wit-bindgen makes of the contract.
#[allow(missing_docs, clippy::pedantic, unsafe_op_in_unsafe_fn)]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit", world: "plugin" });
    export!(Hostile with_types_in self);
    use super::Hostile;
}

/// The pipeline's settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    crime: Crime,
    /// Text that a payload of the batch must contain.
    on: String,
    /// Messages name their crimes.
    told: bool,
}

impl Settings {
    fn crime_on(&self, batch: &Batch) -> Crime {
        if self.told {
            told(batch)
        } else if concerns(batch, &self.on) {
            self.crime
        } else {
            Crime::None
        }
    }
}

thread_local! {
    static SETTINGS: RefCell<Settings> = RefCell::default();
}

struct Hostile;

impl Guest for Hostile {
    fn configure(settings: String) -> Result<(), String> {
        std::panic::set_hook(Box::new(|panic| log::write(Level::Error, &panic.to_string())));
        let settings: Settings =
            serde_json::from_str(&settings).map_err(|error| error.to_string())?;
        settings.crime.in_configure()?;
        SETTINGS.set(settings);
        Ok(())
    }

    fn describe() -> Description {
        SETTINGS.with_borrow(|settings| describe::describe(settings.crime))
    }

    fn process(batch: Batch) -> Result<Outcome, String> {
        let outcome = honest::process(&batch);
        SETTINGS.with_borrow(|settings| settings.crime_on(&batch).in_process(&batch, outcome))
    }
}

/// True when a payload contains `text`.
fn concerns(batch: &Batch, text: &str) -> bool {
    let data = &batch.payloads.values.data;
    text.is_empty() || data.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The crime that messages of the batch ask for: the first that fails the batch, else the first.
fn told(batch: &Batch) -> Crime {
    let spans = &batch.payloads.values;
    let starts = std::iter::once(&0).chain(&spans.ends);
    let payloads = starts.zip(&spans.ends).map(|(start, end)| *start as usize..*end as usize);
    let crimes = payloads.filter_map(|place| crime_in(&spans.data[place]));
    crimes.min_by_key(|crime| crime.is_within_the_contract()).unwrap_or_default()
}

fn crime_in(payload: &[u8]) -> Option<Crime> {
    #[derive(Deserialize)]
    struct Told {
        crime: Crime,
    }

    const NAME: &[u8] = b"\"crime\"";
    payload.windows(NAME.len()).find(|window| *window == NAME)?;
    serde_json::from_slice(payload).ok().map(|told: Told| told.crime)
}
