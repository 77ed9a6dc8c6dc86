//! Takes numbers and texts out of a fuzzer's bytes. Where they end, zeros follow, so that every input is one.

/// What is left of an input.
#[derive(Debug)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    /// True for one byte in sixteen.
    pub fn is_rare(&mut self) -> bool {
        self.byte() % 16 == 15
    }

    pub fn integer(&mut self) -> i64 {
        let width = [1, 2, 4, 8][self.below(4)];
        let bytes = self.take(width);
        // Sign-extended, so that small negative numbers are short too.
        let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
        bytes
            .iter()
            .fold(if negative { -1 } else { 0 }, |value, byte| value << 8 | i64::from(*byte))
    }

    /// Any double, among them integers and the special ones.
    pub fn double(&mut self) -> f64 {
        match self.byte() % 8 {
            0 => self.integer() as f64,
            1 => self.integer() as f64 / 1000.0,
            2 => [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX, f64::MIN_POSITIVE]
                [self.below(6)],
            _ => f64::from_bits(self.integer() as u64),
        }
    }

    /// Up to `max` bytes.
    pub fn take(&mut self, max: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(max.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Bytes whose number is their first one.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte());
        self.take(length)
    }

    /// The same as text; what is no UTF-8 is replaced.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// All that is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}
