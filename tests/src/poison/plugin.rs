//! Messages that the plugin rejects, filters, or fails on in one of its ways.

use super::{End, Kind, dead_letter};

/// What the plugin is told, the code, and what the reason says: the guest's own words, and the place.
const FAULTS: &[(&str, &str, &str)] = &[
    ("panic", "trap", "is too much for me"),
    ("panic", "trap", "every_type.rs:"),
    ("divide", "trap", "attempt to divide by zero"),
    ("index", "trap", "index out of bounds"),
    ("unwrap", "trap", "there must be something"),
    ("trap", "trap", "wasm `unreachable` instruction executed (at every_type::trap)"),
    ("loop", "timeout", "in process (at every_type::endless_loop)"),
    ("hog", "memory-limit", "64 MiB"),
    ("recurse", "stack-overflow", "in process (at every_type::recurse)"),
    ("flood", "output-too-large", "rows"),
    ("lie", "contract-breach", "column `said`"),
    ("fail", "failed", "up"),
];

/// All of them.
pub(super) fn kinds() -> Vec<Kind> {
    let act = |name: &str, act: &str, end| Kind::with(name, &format!("\"act\":\"{act}\""), end);
    let mut kinds: Vec<Kind> = (FAULTS.iter().enumerate())
        .map(|(index, &(told, code, says))| {
            act(&format!("plugin: {told} {index}"), told, dead_letter("plugin", code, says))
        })
        .collect();
    kinds.extend([
        act("plugin: reject", "reject", dead_letter("plugin", "unwanted", "is not wanted")),
        act(
            "plugin: reject with control characters",
            "reject-oddly",
            dead_letter("plugin", "odd", "line next\\u{1b}[31m\\u{0}"),
        ),
        act("plugin: drop", "drop", End::Nothing),
        act("plugin: twice", "twice", End::Rows(["said=first", ""])),
        act("plugin: an act that it does not know", "dance", End::Row("")),
    ]);
    kinds
}
