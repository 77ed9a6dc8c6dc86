//! Codes of the part `plugin`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
