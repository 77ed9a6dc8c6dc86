//! Reading the parts of a message that are not fields of its JSON payload.

use std::slice::Iter;

use crate::bindings::exports::sluice::plugin::transform::{Batch, Headers as HeaderColumns};
use crate::bindings::sluice::plugin::columns::Blobs;
use crate::message::{Ends, SliceCursor};
use crate::schema::Attributes;
use crate::{Rejection, Timestamp};

/// A type that the part `P` of a message can have as a field.
#[diagnostic::on_unimplemented(
    message = "`#[message(...)]` does not fit a field of type `{Self}`",
    label = "cannot represent {P}",
    note = "`payload` and `key`: `&[u8]`, `&str` or an `Option` of these; `timestamp`: `Timestamp` or `Option<Timestamp>`; `position`: `Position`; `headers`: `Headers`; `topic`: `&str`"
)]
pub trait Attribute<'a, P: Part>: Sized {
    /// A place in the batch.
    type Cursor;

    /// A cursor on the first message; `None` when the host left the part out.
    fn open(batch: &'a Batch) -> Option<Self::Cursor>;

    /// The part of the message under the cursor, which moves on.
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection>;
}

/// A part of a message.
pub trait Part {
    /// What to ask the host for.
    fn reads() -> Attributes;
}

/// Parts that are byte strings.
#[diagnostic::on_unimplemented(
    message = "this part of a message is neither text nor bytes",
    label = "`{Self}` cannot be read into this type",
    note = "`timestamp`: `Timestamp` or `Option<Timestamp>`; `position`: `Position`; `headers`: `Headers`"
)]
pub trait BlobPart: Part {
    /// The word for it in a rejection.
    const NAME: &'static str;
    /// Code of the rejection of a message without it.
    const MISSING: &'static str;

    /// Where it stands in the batch.
    fn blobs(batch: &Batch) -> &Blobs;
}

macro_rules! part {
    ($(#[$doc:meta])+ $name:ident, $reads:expr) => {
        $(#[$doc])+
        pub struct $name;

        impl Part for $name {
            fn reads() -> Attributes {
                $reads
            }
        }
    };
}

part!(/** `#[message(payload)]` */ Payload, Attributes::PAYLOAD);
part!(/** `#[message(key)]` */ Key, Attributes::KEY);
part!(/** `#[message(timestamp)]` */ Time, Attributes::TIMESTAMP);
part!(/** `#[message(position)]` */ Place, Attributes::POSITION);
part!(/** `#[message(headers)]` */ HeaderList, Attributes::HEADERS);
part!(/** `#[message(topic)]` */ Topic, Attributes::empty());

impl BlobPart for Payload {
    const NAME: &'static str = "payload";
    const MISSING: &'static str = "no-payload";

    fn blobs(batch: &Batch) -> &Blobs {
        &batch.payloads
    }
}

impl BlobPart for Key {
    const NAME: &'static str = "key";
    const MISSING: &'static str = "no-key";

    fn blobs(batch: &Batch) -> &Blobs {
        &batch.keys
    }
}

/// A place in a column of byte strings with gaps.
pub struct BlobCursor<'a> {
    values: SliceCursor<'a, u8>,
    nulls: Iter<'a, u8>,
}

impl<'a> BlobCursor<'a> {
    fn open(blobs: &'a Blobs, count: usize) -> Option<Self> {
        let fits = blobs.values.ends.len() == count
            && (blobs.nulls.is_empty() || blobs.nulls.len() == count);
        fits.then(|| Self {
            values: SliceCursor::new(&blobs.values.data, &blobs.values.ends),
            nulls: blobs.nulls.iter(),
        })
    }

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let value = self.values.next();
        let missing = self.nulls.next().is_some_and(|null| *null != 0);
        (!missing).then_some(value)
    }
}

impl<'a, P: BlobPart> Attribute<'a, P> for Option<&'a [u8]> {
    type Cursor = BlobCursor<'a>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        BlobCursor::open(P::blobs(batch), batch.count as usize)
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        Ok(cursor.next())
    }
}

impl<'a, P: BlobPart> Attribute<'a, P> for &'a [u8] {
    type Cursor = BlobCursor<'a>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        BlobCursor::open(P::blobs(batch), batch.count as usize)
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        cursor.next().ok_or_else(missing::<P>)
    }
}

impl<'a, P: BlobPart> Attribute<'a, P> for Option<&'a str> {
    type Cursor = BlobCursor<'a>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        BlobCursor::open(P::blobs(batch), batch.count as usize)
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        cursor.next().map(text::<P>).transpose()
    }
}

