//! Reading messages: the batch's columns are walked side by side, one step per message.

use std::slice::Iter;

use crate::bindings::exports::sluice::plugin::transform::Batch;
use crate::bindings::sluice::plugin::columns::{Column, Spans, Values};
use crate::schema::{Attributes, Input, Kind};
use crate::{Json, Rejection, Timestamp};

/// What a transform looks at; implemented by `#[derive(Message)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is read from a message",
    label = "needs `#[derive(sluice_plugin::Message)]`"
)]
pub trait Message<'a>: Sized {
    /// Fields of the JSON payload, in the order of the struct.
    const INPUTS: &'static [Input];

    /// A cursor per field.
    type Columns;

    /// Other parts of the message that it reads.
    fn reads() -> Attributes;

    /// Cursors on the first message. Fails when the batch is not what was asked for.
    fn open(batch: &'a Batch) -> Result<Self::Columns, String>;

    /// The message under the cursors, which move on even when it is rejected.
    fn next(columns: &mut Self::Columns) -> Result<Self, Rejection>;
}

/// A type that a field of a message can have.
#[diagnostic::on_unimplemented(
    message = "a message has no field of type `{Self}`",
    label = "the host cannot decode this out of a JSON payload",
    note = "a field is a `bool`, `i64`, `f64`, `&str`, `Timestamp`, `Json<&str>`, `&[u8]`, `&[i64]` or `&[f64]`, or an `Option` of one of these",
    note = "for the payload as it is, write `#[message(payload)] body: &[u8]`"
)]
pub trait Field<'a>: Sized {
    /// What the host decodes.
    const KIND: Kind;

    /// False when a message may lack it.
    const REQUIRED: bool = true;

    /// A place in the column.
    type Cursor;

    /// A cursor on the first of `count` values; `None` when the column is not of this kind and length.
    fn open(column: &'a Column, count: usize) -> Option<Self::Cursor>;

    /// The value under the cursor, which moves on.
    fn next(cursor: &mut Self::Cursor) -> Self;
}

/// The batch's columns, handed out in their order.
#[doc(hidden)]
pub struct Opener<'a> {
    columns: Iter<'a, Column>,
    count: usize,
}

impl<'a> Opener<'a> {
    /// At the first column.
    pub fn new(batch: &'a Batch) -> Self {
        Self { columns: batch.fields.iter(), count: batch.count as usize }
    }

    /// A cursor on the next column, which contains the field at `pointer`.
    pub fn field<F: Field<'a>>(&mut self, pointer: &str) -> Result<F::Cursor, String> {
        let column = self.columns.next().ok_or_else(|| format!("the batch lacks {pointer}"))?;
        F::open(column, self.count).ok_or_else(|| {
            format!("the batch contains something else than {pointer} where it belongs")
        })
    }
}

const EXHAUSTED: &str = "a cursor is asked for no more values than its column has";

macro_rules! fixed {
    ($type:ty, $kind:ident, $item:ty, $value:ident => $convert:expr) => {
        impl<'a> Field<'a> for $type {
            const KIND: Kind = Kind::$kind;
            type Cursor = Iter<'a, $item>;

            fn open(column: &'a Column, count: usize) -> Option<Self::Cursor> {
                match &column.values {
                    Values::$kind(values) if values.len() == count => Some(values.iter()),
                    _ => None,
                }
            }

            #[inline]
            fn next(cursor: &mut Self::Cursor) -> Self {
                let $value = *cursor.next().expect(EXHAUSTED);
                $convert
            }
        }
    };
}

fixed!(bool, Boolean, u8, value => value != 0);
fixed!(i64, Int64, i64, value => value);
fixed!(f64, Float64, f64, value => value);
fixed!(Timestamp, Timestamp, i64, value => Timestamp(value));

/// A place in a column of values laid end to end.
pub struct Ends<'a> {
    ends: Iter<'a, u32>,
    start: usize,
}

