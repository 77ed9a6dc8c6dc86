//! Values read straight to the ends of columns, and values stepped over, as fast as a processor can.
//! Knows one value at a time; what is unusual about it is left to the scanner, and errors have no words here.
#![expect(clippy::inline_always, reason = "see `Cpu`")]

use super::cpu::{Cpu, NUMBER_MAX, Number, TIME, Task};
use super::digits::Form;
use super::numbers::{Found, Grammar};
use super::scan::{DEPTH_MAX, Scanner, Shape};
use super::simd::Cursor;
use super::{timestamp, value};
use crate::columns::{Column, Lists, Spans, Values};

/// Where a value belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Index of the column.
    pub column: u32,
    /// False where the value may be null.
    pub required: bool,
    /// Objects and arrays around the value.
    pub depth: u8,
    /// What it becomes there.
    pub form: Form,
}

/// Steps over the value at the cursor and appends it to `column`, in the form that is its kind's own. `None`,
/// with the column as it was and the cursor anywhere, when it does not fit there or is no JSON. `room` is for
/// unescaped text.
#[inline(always)]
pub fn push<C: Cpu>(
    cpu: C,
    cursor: &mut Cursor<'_>,
    target: Target,
    column: &mut Column,
    room: &mut Vec<u8>,
) -> Option<()> {
    let start = *cursor;
    let pushed = match &mut column.values {
        Values::Boolean(values) => boolean(cursor).map(|value| values.push(value)),
        Values::Int64(values) => int64(cpu, cursor).map(|value| values.push(value)),
        Values::Float64(values) => float64(cpu, cursor).map(|value| values.push(value)),
        Values::Text(spans) | Values::Bytes(spans) => text(cpu, cursor, spans),
        Values::Timestamp(values) => time(cpu, cursor).map(|value| values.push(value)),
        Values::Json(_) | Values::Int64List(_) | Values::Float64List(_) => {
            let behind = cpu.run(PushLong { cursor: *cursor, target, column });
            behind.map(|behind| *cursor = behind)
        }
    };
    if pushed.is_none() {
        *cursor = push_any(start, target, column, room)?;
    }
    Some(())
}

/// What [`push`] does with kinds whose values are long.
struct PushLong<'a, 'b> {
    cursor: Cursor<'a>,
    target: Target,
    column: &'b mut Column,
}

impl<'a> Task for PushLong<'a, '_> {
    type Result = Option<Cursor<'a>>;

    #[inline(always)]
    fn run<C: Cpu>(mut self, cpu: C) -> Self::Result {
        if u32::from(self.target.depth) == DEPTH_MAX {
            // No list may begin here.
            return None;
        }
        let cursor = &mut self.cursor;
        match &mut self.column.values {
            Values::Json(spans) => json(cpu, cursor, self.target.depth, spans)?,
            Values::Int64List(lists) => list(cursor, lists, |cursor| int64(cpu, cursor))?,
            Values::Float64List(lists) => list(cursor, lists, |cursor| float64(cpu, cursor))?,
            _ => return None,
        }
        Some(self.cursor)
    }
}

/// The same for every value that there is, by the scanner. Returns the place behind it.
#[cold]
#[inline(never)]
pub fn push_any<'a>(
    mut cursor: Cursor<'a>,
    target: Target,
    column: &mut Column,
    room: &mut Vec<u8>,
) -> Option<Cursor<'a>> {
    let text = cursor.rest();
    let token = Scanner::inside(text, target.depth).value().ok()?;
    if token.start > 0 {
        // White space belongs to a layout, so that it can be learned.
        return None;
    }
    cursor.advance(token.end as usize)?;
    if !is_utf8(token.of(text)) {
        return None;
    }
    if token.shape == Shape::Null {
        if target.required {
            return None;
        }
        column.push_null();
        return Some(cursor);
    }
    let row = column.len();
    if value::push(text, token, target.form, column, room).is_err() {
        column.truncate(row);
        return None;
    }
    Some(cursor)
}

#[inline(always)]
fn boolean(cursor: &mut Cursor<'_>) -> Option<u8> {
    let ahead = cursor.ahead::<5>();
    if ahead.starts_with(b"true") {
        cursor.advance(4)?;
        Some(1)
    } else if ahead == b"false" {
        cursor.advance(5)?;
        Some(0)
    } else {
        None
    }
}

/// A short number without an exponent.
#[inline(always)]
pub fn number<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<Number> {
    let number = cpu.number(cursor.ahead())?;
    cursor.advance(number.length)?;
    Some(number)
}

#[inline(always)]
fn int64<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<i64> {
    let Number { negative, digits, fraction, .. } = number(cpu, cursor)?;
    (fraction == 0).then_some(if negative { -digits } else { digits })
}

