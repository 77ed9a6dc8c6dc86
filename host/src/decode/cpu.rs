//! What reading quickly asks of a processor, and how any processor does it.
//! Knows single values, no documents and no columns.
//!
//! Everything here is inlined always, down to the instructions: only so is it compiled as a part of
//! the loop over a batch, which is the one place where the compiler is told of the processor's features.
#![expect(
    clippy::inline_always,
    reason = "a call would be compiled without the processor's features"
)]

use super::numbers::Marks;
use super::timestamp::Clock;

/// The longest piece of a layout that is compared at once.
pub const GAP_MAX: usize = 32;

/// Bytes of a number that is read quickly, at most.
pub const NUMBER_MAX: usize = 16;

/// Bytes of `"2026-11-22T03:04:05.123Z"`.
pub const TIME: usize = 26;

/// How many bytes of a string are characters that stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// Bytes before the first quote, backslash or control character; 32 when all of them are.
    pub count: usize,
    /// False when some of these begin or continue a character beyond ASCII.
    pub is_ascii: bool,
}

/// A number as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// There is a minus.
    pub negative: bool,
    /// All digits as one integer.
    pub digits: i64,
    /// How many bytes it takes.
    pub length: usize,
    /// How many digits stand behind the dot.
    pub fraction: usize,
}

/// Work that is compiled for one processor, as a function of its own.
pub trait Task {
    type Result;

    fn run<C: Cpu>(self, cpu: C) -> Self::Result;
}

/// A processor. Everything it is shown may lie behind the payload's end: the caller looks how far
/// the answer reaches.
pub trait Cpu: Copy {
    /// Runs a task. What is not done for each value is one, to leave the registers to what is.
    fn run<T: Task>(self, task: T) -> T::Result;

    /// True when the first `length` bytes, at most all, are those of `gap`.
    fn is_gap_ahead(self, ahead: &[u8; GAP_MAX], gap: &[u8; GAP_MAX], length: usize) -> bool;

    /// The plain characters of a string.
    fn plain(self, ahead: &[u8; 32]) -> Plain;

    /// True when all bytes are plain characters of a string, and ASCII.
    fn is_plain(self, ahead: &[u8; 64]) -> bool;

    /// The number that begins here, if it is one as in JSON, without an exponent and of at most
    /// [`NUMBER_MAX`] bytes. What follows it is not looked at, but for another dot and an exponent.
    fn number(self, ahead: &[u8; 32]) -> Option<Number>;

    /// A time of exactly this form: `"2026-11-22T03:04:05.123Z"`. Its digits are not checked for range.
    /// `None` where this is not quicker than reading it as any other text.
    fn time(self, ahead: &[u8; TIME]) -> Option<Clock>;

    /// Which bytes are what in a list of numbers. `None` where this is not quicker than going through it.
    fn marks(self, ahead: &[u8; 64]) -> Option<Marks>;
}

/// The highest bit of each of eight bytes.
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// Any processor: eight bytes at a time.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

impl Cpu for Portable {
    #[inline(never)]
    fn run<T: Task>(self, task: T) -> T::Result {
        task.run(self)
    }

    #[inline(always)]
    fn is_gap_ahead(self, ahead: &[u8; GAP_MAX], gap: &[u8; GAP_MAX], length: usize) -> bool {
        ahead[..length] == gap[..length]
    }

    #[inline(always)]
    fn plain(self, ahead: &[u8; 32]) -> Plain {
        let mut is_ascii = true;
        for (index, eight) in ahead.as_chunks::<8>().0.iter().enumerate() {
            let eight = u64::from_le_bytes(*eight);
            let special = super::scan::specials(eight);
            let count = special.trailing_zeros() as usize / 8;
            // The bytes below the lowest special one.
            let plain = !special & special.wrapping_sub(1);
            is_ascii &= eight & HIGHS & plain == 0;
            if special != 0 {
                return Plain { count: index * 8 + count, is_ascii };
            }
        }
        Plain { count: 32, is_ascii }
    }

    #[inline(always)]
    fn is_plain(self, ahead: &[u8; 64]) -> bool {
        let eights = ahead.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight));
        eights.fold(0, |others, eight| others | super::scan::specials(eight) | eight & HIGHS) == 0
    }

    #[inline(always)]
    fn number(self, ahead: &[u8; 32]) -> Option<Number> {
        let negative = ahead[0] == b'-';
        let first = usize::from(negative);
        let mut digits = 0;
        let mut length = first;
        let mut dot = None;
        for byte in &ahead[first..=NUMBER_MAX] {
            match byte {
                b'0'..=b'9' => digits = digits * 10 + i64::from(byte - b'0'),
                b'.' if dot.is_some() => return None,
                b'.' => dot = Some(length),
                _ => break,
            }
            length += 1;
        }
        let whole = dot.unwrap_or(length) - first;
        let fraction = dot.map_or(0, |dot| length - dot - 1);
        let is_odd = whole == 0
            || length > NUMBER_MAX
            || dot.is_some() && fraction == 0
            || ahead[first] == b'0' && whole > 1
            || ahead[length] | 0x20 == b'e';
        (!is_odd).then_some(Number { negative, digits, length, fraction })
    }

    #[inline(always)]
    fn time(self, _: &[u8; TIME]) -> Option<Clock> {
        None
    }

    #[inline(always)]
    fn marks(self, _: &[u8; 64]) -> Option<Marks> {
        None
    }
}
