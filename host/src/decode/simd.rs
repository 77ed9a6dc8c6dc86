//! Where the decoder steps outside of what the compiler can prove: bytes behind a payload, and AVX2.
//! Knows single values and the bytes around them, no documents and no columns.
//!
//! Two types carry the proofs. A [`Cursor`] exists only where [`PADDING`] bytes may be read behind the
//! payload, and never leaves the payload, so that loads of that size need no check. An [`Avx2`] exists
//! only where the processor has the instructions, so that its methods are safe to call.
#![expect(clippy::inline_always, reason = "see `Cpu`")]

use std::ptr;

/// Bytes that may be read behind a payload, so that no load has to look where it ends.
pub const PADDING: usize = 64;

/// The most that [`Cursor::copy_since`] copies without asking how much it is.
const COPY: usize = 32;

/// A place in a payload, with [`PADDING`] readable bytes behind the payload.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    /// The payload and what lies behind it: at least `end + PADDING` bytes.
    text: &'a [u8],
    /// At most `end`.
    at: usize,
    /// The payload's length.
    end: usize,
}

impl<'a> Cursor<'a> {
    /// At the first byte of the payload `arena[start..end]`. `None` when too little lies behind it.
    #[inline(always)]
    pub fn new(arena: &'a [u8], start: usize, end: usize) -> Option<Self> {
        let length = end.checked_sub(start)?;
        let text = arena.get(start..)?;
        let is_padded = text.len().checked_sub(PADDING).is_some_and(|most| length <= most);
        is_padded.then_some(Self { text, at: 0, end: length })
    }

    /// At the first byte of a copy of `payload`, made in `room`.
    pub fn copied(payload: &[u8], room: &'a mut Vec<u8>) -> Self {
        room.clear();
        room.extend_from_slice(payload);
        room.resize(payload.len() + PADDING, 0);
        Self { text: room, at: 0, end: payload.len() }
    }

    /// The whole payload.
    #[inline(always)]
    pub fn payload(&self) -> &'a [u8] {
        &self.text[..self.end]
    }

    /// Bytes before this place.
    #[inline(always)]
    pub fn at(&self) -> usize {
        self.at
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
        // SAFETY: `at <= end` and `text` has `end + PADDING` bytes.
        unsafe { &*self.text.as_ptr().add(self.at).cast() }
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
        if count > self.end - self.at {
            return None;
        }
        self.at += count;
        Some(())
    }

    /// Steps over `count` bytes, or to the end when there are fewer.
    #[inline(always)]
    pub fn advance_at_most(&mut self, count: usize) {
        self.at += count.min(self.end - self.at);
    }

    /// The bytes from `start` to here.
    #[inline(always)]
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.text[start..self.at]
    }

    /// Appends the bytes from `start` to here. Most are few: copying always the same number of them,
    /// and keeping as many as count, spares a call.
    #[inline(always)]
    pub fn copy_since(&self, start: usize, into: &mut Vec<u8>) {
        let bytes = self.since(start);
        if bytes.len() > COPY {
            into.extend_from_slice(bytes);
            return;
        }
        into.reserve(COPY);
        let length = into.len();
        // SAFETY: `start <= at <= end`, or the slice above had panicked, so `PADDING` bytes may be read
        // from there; `COPY` bytes were reserved, and all that are kept are written.
        unsafe {
            let to = into.as_mut_ptr().add(length);
            ptr::copy_nonoverlapping(self.text.as_ptr().add(start), to, COPY);
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
        _mm_set1_epi32, _mm_setr_epi8, _mm_shuffle_epi8, _mm_sub_epi8, _mm256_castsi256_si128,
        _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8,
        _mm256_or_si256, _mm256_set1_epi8, _mm256_sub_epi8,
    };

    use super::super::cpu::{Cpu, DIGITS_MAX, Digits, GAP_MAX, Plain, TIME, Task};
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

        /// Runs `task`, compiled as a whole for such processors.
        pub fn run<T: Task>(self, task: T) {
            #[target_feature(enable = "avx2,bmi1,bmi2")]
            fn with_avx2<T: Task>(cpu: Avx2, task: T) {
                task.run(cpu);
            }
            // SAFETY: `self` proves that the processor has these features.
            unsafe { with_avx2(self, task) }
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

        /// The highest bit of each byte.
        #[inline(always)]
        fn mask(self, bytes: __m256i) -> u32 {
            // SAFETY: see above.
            unsafe { _mm256_movemask_epi8(bytes) as u32 }
        }

        /// The number that the first `length` of 32 digits write, at most 16, without the one at `dot`.
        /// A negative `dot` leaves none out.
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
        fn digits(self, ahead: &[u8; 32]) -> Option<Digits> {
            let bytes = self.load(ahead);
            let values = self.less(bytes, b'0');
            let digit = u64::from(self.mask(self.are_at_most(values, 9)));
            let dot = u64::from(self.mask(self.are(bytes, b'.')));
            let whole = (!digit).trailing_zeros();
            let has_dot = dot >> whole & 1;
            let length = (!(digit | has_dot << whole)).trailing_zeros();
            let fraction = length - whole - has_dot as u32;
            let is_odd = whole == 0
                || length as usize > DIGITS_MAX
                || has_dot == 1 && fraction == 0
                || ahead[0] == b'0' && whole > 1
                || ahead[length as usize % 32] | 0x20 == b'e';
            if is_odd {
                return None;
            }
            let dot = if has_dot == 1 { whole as i8 } else { i8::MIN };
            Some(Digits {
                value: self.joined(values, length as i8, dot),
                length: length as usize,
                fraction: fraction as usize,
            })
        }

        #[inline(always)]
        fn time(self, ahead: &[u8; TIME]) -> Option<Clock> {
            let rest = ahead[16..24].first_chunk::<8>()?;
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
                if _mm_movemask_epi8(fits) != 0xFFFF || ahead[24] != b'"' {
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
                year: i64::from(two(date, 0) * 100 + two(date, 1)),
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
