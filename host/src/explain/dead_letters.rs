//! Codes of the part `dead letters`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[Explanation {
    code: "SL-D001",
    title: "a dead letter cannot be read",
    text: "The dead letter's names and values of headers do not belong together: somebody has changed the row by hand. \
           Nothing of the batch that it is in was replayed.",
    hint: "Correct header_names and header_values of the dead letter in sluice.dead_letters, both of the same length; or \
              leave it out of the selection; or discard it.",
}];
