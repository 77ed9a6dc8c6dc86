//! Codes of the host itself.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[Explanation {
    code: "SL-X001",
    title: "a lane has panicked",
    text: "A check inside Sluice found its own state wrong, or met a bug. Nothing that was in memory is used any more: \
           the pipeline ends its work, begins again after a pause from the positions in Postgres, and reads what was not \
           committed once more. If it panics again it is blocked, and tried after 1 s, 2 s, ... up to a minute. Other \
           pipelines go on.",
    hint: "Report the panic message and the place that the log shows. If it panics again and again, another batch size \
              (max_messages, max_bytes) may get past it; sluice resolve decides where a partition goes on.",
}];
