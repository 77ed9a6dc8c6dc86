//! A strict walk over one JSON document that notes where wanted values lie.
//! Accepts what `serde_json` accepts, its limit on nesting included; knows nothing of kinds and columns.

use super::escape::{hex, unescaped};
use super::pointer::Tree;

/// Objects and arrays within each other, at most; the limit of `serde_json`.
pub const DEPTH_MAX: u32 = 127;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// There is none.
    Absent,
    Null,
    False,
    True,
    /// A number without fraction and exponent.
    Integer,
    /// Any other number.
    Number,
    /// A string without escapes.
    Text,
    /// A string with escapes.
    EscapedText,
    Array,
    Object,
}

/// Where a value lies in the payload, quotes and brackets included.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    pub shape: Shape,
    pub start: u32,
    pub end: u32,
}

impl Token {
    /// No value.
    pub const ABSENT: Self = Self { shape: Shape::Absent, start: 0, end: 0 };

    /// The value's bytes.
    #[inline]
    pub fn of(self, payload: &[u8]) -> &[u8] {
        &payload[self.start as usize..self.end as usize]
    }

    /// A string's bytes between the quotes.
    #[inline]
    pub fn unquoted(self, payload: &[u8]) -> &[u8] {
        &payload[self.start as usize + 1..self.end as usize - 1]
    }
}

/// Where a document ceases to be JSON.
#[derive(Debug)]
pub struct Malformed {
    /// Bytes before it.
    pub at: usize,
    /// What belongs there.
    pub expected: &'static str,
}

/// A place in a payload, which is UTF-8.
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    depth: u32,
}

/// What a walk is after.
struct Search<'a> {
    tree: &'a Tree,
    found: &'a mut [Token],
    memory: &'a mut Memory,
}

/// What walks use, kept from one to the next.
#[derive(Debug, Default)]
pub struct Memory {
    /// Room for names without their escapes.
    name: Vec<u8>,
    /// Slots in the order in which values were noted in them.
    noted: Vec<u32>,
    /// For each node that pointers lead through, which of `noted` came from there when it was met last.
    from: Vec<(u32, u32)>,
}

