//! Codes of the part `settings`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[];