#[inline(always)]
fn float64<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<f64> {
    Some(to_float64(number(cpu, cursor)?))
}

/// Rounds once. With a dot there are fewer than 16 digits, so that they and the power of ten are doubles
/// themselves and only the division rounds; without one only the conversion does.
#[inline(always)]
pub fn to_float64(Number { negative, digits, fraction, .. }: Number) -> f64 {
    const { assert!(10_i64.pow(NUMBER_MAX as u32 - 1) < value::EXACT_MAX) };
    let value = digits as f64 / value::POWERS[fraction];
    // Not a branch: signs cannot be foreseen.
    f64::from_bits(value.to_bits() ^ u64::from(negative) << 63)
}

/// Steps over a string, up to its closing quote, and returns where its characters begin. `None` for
/// one with escapes, and for one that is no UTF-8.
#[inline(always)]
fn plain<'a, C: Cpu>(cpu: C, cursor: &mut Cursor<'a>) -> Option<Cursor<'a>> {
    if cursor.byte() != b'"' {
        return None;
    }
    cursor.advance(1)?;
    let start = *cursor;
    let is_ascii = to_special(cpu, cursor)?;
    if cursor.byte() != b'"' || !is_ascii && !is_utf8(cursor.since(start)) {
        return None;
    }
    Some(start)
}

/// Steps to the next quote, backslash or control character; tells whether all before it is ASCII.
#[inline(always)]
fn to_special<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<bool> {
    let mut is_ascii = true;
    loop {
        let plain = cpu.plain(cursor.ahead());
        is_ascii &= plain.is_ascii;
        if plain.count < 32 {
            cursor.advance(plain.count)?;
            return Some(is_ascii);
        }
        // By a constant: the next bytes can be loaded before it is known how these count.
        cursor.advance(32)?;
        while cpu.is_plain(cursor.ahead()) {
            cursor.advance(64)?;
        }
    }
}

#[cold]
#[inline(never)]
fn is_utf8(text: &[u8]) -> bool {
    simdutf8::basic::from_utf8(text).is_ok()
}

#[inline(always)]
fn text<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>, spans: &mut Spans) -> Option<()> {
    let start = plain(cpu, cursor)?;
    let end = *cursor;
    cursor.advance(1)?;
    end.copy_since(start, &mut spans.data);
    spans.close();
    Some(())
}

#[inline(always)]
fn time<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<i64> {
    if let Some(clock) = cpu.time(cursor.ahead()) {
        cursor.advance(TIME)?;
        // A leap second is left to the scanner.
        return if clock.second < 60 { clock.micros_since_1970(0) } else { None };
    }
    let start = plain(cpu, cursor)?;
    let micros = timestamp::read(cursor.since(start)).ok()?;
    cursor.advance(1)?;
    Some(micros)
}

#[inline(always)]
fn json<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>, depth: u8, spans: &mut Spans) -> Option<()> {
    if cursor.byte() == b'n' {
        return None;
    }
    let start = *cursor;
    skip(cpu, cursor, depth)?;
    cursor.copy_since(start, &mut spans.data);
    spans.close();
    Some(())
}

#[inline(always)]
fn list<'a, T>(
    cursor: &mut Cursor<'a>,
    lists: &mut Lists<T>,
    item: impl Fn(&mut Cursor<'a>) -> Option<T>,
) -> Option<()> {
    let before = lists.items.len();
    let read = items(cursor, &mut lists.items, item);
    if read.is_none() {
        lists.items.truncate(before);
    } else {
        lists.close();
    }
    read
}

#[inline(always)]
fn items<'a, T>(
    cursor: &mut Cursor<'a>,
    items: &mut Vec<T>,
    item: impl Fn(&mut Cursor<'a>) -> Option<T>,
) -> Option<()> {
    if cursor.byte() != b'[' {
        return None;
    }
    cursor.advance(1)?;
    space(cursor);
    if cursor.byte() == b']' {
        return cursor.advance(1);
    }
    loop {
        items.push(item(cursor)?);
        space(cursor);
        match cursor.byte() {
            b',' => cursor.advance(1)?,
            b']' => return cursor.advance(1),
            _ => return None,
        }
        space(cursor);
    }
}

#[inline(always)]
fn space(cursor: &mut Cursor<'_>) {
    while matches!(cursor.byte(), b' ' | b'\n' | b'\r' | b'\t') && cursor.advance(1).is_some() {}
}

/// The objects and arrays around a place inside the value that is stepped over.
struct Nesting {
    /// One bit each, the innermost lowest; set for an object.
    objects: u128,
    count: u32,
    count_max: u32,
}

const _: () = assert!(DEPTH_MAX <= u128::BITS);

impl Nesting {
    #[inline(always)]
    fn enter(&mut self, object: bool) -> Option<()> {
        if self.count == self.count_max {
            return None;
        }
        self.count += 1;
        self.objects = self.objects << 1 | u128::from(object);
        Some(())
    }

