//! Codes of the part `kafka`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
