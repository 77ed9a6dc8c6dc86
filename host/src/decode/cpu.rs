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

/// Digits of a number that is read quickly, at most, its dot included.
pub const DIGITS_MAX: usize = 16;

/// Bytes of `2026-11-22T03:04:05.123Z"`.
pub const TIME: usize = 25;

/// How many bytes of a string are characters that stand for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// Bytes before the first quote, backslash or control character; 32 when all of them are.
    pub count: usize,
    /// False when some of these begin or continue a character beyond ASCII.
    pub is_ascii: bool,
}

/// A number as it is written, without its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digits {
    /// All digits as one integer.
    pub value: u64,
    /// How many bytes they take, the dot included.
    pub length: usize,
    /// How many stand behind the dot.
    pub fraction: usize,
}

/// Work that is compiled for one processor.
pub trait Task {
    fn run<C: Cpu>(self, cpu: C);
}

/// A processor. Everything it is shown may lie behind the payload's end: the caller looks how far
/// the answer reaches.
pub trait Cpu: Copy {
    /// True when the first `length` bytes, at most all, are those of `gap`.
    fn is_gap_ahead(self, ahead: &[u8; GAP_MAX], gap: &[u8; GAP_MAX], length: usize) -> bool;

    /// The plain characters of a string.
    fn plain(self, ahead: &[u8; 32]) -> Plain;

    /// The number that begins here, if it is one as in JSON, without sign and exponent and of at
    /// most [`DIGITS_MAX`] bytes. What follows the digits is not looked at, but for an exponent.
    fn digits(self, ahead: &[u8; 32]) -> Option<Digits>;

    /// A time of exactly this form: `2026-11-22T03:04:05.123Z"`. Its digits are not checked for range.
    /// `None` where this is not quicker than reading it as any other text.
    fn time(self, ahead: &[u8; TIME]) -> Option<Clock>;

    /// Which bytes are what in a list of numbers. `None` where this is not quicker than going through it.
    fn marks(self, ahead: &[u8; 64]) -> Option<Marks>;
}

/// Any processor: eight bytes at a time.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

impl Cpu for Portable {
    #[inline(always)]
    fn is_gap_ahead(self, ahead: &[u8; GAP_MAX], gap: &[u8; GAP_MAX], length: usize) -> bool {
        ahead[..length] == gap[..length]
    }

    #[inline(always)]
    fn plain(self, ahead: &[u8; 32]) -> Plain {
        const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
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
    fn digits(self, ahead: &[u8; 32]) -> Option<Digits> {
        let mut value = 0;
        let mut length = 0;
        let mut whole = None;
        for byte in &ahead[..=DIGITS_MAX] {
            match byte {
                b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
                b'.' if whole.is_none() => whole = Some(length),
                _ => break,
            }
            length += 1;
        }
        let fraction = whole.map_or(0, |whole| length - whole - 1);
        let whole_count = whole.unwrap_or(length);
        let is_odd = whole_count == 0
            || length > DIGITS_MAX
            || whole.is_some() && fraction == 0
            || ahead[0] == b'0' && whole_count > 1
            || ahead[length] | 0x20 == b'e';
        (!is_odd).then_some(Digits { value, length, fraction })
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
