//! Marks its rows with `b`; the tests replace it with its twin under load.

#[path = "marker/rules.rs"]
mod rules;

use rules::Marker;

/// What each row says of this version.
const MARK: &str = "b";

sluice_plugin::export!(Marker, name = "marker-b");
