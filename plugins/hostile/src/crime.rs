//! The crimes. Each is what a careless or malicious author could do.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use crate::bindings::exports::sluice::plugin::transform::{Batch, Outcome, Rejection};
use crate::bindings::sluice::plugin::columns::{Column, Values};
use crate::bindings::sluice::plugin::log::{self, Level};
use crate::honest::{DETAIL, LENGTH, LONG, NOTE};

/// What to do instead of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Crime {
    #[default]
    None,
    // In configure and describe.
    ConfigureLoops,
    ConfigurePanics,
    ConfigureRefuses,
    DescribeNonsense,
    DescribePanics,
    DescribeMillions,
    // Against the host itself.
    DeepRecursion,
    EndlessLoop,
    GiantOutput,
    LargeOutput,
    LogFlood,
    MemoryHog,
    OutOfBounds,
    Panic,
    Trap,
    // Lies in the outcome.
    BooleanOfTwo,
    CodeWithSpaces,
    EndsDescend,
    EndsPassTheData,
    ExtraColumn,
    InvalidUtf8,
    LengthsDiffer,
    MessageOutOfRange,
    MessagesDescend,
    MissingOutput,
    NotJson,
    NullInRequired,
    NullOfTwo,
    RejectAndKeep,
    RejectOutOfRange,
    RejectTwice,
    RowsWithoutEnd,
    SplitCharacter,
    WrongKind,
    // Within the contract, and worth testing.
    CountCalls,
    DropAll,
    ErrorResult,
    Leak,
    LogLine,
    RejectAll,
    RejectMultiline,
}

static CALLS: AtomicU64 = AtomicU64::new(0);

impl Crime {
    /// Crimes before the first batch.
    pub fn in_configure(self) -> Result<(), String> {
        match self {
            Self::ConfigureLoops => endless_loop(),
            Self::ConfigurePanics => panic!("no settings suit me"),
            Self::ConfigureRefuses => Err("max_power_w must be positive".into()),
            _ => Ok(()),
        }
    }

    /// True for what no host can take offence at.
    pub fn is_within_the_contract(self) -> bool {
        matches!(
            self,
            Self::None
                | Self::CountCalls
                | Self::DropAll
                | Self::Leak
                | Self::LogFlood
                | Self::LogLine
                | Self::RejectAll
                | Self::RejectMultiline
        )
    }

    /// The honest `outcome`, spoilt.
    pub fn in_process(self, batch: &Batch, mut outcome: Outcome) -> Result<Outcome, String> {
        match self {
            Self::DeepRecursion => outcome.rejections.truncate(recurse(1) as usize),
            Self::EndlessLoop => endless_loop(),
            // More than is copied out at all, and more than is believed.
            Self::GiantOutput => add_columns(&mut outcome, 11),
            Self::LargeOutput => add_columns(&mut outcome, 5),
            Self::LogFlood => log_flood(),
            Self::MemoryHog => hog_memory(),
            Self::OutOfBounds => read_out_of_bounds(),
            Self::Panic => panic!("cannot divide {} by nothing", batch.count),
            Self::Trap => trap(),
            Self::ErrorResult => return Err("lookup table is empty\nsecond line".into()),
            Self::CountCalls => count_calls(&mut outcome),
            Self::DropAll => outcome.outputs[0] = rows_of_none(&outcome),
            Self::Leak => std::mem::forget(black_box(vec![1_u8; 8 << 20])),
            Self::LogLine => log::write(Level::Warn, "something is odd\u{1b}[31m"),
            _ => self.lie(batch, &mut outcome),
        }
        Ok(outcome)
    }

    fn lie(self, batch: &Batch, outcome: &mut Outcome) {
        let rows = &mut outcome.outputs[0];
        match self {
            Self::BooleanOfTwo => booleans(&mut rows.columns[LONG])[0] = 2,
            Self::EndsDescend => ends(&mut rows.columns[NOTE])[0] = u32::MAX,
            Self::EndsPassTheData => {
                *ends(&mut rows.columns[NOTE]).last_mut().expect("a row") += 1000;
            }
            Self::ExtraColumn => rows.columns.push(rows.columns[LONG].clone()),
            Self::InvalidUtf8 => write_note(&mut rows.columns[NOTE], b"\xff\xfe"),
            Self::LengthsDiffer => integers(&mut rows.columns[LENGTH]).push(1),
            Self::MessageOutOfRange => *rows.messages.last_mut().expect("a row") = batch.count,
            // Also where there is only one.
            Self::MessagesDescend => rows.messages.insert(0, 1),
            Self::MissingOutput => outcome.outputs.clear(),
            Self::NotJson => write_note(&mut rows.columns[DETAIL], b"{\"length\":"),
            Self::NullInRequired => rows.columns[LENGTH].nulls = ones(batch.count),
            Self::NullOfTwo => rows.columns[NOTE].nulls[0] = 2,
            Self::RowsWithoutEnd => rows.messages = vec![0; 5_000_000],
            Self::SplitCharacter => split_character(&mut rows.columns[NOTE]),
            Self::WrongKind => rows.columns[LENGTH] = rows.columns[LONG].clone(),
            _ => self.reject(batch, outcome),
        }
    }

