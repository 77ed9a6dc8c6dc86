//! What a person reads when topic and tables differ.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

/// Shown of each kind before the rest is counted only.
const SHOWN_MAX: usize = 8;

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Difference {
    MissingRow {
        partition: i32,
        offset: i64,
        table: &'static str,
        text: String,
    },
    DuplicateRow {
        partition: i32,
        offset: i64,
        table: &'static str,
        text: String,
        count: usize,
    },
    ExtraRow {
        table: &'static str,
        text: String,
    },
    MissingDeadLetter {
        partition: i32,
        offset: i64,
        stage: String,
    },
    DuplicateDeadLetter {
        partition: i32,
        offset: i64,
        count: usize,
    },
    ExtraDeadLetter {
        partition: i32,
        offset: i64,
        reason: String,
    },
    DeadLetterDiffers {
        partition: i32,
        offset: i64,
        what: &'static str,
        found: String,
        expected: String,
    },
    ReplayDiffers {
        partition: i32,
        offset: i64,
        rows: i32,
        expected: Option<i32>,
    },
    MissingPosition {
        partition: i32,
    },
    ExtraPosition {
        partition: i32,
    },
    PositionDiffers {
        partition: i32,
        found: i64,
        log_end: i64,
    },
    LineageGap {
        partition: i32,
        from: i64,
        to: i64,
    },
    LineageOverlap {
        partition: i32,
        from: i64,
        to: i64,
    },
    LineageOfOtherTopic {
        partition: i32,
        from: i64,
    },
    CountsDiffer {
        partition: i32,
        from: i64,
        to: i64,
        found: [i64; 6],
        expected: [i64; 6],
    },
    OutOfOrder {
        partition: i32,
        table: &'static str,
        offset: i64,
        before: i64,
    },
    OtherVersion {
        partition: i32,
        offset: i64,
        marker: String,
        expected: String,
    },
}

impl Difference {
    /// Name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::MissingRow { .. } => "missing row",
            Self::DuplicateRow { .. } => "duplicate row",
            Self::ExtraRow { .. } => "row of no message",
            Self::MissingDeadLetter { .. } => "missing dead letter",
            Self::DuplicateDeadLetter { .. } => "duplicate dead letter",
            Self::ExtraDeadLetter { .. } => "dead letter of a good message",
            Self::DeadLetterDiffers { .. } => "dead letter differs from its message",
            Self::ReplayDiffers { .. } => "replayed dead letter",
            Self::MissingPosition { .. } => "missing position",
            Self::ExtraPosition { .. } => "position of no partition",
            Self::PositionDiffers { .. } => "position is not the end of the log",
            Self::LineageGap { .. } => "gap in lineage",
            Self::LineageOverlap { .. } => "overlap in lineage",
            Self::LineageOfOtherTopic { .. } => "lineage of another topic",
            Self::CountsDiffer { .. } => "counts in lineage",
            Self::OutOfOrder { .. } => "order of rows",
            Self::OtherVersion { .. } => "row of another version than lineage says",
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingRow { partition, offset, table, text } => {
                write!(f, "{partition}:{offset} {table}: {text}")
            }
            Self::DuplicateRow { partition, offset, table, text, count } => {
                write!(f, "{partition}:{offset} {table}: {count} times: {text}")
            }
            Self::ExtraRow { table, text } => write!(f, "{table}: {text}"),
            Self::MissingDeadLetter { partition, offset, stage } => {
                write!(f, "{partition}:{offset} (stage {stage})")
            }
            Self::DuplicateDeadLetter { partition, offset, count } => {
                write!(f, "{partition}:{offset} {count} times")
            }
            Self::ExtraDeadLetter { partition, offset, reason } => {
                write!(f, "{partition}:{offset} {reason}")
            }
            Self::DeadLetterDiffers { partition, offset, what, found, expected } => {
                write!(f, "{partition}:{offset} {what}: found {found}, expected {expected}")
            }
            Self::ReplayDiffers { partition, offset, rows, expected } => {
                write!(f, "{partition}:{offset} {rows} rows, expected {expected:?}, once")
            }
            Self::MissingPosition { partition } | Self::ExtraPosition { partition } => {
                write!(f, "{partition}")
            }
            Self::PositionDiffers { partition, found, log_end } => {
                write!(f, "{partition}: position {found}, log ends at {log_end}")
            }
            Self::LineageGap { partition, from, to }
            | Self::LineageOverlap { partition, from, to } => {
                write!(f, "{partition}:{from}..{to}")
            }
            Self::LineageOfOtherTopic { partition, from } => write!(f, "{partition}:{from}"),
            Self::CountsDiffer { partition, from, to, found, expected } => write!(
                f,
                "{partition}:{from}..{to} messages, rows_from, rows, filtered, rejected: {found:?}, expected {expected:?}"
            ),
            Self::OutOfOrder { partition, table, offset, before } => {
                write!(f, "{partition}:{offset} arrived in {table} before {before}")
            }
            Self::OtherVersion { partition, offset, marker, expected } => {
                write!(f, "{partition}:{offset} marked `{marker}`, lineage says `{expected}`")
            }
        }
    }
}

/// The differences by kind; of many alike the first few and their number.
pub fn differences_text(differences: &[Difference]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Difference>> = BTreeMap::new();
    for difference in differences {
        kinds.entry(difference.kind()).or_default().push(difference);
    }
    let mut text = String::new();
    for (kind, all) in kinds {
        _ = writeln!(text, "{kind}: {}", all.len());
        for difference in all.iter().take(SHOWN_MAX) {
            _ = writeln!(text, "  {difference}");
        }
        if all.len() > SHOWN_MAX {
            _ = writeln!(text, "  ...");
        }
    }
    text
}