impl<'a> Scanner<'a> {
    /// At the first byte.
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// Walks the whole document and notes the values that `tree` names in `found`, by slot.
    /// Of members with the same name the last one counts.
    pub fn document(
        mut self,
        tree: &Tree,
        found: &mut [Token],
        memory: &mut Memory,
    ) -> Result<(), Malformed> {
        memory.noted.clear();
        memory.from.clear();
        memory.from.resize(tree.nodes(), (0, 0));
        self.search(0, &mut Search { tree, found, memory })?;
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.expected("the end")),
        }
    }

    /// At the first byte of what follows inside `depth` objects and arrays.
    pub fn inside(text: &'a [u8], depth: u8) -> Self {
        Self { text, at: 0, depth: u32::from(depth) }
    }

    /// Objects and arrays around this place.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Steps over the escape that begins here and returns where it ends.
    pub fn behind_escape(mut self) -> Option<usize> {
        self.escape().ok()?;
        Some(self.at)
    }

    /// At the first item of the array `token`.
    pub fn items_of(payload: &'a [u8], token: Token) -> Self {
        Self { text: &payload[..token.end as usize], at: token.start as usize + 1, depth: 1 }
    }

    /// The next item of an array that was walked before; `None` behind the last one.
    #[inline]
    pub fn next_item(&mut self) -> Option<Token> {
        match self.peek()? {
            b']' => return None,
            b',' => self.at += 1,
            _ => {}
        }
        self.value().ok()
    }

    /// Walks a value of which `node` wants something.
    fn search(&mut self, node: usize, search: &mut Search<'_>) -> Result<(), Malformed> {
        let wanted = search.tree.node(node);
        let token = match self.peek() {
            Some(b'{') if !wanted.children.is_empty() => self.search_object(node, search)?,
            Some(b'[') if !wanted.children.is_empty() => self.search_array(node, search)?,
            _ => self.value()?,
        };
        if let Some(slot) = wanted.slot {
            search.found[slot] = token;
            search.memory.noted.push(slot as u32);
        }
        Ok(())
    }

    fn search_object(&mut self, node: usize, search: &mut Search<'_>) -> Result<Token, Malformed> {
        let start = self.enter()?;
        let tree = search.tree;
        let wanted = tree.node(node);
        let mut likely = 0;
        if !self.leave_empty(b'}') {
            loop {
                let name = self.member_name()?;
                let name = unescaped(self.text, name, &mut search.memory.name);
                if let Some(position) = wanted.position(name, likely) {
                    likely = position + 1;
                    self.search_child(wanted.children[position].node, search)?;
                } else {
                    self.skip()?;
                }
                if self.leave(b'}', "`,` or `}`")? {
                    break;
                }
            }
        }
        Ok(self.token(Shape::Object, start))
    }

    fn search_array(&mut self, node: usize, search: &mut Search<'_>) -> Result<Token, Malformed> {
        let start = self.enter()?;
        let tree = search.tree;
        let mut items = tree.node(node).items.iter().peekable();
        let mut index = 0;
        if !self.leave_empty(b']') {
            loop {
                match items.next_if(|(wanted, _)| *wanted == index) {
                    Some(&(_, node)) => self.search_child(node, search)?,
                    None => self.skip()?,
                }
                index += 1;
                if self.leave(b']', "`,` or `]`")? {
                    break;
                }
            }
        }
        Ok(self.token(Shape::Array, start))
    }

    fn search_child(&mut self, node: usize, search: &mut Search<'_>) -> Result<(), Malformed> {
        if search.tree.node(node).children.is_empty() {
            return self.search(node, search);
        }
        // A second member of the same name replaces all of the first one, not only what it has too.
        let (begin, end) = search.memory.from[node];
        for slot in &search.memory.noted[begin as usize..end as usize] {
            search.found[*slot as usize] = Token::ABSENT;
        }
        let begin = search.memory.noted.len() as u32;
        self.search(node, search)?;
        search.memory.from[node] = (begin, search.memory.noted.len() as u32);
        Ok(())
    }

    /// Walks a value of which nothing inside is wanted.
    pub fn value(&mut self) -> Result<Token, Malformed> {
        let first = self.peek();
        let start = self.at;
        let shape = match first {
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b't') => self.word(b"true", Shape::True)?,
            Some(b'f') => self.word(b"false", Shape::False)?,
            Some(b'n') => self.word(b"null", Shape::Null)?,
            _ => return Err(self.expected("a value")),
        };
        Ok(self.token(shape, start))
    }

    fn skip(&mut self) -> Result<(), Malformed> {
        self.value().map(|_| ())
    }

    fn object(&mut self) -> Result<Shape, Malformed> {
        self.enter()?;
        if !self.leave_empty(b'}') {
            loop {
                self.member_name()?;
                self.value()?;
                if self.leave(b'}', "`,` or `}`")? {
                    break;
                }
            }
        }
        Ok(Shape::Object)
    }

    fn array(&mut self) -> Result<Shape, Malformed> {
        self.enter()?;
        if !self.leave_empty(b']') {
            loop {
                self.value()?;
                if self.leave(b']', "`,` or `]`")? {
                    break;
                }
            }
        }
        Ok(Shape::Array)
    }

    /// Steps over a member's name and its colon.
    #[inline]
    pub fn member_name(&mut self) -> Result<Token, Malformed> {
        if self.peek() != Some(b'"') {
            return Err(self.expected("a name in quotes"));
        }
        let start = self.at;
        let shape = self.string()?;
        let name = self.token(shape, start);
        if self.peek() != Some(b':') {
            return Err(self.expected("`:`"));
        }
        self.at += 1;
        Ok(name)
    }

    /// Steps over an opening bracket and returns where it stands.
    #[inline]
    pub fn enter(&mut self) -> Result<usize, Malformed> {
        if self.depth == DEPTH_MAX {
            return Err(self.expected("no more than 127 levels of nesting"));
        }
        self.depth += 1;
        self.at += 1;
        Ok(self.at - 1)
    }

    /// Steps over `bracket` when it follows at once.
    #[inline]
    pub fn leave_empty(&mut self, bracket: u8) -> bool {
        let empty = self.peek() == Some(bracket);
        if empty {
            self.depth -= 1;
            self.at += 1;
        }
        empty
    }

    /// Steps over a comma, or over `bracket` and returns true.
    #[inline]
    pub fn leave(&mut self, bracket: u8, expected: &'static str) -> Result<bool, Malformed> {
        let next = self.peek();
        if next != Some(b',') && next != Some(bracket) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        let left = next == Some(bracket);
        self.depth -= u32::from(left);
        Ok(left)
    }

    fn word(&mut self, word: &[u8], shape: Shape) -> Result<Shape, Malformed> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(shape)
    }

    fn number(&mut self) -> Result<Shape, Malformed> {
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
            if self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err(self.expected("no digit after a leading zero"));
            }
        } else {
            self.digits()?;
        }
        let mut shape = Shape::Integer;
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
            shape = Shape::Number;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
            shape = Shape::Number;
        }
        Ok(shape)
    }

    #[inline]
    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    #[inline]
    fn string(&mut self) -> Result<Shape, Malformed> {
        self.at += 1;
        let mut shape = Shape::Text;
        loop {
            self.at = special(self.text, self.at);
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(shape);
                }
                Some(b'\\') => {
                    shape = Shape::EscapedText;
                    self.escape()?;
                }
                Some(_) => return Err(self.expected("no control character in a string")),
                None => return Err(self.expected("the end of the string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                match self.hex()? {
                    0xDC00..=0xDFFF => return Err(self.expected("a leading surrogate first")),
                    0xD800..=0xDBFF => self.trailing_surrogate()?,
                    _ => {}
                }
            }
            _ => return Err(self.expected("an escape that JSON knows")),
        }
        Ok(())
    }

    fn trailing_surrogate(&mut self) -> Result<(), Malformed> {
        if self.text[self.at..].starts_with(br"\u") {
            self.at += 2;
            if let 0xDC00..=0xDFFF = self.hex()? {
                return Ok(());
            }
        }
        Err(self.expected("a trailing surrogate"))
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let digits = self.text.get(self.at..self.at + 4).and_then(hex);
        let value = digits.ok_or_else(|| self.expected("four hexadecimal digits"))?;
        self.at += 4;
        Ok(value)
    }

    /// The next byte that is no white space.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.byte() {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn token(&self, shape: Shape, start: usize) -> Token {
        Token { shape, start: start as u32, end: self.at as u32 }
    }

    #[cold]
    fn expected(&self, expected: &'static str) -> Malformed {
        Malformed { at: self.at, expected }
    }
}

/// Index of the first quote, backslash or control character from `at` on, eight bytes at a time.
#[inline]
fn special(text: &[u8], mut at: usize) -> usize {
    while let Some(eight) = text[at..].first_chunk::<8>() {
        let marks = specials(u64::from_le_bytes(*eight));
        if marks != 0 {
            return at + marks.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = text[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    rest.map_or(text.len(), |offset| at + offset)
}

/// Marks the highest bit of the lowest byte that is a quote, a backslash or a control character.
/// Bytes above that one may be marked by the borrow.
#[inline]
pub fn specials(eight: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
    let (quote, backslash) = (eight ^ (ONES * 0x22), eight ^ (ONES * 0x5C));
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let control = eight.wrapping_sub(ONES * 0x20) & !eight;
    (quote | backslash | control) & HIGHS
}