    fn reject(self, batch: &Batch, outcome: &mut Outcome) {
        let rejections = &mut outcome.rejections;
        match self {
            Self::CodeWithSpaces => rejections.push(rejection(0, "not a code")),
            Self::RejectAndKeep => rejections.push(rejection(0, "unwanted")),
            Self::RejectOutOfRange => rejections.push(rejection(batch.count, "unwanted")),
            Self::RejectTwice => rejections.extend([0, 0].map(|it| rejection(it, "unwanted"))),
            Self::RejectAll | Self::RejectMultiline => {
                rejections.extend((0..batch.count).map(|it| rejection(it, "unwanted")));
            }
            _ => return,
        }
        if self == Self::RejectMultiline {
            rejections[0].reason = "first\nsecond\0".into();
        }
        if self != Self::RejectAndKeep {
            outcome.outputs[0] = rows_of_none(outcome);
        }
    }
}

fn rejection(message: u32, code: &str) -> Rejection {
    Rejection { message, code: code.into(), reason: "for no reason".into(), retry: false }
}

/// The same columns without rows.
fn rows_of_none(outcome: &Outcome) -> crate::bindings::exports::sluice::plugin::transform::Rows {
    let mut rows = outcome.outputs[0].clone();
    rows.messages.clear();
    for column in &mut rows.columns {
        column.nulls.clear();
        match &mut column.values {
            Values::Text(spans) | Values::Json(spans) => {
                spans.data.clear();
                spans.ends.clear();
            }
            Values::Int64(values) => values.clear(),
            Values::Boolean(values) => values.clear(),
            _ => unreachable!("no such column"),
        }
    }
    rows
}

#[inline(never)]
fn endless_loop() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns + 1);
    }
}

/// Keeps its numbers in locals, so that the host's stack ends before the guest's own.
#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth) + 1)) + depth
}

#[inline(never)]
fn hog_memory() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![7_u8; 1 << 20]));
    }
}

fn log_flood() {
    for line in 0..100_000 {
        log::write(Level::Info, &format!("line {line}\u{1b}[2J\nsecond"));
    }
    log::write(Level::Info, &"x".repeat(1 << 20));
}

#[inline(never)]
fn read_out_of_bounds() {
    let far = black_box(usize::MAX - 64) as *const u8;
    // SAFETY: not safe at all, which is the point; in the sandbox it traps.
    black_box(unsafe { far.read_volatile() });
}

#[inline(never)]
fn trap() -> ! {
    #[cfg(target_arch = "wasm32")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_arch = "wasm32"))]
    std::process::abort();
}

/// Columns of 4 MiB, each legal in size, though not together.
fn add_columns(outcome: &mut Outcome, count: usize) {
    for _ in 0..count {
        let values = Values::Int64(vec![1; 1 << 19]);
        outcome.outputs[0].columns.push(Column { values, nulls: Vec::new() });
    }
}

fn count_calls(outcome: &mut Outcome) {
    let call = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    integers(&mut outcome.outputs[0].columns[LENGTH]).fill(call.cast_signed());
}

fn ones(count: u32) -> Vec<u8> {
    vec![1; count as usize]
}

fn integers(column: &mut Column) -> &mut Vec<i64> {
    let Values::Int64(values) = &mut column.values else { unreachable!("no such column") };
    values
}

fn booleans(column: &mut Column) -> &mut Vec<u8> {
    let Values::Boolean(values) = &mut column.values else { unreachable!("no such column") };
    values
}

fn ends(column: &mut Column) -> &mut Vec<u32> {
    let Values::Text(spans) = &mut column.values else { unreachable!("no such column") };
    &mut spans.ends
}

/// Replaces all texts of a column: the first row has `bytes`, the others are empty.
fn write_note(column: &mut Column, bytes: &[u8]) {
    let (Values::Text(spans) | Values::Json(spans)) = &mut column.values else {
        unreachable!("no such column")
    };
    spans.data = bytes.to_vec();
    let end = u32::try_from(bytes.len()).expect("short");
    spans.ends.fill(end);
    column.nulls.fill(1);
    column.nulls[0] = 0;
}

/// UTF-8 as a whole, but the first value ends inside a character.
fn split_character(column: &mut Column) {
    write_note(column, "ü".as_bytes());
    ends(column)[0] = 1;
}