impl<'a> Ends<'a> {
    pub(crate) fn new(ends: &'a [u32]) -> Self {
        Self { ends: ends.iter(), start: 0 }
    }

    /// Length of the next value.
    #[inline]
    pub(crate) fn next_len(&mut self) -> usize {
        let end = *self.ends.next().expect(EXHAUSTED) as usize;
        let len = end - self.start;
        self.start = end;
        len
    }
}

/// A place in a column of text, whose UTF-8 was checked when it was opened.
pub struct TextCursor<'a> {
    ends: Ends<'a>,
    rest: &'a str,
}

impl<'a> TextCursor<'a> {
    fn open(spans: &'a Spans, count: usize) -> Option<Self> {
        let rest = std::str::from_utf8(&spans.data).ok()?;
        (spans.ends.len() == count).then(|| Self { ends: Ends::new(&spans.ends), rest })
    }

    #[inline]
    fn next(&mut self) -> &'a str {
        let (value, rest) = self.rest.split_at(self.ends.next_len());
        self.rest = rest;
        value
    }
}

impl<'a> Field<'a> for &'a str {
    const KIND: Kind = Kind::Text;
    type Cursor = TextCursor<'a>;

    fn open(column: &'a Column, count: usize) -> Option<Self::Cursor> {
        match &column.values {
            Values::Text(spans) => TextCursor::open(spans, count),
            _ => None,
        }
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Self {
        cursor.next()
    }
}

impl<'a> Field<'a> for Json<&'a str> {
    const KIND: Kind = Kind::Json;
    type Cursor = TextCursor<'a>;

    fn open(column: &'a Column, count: usize) -> Option<Self::Cursor> {
        match &column.values {
            Values::Json(spans) => TextCursor::open(spans, count),
            _ => None,
        }
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Self {
        Json(cursor.next())
    }
}

/// A place in a column of bytes or lists.
pub struct SliceCursor<'a, T> {
    ends: Ends<'a>,
    rest: &'a [T],
}

impl<'a, T> SliceCursor<'a, T> {
    pub(crate) fn new(items: &'a [T], ends: &'a [u32]) -> Self {
        Self { ends: Ends::new(ends), rest: items }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> &'a [T] {
        let (value, rest) = self.rest.split_at(self.ends.next_len());
        self.rest = rest;
        value
    }
}

macro_rules! slice {
    ($item:ty, $kind:ident, $items:ident) => {
        impl<'a> Field<'a> for &'a [$item] {
            const KIND: Kind = Kind::$kind;
            type Cursor = SliceCursor<'a, $item>;

            fn open(column: &'a Column, count: usize) -> Option<Self::Cursor> {
                match &column.values {
                    Values::$kind(values) if values.ends.len() == count => {
                        Some(SliceCursor::new(&values.$items, &values.ends))
                    }
                    _ => None,
                }
            }

            #[inline]
            fn next(cursor: &mut Self::Cursor) -> Self {
                cursor.next()
            }
        }
    };
}

slice!(u8, Bytes, data);
slice!(i64, Int64List, items);
slice!(f64, Float64List, items);

/// A place in a column with gaps.
pub struct Gaps<'a, C> {
    inner: C,
    /// Empty when there is no gap.
    nulls: Iter<'a, u8>,
}

impl<'a, F: Field<'a>> Field<'a> for Option<F> {
    const KIND: Kind = F::KIND;
    const REQUIRED: bool = false;
    type Cursor = Gaps<'a, F::Cursor>;

    fn open(column: &'a Column, count: usize) -> Option<Self::Cursor> {
        let fits = column.nulls.is_empty() || column.nulls.len() == count;
        let inner = F::open(column, count)?;
        fits.then(|| Gaps { inner, nulls: column.nulls.iter() })
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Self {
        // The placeholder of a gap is stepped over, too.
        let value = F::next(&mut cursor.inner);
        let missing = cursor.nulls.next().is_some_and(|null| *null != 0);
        (!missing).then_some(value)
    }
}
