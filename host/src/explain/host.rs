//! Codes of the host itself.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[Explanation {
    code: "SL-X001",
    title: "a lane has panicked",
    text: "A check inside Sluice found its own books wrong, or met a defect. Going on could commit wrong offsets, so \
           the pipeline stops; what was not committed is read again after a restart. Other pipelines go on.",
    way_out: "Start the pipeline again, and report the panic message and the place that the log shows.",
}];
