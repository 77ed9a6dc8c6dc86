//! Codes of the part `postgres`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