impl<'a, P: BlobPart> Attribute<'a, P> for &'a str {
    type Cursor = BlobCursor<'a>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        BlobCursor::open(P::blobs(batch), batch.count as usize)
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        text::<P>(cursor.next().ok_or_else(missing::<P>)?)
    }
}

#[cold]
fn missing<P: BlobPart>() -> Rejection {
    Rejection::new(P::MISSING, format!("the message has no {}", P::NAME))
}

/// One message's bytes at a time: bad ones must not take the batch with them.
fn text<P: BlobPart>(bytes: &[u8]) -> Result<&str, Rejection> {
    std::str::from_utf8(bytes).map_err(|error| {
        Rejection::new("invalid-utf8", format!("the {} is not UTF-8: {error}", P::NAME))
    })
}

impl<'a> Attribute<'a, Time> for Option<Timestamp> {
    type Cursor = Iter<'a, i64>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        (batch.timestamps.len() == batch.count as usize).then(|| batch.timestamps.iter())
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        // Kafka writes -1 where a message carries none.
        Ok(cursor.next().filter(|micros| **micros != -1).map(|micros| Timestamp(*micros)))
    }
}

impl<'a> Attribute<'a, Time> for Timestamp {
    type Cursor = Iter<'a, i64>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        <Option<Timestamp> as Attribute<'a, Time>>::open(batch)
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        <Option<Timestamp> as Attribute<'a, Time>>::next(cursor)?
            .ok_or_else(|| Rejection::new("no-timestamp", "the message has no timestamp"))
    }
}

/// Where a message stands in its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
}

impl<'a> Attribute<'a, Place> for Position {
    type Cursor = (Iter<'a, i32>, Iter<'a, i64>);

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        let count = batch.count as usize;
        let fits = batch.partitions.len() == count && batch.offsets.len() == count;
        fits.then(|| (batch.partitions.iter(), batch.offsets.iter()))
    }

    #[inline]
    fn next((partitions, offsets): &mut Self::Cursor) -> Result<Self, Rejection> {
        let position = partitions.next().zip(offsets.next());
        let (partition, offset) = position.expect("as many positions as messages");
        Ok(Self { partition: *partition, offset: *offset })
    }
}

impl<'a> Attribute<'a, Topic> for &'a str {
    type Cursor = &'a str;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        Some(&batch.topic)
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        Ok(cursor)
    }
}

/// The headers of one message; Kafka allows several of one name.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    columns: &'a HeaderColumns,
    start: usize,
    end: usize,
}

impl<'a> Headers<'a> {
    /// Value of the last header called `name`; `Some(None)` when that header has no value.
    pub fn get(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.iter().filter(|(known, _)| *known == name.as_bytes()).last().map(|(_, value)| value)
    }

    /// Names and values, in their order. Names are bytes, because Kafka does not check them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let columns = self.columns;
        (self.start..self.end).map(move |index| {
            let missing = columns.values.nulls.get(index).is_some_and(|null| *null != 0);
            let value = span(&columns.values.values.data, &columns.values.values.ends, index);
            (span(&columns.names.data, &columns.names.ends, index), (!missing).then_some(value))
        })
    }

    /// Number of headers.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// True when the message has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn span<'a>(data: &'a [u8], ends: &[u32], index: usize) -> &'a [u8] {
    let start = if index == 0 { 0 } else { ends[index - 1] as usize };
    &data[start..ends[index] as usize]
}

/// A place in the list of all headers.
pub struct HeaderCursor<'a> {
    columns: &'a HeaderColumns,
    ends: Ends<'a>,
    start: usize,
}

impl<'a> Attribute<'a, HeaderList> for Headers<'a> {
    type Cursor = HeaderCursor<'a>;

    fn open(batch: &'a Batch) -> Option<Self::Cursor> {
        let columns = &batch.headers;
        (columns.ends.len() == batch.count as usize).then(|| HeaderCursor {
            columns,
            ends: Ends::new(&columns.ends),
            start: 0,
        })
    }

    #[inline]
    fn next(cursor: &mut Self::Cursor) -> Result<Self, Rejection> {
        let start = cursor.start;
        cursor.start += cursor.ends.next_len();
        Ok(Headers { columns: cursor.columns, start, end: cursor.start })
    }
}

/// A cursor on a part of the messages, or what is wrong with the batch.
#[doc(hidden)]
pub fn open<'a, P: Part, A: Attribute<'a, P>>(
    batch: &'a Batch,
    name: &'a str,
) -> Result<A::Cursor, String> {
    A::open(batch).ok_or_else(|| format!("the batch lacks the messages' {name}"))
}
