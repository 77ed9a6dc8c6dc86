//! Marks its rows with `a`; the tests replace it with its twin under load.

#[path = "marker/rules.rs"]
mod rules;

use rules::Marker;

/// What each row says of this version.
const MARK: &str = "a";

sluice_plugin::export!(Marker, name = "marker-a");
