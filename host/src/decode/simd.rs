//! Where the decoder steps outside of what the compiler can prove: bytes behind a payload, and AVX2.
//! Knows single values and the bytes around them, no documents and no columns.
//!
//! Two types carry the proofs. A [`Cursor`] exists only where [`PADDING`] bytes may be read behind the
//! payload, and never leaves the payload, so that loads of that size need no check. An [`Avx2`] exists
//! only where the processor has the instructions, so that its methods are safe to call.
#![expect(clippy::inline_always, reason = "see `Cpu`")]

use std::marker::PhantomData;
use std::{ptr, slice};

/// Bytes that may be read behind a payload, so that no load has to look where it ends.
pub const PADDING: usize = 64;

/// The most that [`Cursor::copy_since`] copies without asking how much it is.
const COPY: usize = 32;

/// A place in a payload, with [`PADDING`] readable bytes behind the payload.
///
/// Two addresses and nothing else, because they stay in registers while a message is read.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    /// In the payload or at its end: never behind `end`, and in the same slice.
    at: *const u8,
    /// The payload's end. In the same slice, [`PADDING`] bytes follow.
    end: *const u8,
    /// The slice, which outlives the cursor and does not change in the meantime.
    slice: PhantomData<&'a [u8]>,
}

impl<'a> Cursor<'a> {
    /// At the first byte of the payload `arena[start..end]`. `None` when too little lies behind it.
    #[inline(always)]
    pub fn new(arena: &'a [u8], start: usize, end: usize) -> Option<Self> {
        if start > end || end > arena.len() || arena.len() - end < PADDING {
            return None;
        }
        let first = arena.as_ptr();
        // SAFETY: neither is more than the slice's length.
        let (at, end) = unsafe { (first.add(start), first.add(end)) };
        Some(Self { at, end, slice: PhantomData })
    }

    /// At the first byte of a copy of `payload`, made in `room`.
    pub fn copied(payload: &[u8], room: &'a mut Vec<u8>) -> Self {
        room.clear();
        room.extend_from_slice(payload);
        room.resize(payload.len() + PADDING, 0);
        Self::new(room, 0, payload.len()).expect("the padding was just appended")
    }

    /// Bytes from here to the payload's end.
    #[inline(always)]
    fn left(&self) -> usize {
        // SAFETY: both lie in one slice, `at` not behind `end`.
        unsafe { self.end.offset_from_unsigned(self.at) }
    }

    /// The payload from here on.
    #[inline(always)]
    pub fn rest(&self) -> &'a [u8] {
        // SAFETY: all bytes between the two lie in a slice that outlives the cursor.
        unsafe { slice::from_raw_parts(self.at, self.left()) }
    }

    /// True behind the last byte.
    #[inline(always)]
    pub fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    /// The next bytes. Those behind the payload's end are any, so whoever acts on them has to
    /// [`advance`](Self::advance) over them first.
    #[inline(always)]
    pub fn ahead<const COUNT: usize>(&self) -> &'a [u8; COUNT] {
        const { assert!(COUNT <= PADDING) };
        // SAFETY: `at` is not behind `end`, and `PADDING` bytes follow `end` in the slice.
        unsafe { &*self.at.cast() }
    }

    /// The next byte; at the end it is any.
    #[inline(always)]
    pub fn byte(&self) -> u8 {
        self.ahead::<1>()[0]
    }

    /// Steps over `count` bytes; `None` when the payload has fewer.
    #[inline(always)]
    #[must_use]
    pub fn advance(&mut self, count: usize) -> Option<()> {
        if count > self.left() {
            return None;
        }
        // SAFETY: this is not behind `end`.
        self.at = unsafe { self.at.add(count) };
        Some(())
    }

    /// The bytes from `start` to here.
    ///
    /// # Panics
    /// When `start` is no earlier place in the same payload.
    #[inline(always)]
    pub fn since(&self, start: Self) -> &'a [u8] {
        assert!(start.at <= self.at && start.end == self.end, "the bytes between two places");
        // SAFETY: the places lie in the same slice, because their ends are the same and lie within a
        // slice, not behind it.
        unsafe { slice::from_raw_parts(start.at, self.at.offset_from_unsigned(start.at)) }
    }

    /// Appends the bytes from `start` to here. Most are few: copying always the same number of them,
    /// and keeping as many as count, spares a call.
    ///
    /// # Panics
    /// As [`Cursor::since`].
    #[inline(always)]
    pub fn copy_since(&self, start: Self, into: &mut Vec<u8>) {
        let bytes = self.since(start);
        if bytes.len() > COPY {
            into.extend_from_slice(bytes);
            return;
        }
        into.reserve(COPY);
        let length = into.len();
        // SAFETY: `PADDING` bytes may be read at any cursor; `COPY` bytes were reserved, and all that
        // are kept are written.
        unsafe {
            ptr::copy_nonoverlapping(start.at, into.as_mut_ptr().add(length), COPY);
            into.set_len(length + bytes.len());
        }
    }
}

