//! A guest that commits the crime its settings name: `{"crime": "endless-loop", "on": "broken"}`.
//! Written against the bare contract, because the SDK would not let it.
//!
//! Without a crime it is an honest plugin over messages with `/device_id` and `/seq`. With `on`, only
//! batches with that text in a payload see the crime.

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
        SETTINGS.with_borrow(|settings| {
            let crime = if concerns(&batch, &settings.on) { settings.crime } else { Crime::None };
            crime.in_process(&batch, outcome)
        })
    }
}

/// True when a payload contains `text`.
fn concerns(batch: &Batch, text: &str) -> bool {
    let data = &batch.payloads.values.data;
    text.is_empty() || data.windows(text.len()).any(|window| window == text.as_bytes())
}