    #[inline(always)]
    fn leave(&mut self) {
        self.count -= 1;
        self.objects >>= 1;
    }

    #[inline(always)]
    fn is_in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// Steps over a value inside `depth` others, strictly. `None`, with the cursor anywhere, when it is no JSON.
#[inline(always)]
pub fn skip<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>, depth: u8) -> Option<()> {
    *cursor = cpu.run(Skip { cursor: *cursor, depth })?;
    Some(())
}

struct Skip<'a> {
    cursor: Cursor<'a>,
    depth: u8,
}

impl<'a> Task for Skip<'a> {
    type Result = Option<Cursor<'a>>;

    #[inline(always)]
    fn run<C: Cpu>(mut self, cpu: C) -> Self::Result {
        match self.cursor.byte() {
            b'"' => skip_string(cpu, &mut self.cursor)?,
            b'[' | b'{' => skip_nested(cpu, &mut self.cursor, self.depth)?,
            _ => skip_bare(cpu, &mut self.cursor)?,
        }
        Some(self.cursor)
    }
}

#[inline(always)]
fn skip_nested<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>, depth: u8) -> Option<()> {
    let mut nesting = Nesting { objects: 0, count: 0, count_max: DEPTH_MAX - u32::from(depth) };
    loop {
        match cursor.byte() {
            b'"' => skip_string(cpu, cursor)?,
            b'[' if nesting.count < nesting.count_max && skip_numbers(cpu, cursor).is_some() => {}
            first @ (b'[' | b'{') => {
                nesting.enter(first == b'{')?;
                cursor.advance(1)?;
                space(cursor);
                // Two characters behind either bracket stands its counterpart.
                if cursor.byte() == first + 2 {
                    cursor.advance(1)?;
                    nesting.leave();
                } else {
                    if first == b'{' {
                        skip_name(cpu, cursor)?;
                    }
                    continue;
                }
            }
            _ => skip_bare(cpu, cursor)?,
        }
        // Behind a value.
        loop {
            if nesting.count == 0 {
                return Some(());
            }
            space(cursor);
            let next = cursor.byte();
            cursor.advance(1)?;
            match (next, nesting.is_in_object()) {
                (b',', is_in_object) => {
                    space(cursor);
                    if is_in_object {
                        skip_name(cpu, cursor)?;
                    }
                    break;
                }
                (b']', false) | (b'}', true) => nesting.leave(),
                _ => return None,
            }
        }
    }
}

#[inline(always)]
fn skip_name<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<()> {
    if cursor.byte() != b'"' {
        return None;
    }
    skip_string(cpu, cursor)?;
    space(cursor);
    if cursor.byte() != b':' {
        return None;
    }
    cursor.advance(1)?;
    space(cursor);
    Some(())
}

/// A string, from quote to quote; its escapes are checked by the scanner.
#[inline(always)]
fn skip_string<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.advance(1)?;
    let start = *cursor;
    let mut is_ascii = true;
    loop {
        is_ascii &= to_special(cpu, cursor)?;
        match cursor.byte() {
            b'"' if is_ascii || is_utf8(cursor.since(start)) => return cursor.advance(1),
            b'\\' => skip_escape(cursor)?,
            _ => return None,
        }
    }
}

#[inline(always)]
fn skip_escape(cursor: &mut Cursor<'_>) -> Option<()> {
    match cursor.ahead::<2>()[1] {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => cursor.advance(2),
        _ => {
            let length = Scanner::inside(cursor.rest(), 0).behind_escape()?;
            cursor.advance(length)
        }
    }
}

/// A list of plain numbers, from bracket to bracket. The cursor stays when it is none.
#[inline(always)]
fn skip_numbers<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<()> {
    let mut place = *cursor;
    place.advance(1)?;
    let mut grammar = Grammar::START;
    loop {
        match grammar.walk(&cpu.marks(place.ahead())?) {
            Found::Other => return None,
            Found::Part => place.advance(64)?,
            Found::End(index) => {
                place.advance(index + 1)?;
                *cursor = place;
                return Some(());
            }
        }
    }
}

/// A number, true, false or null.
#[inline(always)]
fn skip_bare<C: Cpu>(cpu: C, cursor: &mut Cursor<'_>) -> Option<()> {
    let start = *cursor;
    if number(cpu, cursor).is_none() {
        *cursor = skip_any(start)?;
    }
    Some(())
}

/// The same by the scanner.
#[cold]
#[inline(never)]
fn skip_any(mut cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    match cursor.byte() {
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let token = Scanner::inside(cursor.rest(), 0).value().ok()?;
            cursor.advance(token.end as usize)?;
            Some(cursor)
        }
        _ => None,
    }
}