const _: () = assert!(COPY <= PADDING);

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm_add_epi8, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_cvtsi128_si64,
        _mm_extract_epi64, _mm_loadl_epi64, _mm_loadu_si128, _mm_madd_epi16, _mm_maddubs_epi16,
        _mm_min_epu8, _mm_movemask_epi8, _mm_packus_epi32, _mm_set1_epi8, _mm_set1_epi16,
        _mm_set1_epi32, _mm_setr_epi8, _mm_shuffle_epi8, _mm_sub_epi8, _mm256_and_si256,
        _mm256_castsi256_si128, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8,
        _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::super::cpu::{Cpu, GAP_MAX, NUMBER_MAX, Number, Plain, TIME, Task};
    use super::super::numbers::Marks;
    use super::super::timestamp::Clock;

    /// Proof that the processor has AVX2 and the bit instructions of its time.
    #[derive(Debug, Clone, Copy)]
    pub struct Avx2(());

    impl Avx2 {
        /// Asks the processor.
        pub fn detect() -> Option<Self> {
            let there = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            there.then_some(Self(()))
        }
    }

    /// What 32 bytes at once are asked for. SAFETY, in all of them: `self` proves that the
    /// instructions exist; the only memory read is the array that is given.
    #[expect(clippy::unused_self, reason = "it is the proof")]
    impl Avx2 {
        #[inline(always)]
        fn load(self, bytes: &[u8; 32]) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
        }

        #[inline(always)]
        fn equal(self, bytes: __m256i, others: __m256i) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_cmpeq_epi8(bytes, others) }
        }

        #[inline(always)]
        fn are(self, bytes: __m256i, byte: u8) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte as i8)) }
        }

        #[inline(always)]
        fn are_at_most(self, bytes: __m256i, byte: u8) -> __m256i {
            // SAFETY: see above.
            unsafe {
                _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(byte as i8)), bytes)
            }
        }

        #[inline(always)]
        fn less(self, bytes: __m256i, byte: u8) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_sub_epi8(bytes, _mm256_set1_epi8(byte as i8)) }
        }

        #[inline(always)]
        fn either(self, bytes: __m256i, others: __m256i) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_or_si256(bytes, others) }
        }

        #[inline(always)]
        fn both(self, bytes: __m256i, others: __m256i) -> __m256i {
            // SAFETY: see above.
            unsafe { _mm256_and_si256(bytes, others) }
        }

        /// The highest bit of each byte.
        #[inline(always)]
        fn mask(self, bytes: __m256i) -> u32 {
            // SAFETY: see above.
            unsafe { _mm256_movemask_epi8(bytes) as u32 }
        }

        /// The number that the first `length` of 32 digits write, at most 16, without the one at `dot`.
        /// A negative `dot` leaves none out. What is no digit is a zero.
        #[inline(always)]
        fn joined(self, digits: __m256i, length: i8, dot: i8) -> u64 {
            // SAFETY: see above.
            unsafe {
                let digits = _mm256_castsi256_si128(digits);
                // Moves the digits to the right end; a negative index gives a zero.
                let ascending = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
                let from = _mm_add_epi8(ascending, _mm_set1_epi8(length - 16));
                // From the dot down, one further; minus one is true.
                let from =
                    _mm_add_epi8(from, _mm_cmpgt_epi8(_mm_set1_epi8(dot.wrapping_add(1)), from));
                let digits = _mm_shuffle_epi8(digits, from);
                let twos = _mm_maddubs_epi16(digits, _mm_set1_epi16(0x010A));
                let fours = _mm_madd_epi16(twos, _mm_set1_epi32(0x0001_0064));
                let eights =
                    _mm_madd_epi16(_mm_packus_epi32(fours, fours), _mm_set1_epi32(0x0001_2710));
                let eights = _mm_cvtsi128_si64(eights) as u64;
                (eights & 0xFFFF_FFFF) * 100_000_000 + (eights >> 32)
            }
        }
    }

    impl Cpu for Avx2 {
        #[inline(always)]
        fn run<T: Task>(self, task: T) -> T::Result {
            #[target_feature(enable = "avx2,bmi1,bmi2")]
            #[inline(never)]
            fn with_avx2<T: Task>(cpu: Avx2, task: T) -> T::Result {
                task.run(cpu)
            }
            // SAFETY: `self` proves that the processor has these features.
            unsafe { with_avx2(self, task) }
        }

        #[inline(always)]
        fn is_gap_ahead(self, ahead: &[u8; GAP_MAX], gap: &[u8; GAP_MAX], length: usize) -> bool {
            let equal = u64::from(self.mask(self.equal(self.load(ahead), self.load(gap))));
            let wanted = (1_u64 << (length & 63)) - 1;
            equal & wanted == wanted
        }

        #[inline(always)]
        fn plain(self, ahead: &[u8; 32]) -> Plain {
            let bytes = self.load(ahead);
            let quote_or_backslash = self.either(self.are(bytes, b'"'), self.are(bytes, b'\\'));
            let special = self.mask(self.either(quote_or_backslash, self.are_at_most(bytes, 0x1F)));
            // All bits below the lowest special byte.
            let plain = !special & special.wrapping_sub(1);
            Plain {
                count: special.trailing_zeros() as usize,
                is_ascii: self.mask(bytes) & plain == 0,
            }
        }

        #[inline(always)]
        fn is_plain(self, ahead: &[u8; 64]) -> bool {
            let (halves, _) = ahead.as_chunks::<32>();
            let other = |bytes| {
                let special = self.either(self.are(bytes, b'"'), self.are(bytes, b'\\'));
                self.either(special, self.are_at_most(bytes, 0x1F))
            };
            let (low, high) = (self.load(&halves[0]), self.load(&halves[1]));
            // Bytes beyond ASCII have the highest bit themselves.
            let others = self.either(other(low), other(high));
            self.mask(self.either(others, self.either(low, high))) == 0
        }

        #[inline(always)]
        fn number(self, ahead: &[u8; 32]) -> Option<Number> {
            let bytes = self.load(ahead);
            let values = self.less(bytes, b'0');
            let digits = self.are_at_most(values, 9);
            // The sign is a bit here and not a step to the next byte: where the number ends, for which
            // everything behind it waits, is known without it.
            let negative = ahead[0] == b'-';
            let (sign, digit) = (u32::from(negative), self.mask(digits));
            let dot = self.mask(self.are(bytes, b'.'));
            let length = (!(digit | dot | sign)).trailing_zeros();
            let whole_end = (!(digit | sign)).trailing_zeros();
            let whole = whole_end - sign;
            // The dot and what follows it.
            let behind = length - whole_end;
            let second_dot = (dot & dot.wrapping_sub(1)).trailing_zeros();
            let is_odd = whole == 0
                || behind == 1
                || length as usize > NUMBER_MAX
                || second_dot < length
                || ahead[usize::from(negative)] == b'0' && whole > 1
                || ahead[length as usize % 32] | 0x20 == b'e';
            if is_odd {
                return None;
            }
            let dot = if behind > 0 { whole_end as i8 } else { i8::MIN };
            Some(Number {
                negative,
                digits: self.joined(self.both(values, digits), length as i8, dot) as i64,
                length: length as usize,
                fraction: behind.saturating_sub(1) as usize,
            })
        }

        #[inline(always)]
        fn time(self, ahead: &[u8; TIME]) -> Option<Clock> {
            let [b'"', ahead @ .., b'"'] = ahead else { return None };
            let (rest, _) = ahead[16..].split_first_chunk::<8>()?;
            // Each byte less the least it may be, and by how much it may be more.
            // SAFETY: `self` proves that the instructions exist; what is loaded are 16 and 8 bytes of arrays.
            let (date, time, rest) = unsafe {
                let least = _mm_loadu_si128(b"0000-00-00T00:00".as_ptr().cast());
                let first = _mm_sub_epi8(_mm_loadu_si128(ahead.as_ptr().cast()), least);
                let more = _mm_setr_epi8(9, 9, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9);
                let least = _mm_loadl_epi64(b":00.000Z".as_ptr().cast());
                let rest = _mm_sub_epi8(_mm_loadl_epi64(rest.as_ptr().cast()), least);
                let more_of_rest = _mm_setr_epi8(0, 9, 9, 0, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0);
                let fits = _mm_and_si128(
                    _mm_cmpeq_epi8(_mm_min_epu8(first, more), first),
                    _mm_cmpeq_epi8(_mm_min_epu8(rest, more_of_rest), rest),
                );
                if _mm_movemask_epi8(fits) != 0xFFFF {
                    return None;
                }
                // In twos: century, year, month, day; hour, minute; second, tenth, rest.
                let order = _mm_setr_epi8(0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, -1, -1, -1, -1);
                let twos =
                    _mm_maddubs_epi16(_mm_shuffle_epi8(first, order), _mm_set1_epi16(0x010A));
                let order =
                    _mm_setr_epi8(1, 2, -1, 4, 5, 6, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
                let rest = _mm_maddubs_epi16(_mm_shuffle_epi8(rest, order), _mm_set1_epi16(0x010A));
                (_mm_cvtsi128_si64(twos), _mm_extract_epi64::<1>(twos), _mm_cvtsi128_si64(rest))
            };
            let two = |twos: i64, index: u32| (twos >> (16 * index) & 0xFF) as u32;
            Some(Clock {
                century: two(date, 0),
                year: two(date, 1),
                month: two(date, 2),
                day: two(date, 3),
                hour: two(time, 0),
                minute: two(time, 1),
                second: two(rest, 0),
                micros: i64::from(two(rest, 1) * 100 + two(rest, 2)) * 1000,
            })
        }

        #[inline(always)]
        fn marks(self, ahead: &[u8; 64]) -> Option<Marks> {
            let (halves, _) = ahead.as_chunks::<32>();
            let (low, high) = (self.load(&halves[0]), self.load(&halves[1]));
            let join = |low, high| u64::from(self.mask(low)) | u64::from(self.mask(high)) << 32;
            let all = |byte| join(self.are(low, byte), self.are(high, byte));
            let digit = |bytes| self.are_at_most(self.less(bytes, b'0'), 9);
            Some(Marks {
                digit: join(digit(low), digit(high)),
                zero: all(b'0'),
                minus: all(b'-'),
                dot: all(b'.'),
                comma: all(b','),
                space: all(b' '),
                closing: all(b']'),
            })
        }
    }
}
