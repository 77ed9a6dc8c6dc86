//! The grammar of a plain list of numbers, 64 bytes at a time. Knows bits only: one mask for each
//! kind of byte, the first byte in the lowest bit.

/// Which of 64 bytes are what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// `0` to `9`.
    pub digit: u64,
    /// `0`.
    pub zero: u64,
    pub minus: u64,
    pub dot: u64,
    pub comma: u64,
    pub space: u64,
    /// `]`.
    pub closing: u64,
}

/// What is known of the bytes before the next 64: each is 0 or 1 and says what the last byte was.
#[derive(Debug)]
pub struct Grammar {
    digit: u64,
    minus: u64,
    dot: u64,
    /// A comma, or the opening bracket.
    comma: u64,
    space: u64,
    /// A zero with which a number began: no digit may follow.
    leading_zero: u64,
    /// A digit behind a dot: no other dot may follow before the next number.
    fraction: u64,
}

/// What 64 bytes turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Not such a list. It may be JSON all the same: white space, exponents, other values, no items.
    Other,
    /// Part of a list that goes on.
    Part,
    /// A list that ends with the bracket at this index.
    End(usize),
}

impl Grammar {
    /// Behind the opening bracket.
    pub const START: Self =
        Self { digit: 0, minus: 0, dot: 0, comma: 1, space: 0, leading_zero: 0, fraction: 0 };

    /// Walks over the next 64 bytes: numbers without exponents, a comma between them, and perhaps
    /// one space behind the comma.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the masks stay in registers")]
    pub fn walk(&mut self, marks: &Marks) -> Found {
        let end = marks.closing.trailing_zeros();
        let live = 1_u64.checked_shl(end).map_or(u64::MAX, |bit| bit - 1);
        let Marks { digit, minus, dot, comma, space, .. } = *marks;
        // `after_x` marks the bytes that follow an x.
        let after_digit = digit << 1 | self.digit;
        let after_minus = minus << 1 | self.minus;
        let after_dot = dot << 1 | self.dot;
        let after_comma = comma << 1 | self.comma;
        let first = after_comma & !space | space << 1 | self.space;
        let leading_zero = marks.zero & (first | after_minus);
        let after_leading_zero = leading_zero << 1 | self.leading_zero;
        // Adding a bit at the first digit behind a dot carries it over all digits, to what follows them.
        let begun = (after_dot | self.fraction) & digit;
        let (carried, overflows) = begun.overflowing_add(digit);
        let after_fraction = (carried | self.fraction) & !digit;
        let wrong = !(digit | minus | dot | comma | space)
            | minus & !first
            | space & !after_comma
            | (dot | comma) & !after_digit
            | digit & after_leading_zero
            | (after_dot | after_minus) & !digit
            | first & !(digit | minus)
            | dot & after_fraction;
        if wrong & live != 0 {
            return Found::Other;
        }
        if end < 64 {
            let is_number = after_digit >> end & 1 == 1;
            return if is_number { Found::End(end as usize) } else { Found::Other };
        }
        *self = Self {
            digit: digit >> 63,
            minus: minus >> 63,
            dot: dot >> 63,
            comma: comma >> 63,
            space: space >> 63,
            leading_zero: leading_zero >> 63,
            fraction: u64::from(overflows),
        };
        Found::Part
    }
}
