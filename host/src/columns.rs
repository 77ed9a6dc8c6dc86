//! Columns of values: the shape in which messages and rows travel from decode to COPY.
//! Knows neither Kafka, nor WebAssembly, nor Postgres.

use std::ops::Range;

/// What a column contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One byte a row, 0 or 1.
    Boolean,
    /// Signed 64-bit integers.
    Int64,
    /// IEEE doubles.
    Float64,
    /// UTF-8.
    Text,
    /// Any bytes.
    Bytes,
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp,
    /// One JSON value as UTF-8 text.
    Json,
    /// Lists of signed 64-bit integers.
    Int64List,
    /// Lists of IEEE doubles.
    Float64List,
}

impl Kind {
    /// All kinds, in the order of `plugin.wit`.
    pub const ALL: [Self; 9] = [
        Self::Boolean,
        Self::Int64,
        Self::Float64,
        Self::Text,
        Self::Bytes,
        Self::Timestamp,
        Self::Json,
        Self::Int64List,
        Self::Float64List,
    ];

    /// The contract's name of the kind, as it stands in `plugin.wit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Text => "text",
            Self::Bytes => "bytes",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
            Self::Int64List => "int64-list",
            Self::Float64List => "float64-list",
        }
    }
}

/// Byte strings laid end to end: value `i` is `data[ends[i - 1]..ends[i]]`, with `ends[-1]` read as 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spans {
    /// All values, without separators.
    pub data: Vec<u8>,
    /// Where each value ends in `data`.
    pub ends: Vec<u32>,
}

impl Spans {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True when there is no value.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Value `index`.
    ///
    /// # Panics
    /// When `index` is out of range, or the ends descend or pass the data.
    #[inline]
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.data[start..self.ends[index] as usize]
    }

    /// Appends a value.
    ///
    /// # Panics
    /// When the values together pass 4 GiB; batches are bounded far below.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.close();
    }

    /// Ends the value whose bytes were appended to `data` directly.
    ///
    /// # Panics
    /// When the values together pass 4 GiB; batches are bounded far below.
    #[inline]
    pub fn close(&mut self) {
        self.ends.push(u32::try_from(self.data.len()).expect("a batch stays below 4 GiB"));
    }

    /// Appends values `rows` of `other`.
    ///
    /// # Panics
    /// As [`Spans::get`] and [`Spans::push`].
    pub fn extend(&mut self, other: &Self, rows: Range<usize>) {
        extend(&mut self.data, &mut self.ends, (&other.data, &other.ends), rows);
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }
}

/// Byte strings, some of which may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blobs {
    /// The values; a missing one is an empty placeholder.
    pub values: Spans,
    /// One byte per value, 1 where there is none. Empty when every value is there.
    pub nulls: Vec<u8>,
}

impl Blobs {
    /// Number of values, missing ones included.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True when there is no value.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Value `index`, or `None` where it is missing.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if is_null(&self.nulls, index) { None } else { Some(self.values.get(index)) }
    }

    /// Appends a value or a gap.
    #[inline]
    pub fn push(&mut self, value: Option<&[u8]>) {
        mark(&mut self.nulls, self.values.len(), value.is_none());
        self.values.push(value.unwrap_or_default());
    }

    /// Forgets all values and keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.nulls.clear();
    }
}

/// Lists of varying length, laid end to end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lists<T> {
    /// All items, without separators.
    pub items: Vec<T>,
    /// Where each list ends in `items`.
    pub ends: Vec<u32>,
}

impl<T> Lists<T> {
    /// List `index`.
    ///
    /// # Panics
    /// When `index` is out of range, or the ends descend or pass the items.
    pub fn get(&self, index: usize) -> &[T] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.items[start..self.ends[index] as usize]
    }

    /// Ends the list whose items were appended directly.
    ///
    /// # Panics
    /// When there are more than 2^32 items; batches are bounded far below.
    pub fn close(&mut self) {
        self.ends.push(u32::try_from(self.items.len()).expect("a batch stays below 2^32 items"));
    }
}

/// One value per row; the case is the column's kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 0 is false, 1 is true.
    Boolean(Vec<u8>),
    /// Signed 64-bit integers.
    Int64(Vec<i64>),
    /// IEEE doubles.
    Float64(Vec<f64>),
    /// UTF-8.
    Text(Spans),
    /// Any bytes.
    Bytes(Spans),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp(Vec<i64>),
    /// One JSON value as UTF-8 text.
    Json(Spans),
    /// Lists of signed 64-bit integers.
    Int64List(Lists<i64>),
    /// Lists of IEEE doubles.
    Float64List(Lists<f64>),
}

/// A column and its gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The values; a missing one is a placeholder.
    pub values: Values,
    /// One byte per row, 1 where the row has no value. Empty when every row has one.
    pub nulls: Vec<u8>,
}

impl Column {
    /// An empty column of `kind`.
    pub fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Boolean => Values::Boolean(Vec::new()),
            Kind::Int64 => Values::Int64(Vec::new()),
            Kind::Float64 => Values::Float64(Vec::new()),
            Kind::Text => Values::Text(Spans::default()),
            Kind::Bytes => Values::Bytes(Spans::default()),
            Kind::Timestamp => Values::Timestamp(Vec::new()),
            Kind::Json => Values::Json(Spans::default()),
            Kind::Int64List => Values::Int64List(Lists { items: Vec::new(), ends: Vec::new() }),
            Kind::Float64List => Values::Float64List(Lists { items: Vec::new(), ends: Vec::new() }),
        };
        Self { values, nulls: Vec::new() }
    }

    /// What the column contains.
    pub fn kind(&self) -> Kind {
        match &self.values {
            Values::Boolean(_) => Kind::Boolean,
            Values::Int64(_) => Kind::Int64,
            Values::Float64(_) => Kind::Float64,
            Values::Text(_) => Kind::Text,
            Values::Bytes(_) => Kind::Bytes,
            Values::Timestamp(_) => Kind::Timestamp,
            Values::Json(_) => Kind::Json,
            Values::Int64List(_) => Kind::Int64List,
            Values::Float64List(_) => Kind::Float64List,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Int64(values) | Values::Timestamp(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => spans.len(),
            Values::Int64List(lists) => lists.ends.len(),
            Values::Float64List(lists) => lists.ends.len(),
        }
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// True when row `index` has no value.
    #[inline]
    pub fn is_null(&self, index: usize) -> bool {
        is_null(&self.nulls, index)
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self) {
        self.nulls.clear();
        match &mut self.values {
            Values::Boolean(values) => values.clear(),
            Values::Int64(values) | Values::Timestamp(values) => values.clear(),
            Values::Float64(values) => values.clear(),
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => spans.clear(),
            Values::Int64List(lists) => {
                lists.items.clear();
                lists.ends.clear();
            }
            Values::Float64List(lists) => {
                lists.items.clear();
                lists.ends.clear();
            }
        }
    }

    /// Appends a placeholder and marks it as missing.
    pub fn push_null(&mut self) {
        let index = self.len();
        mark(&mut self.nulls, index, true);
        match &mut self.values {
            Values::Boolean(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => spans.close(),
            Values::Int64List(lists) => lists.close(),
            Values::Float64List(lists) => lists.close(),
        }
    }

    /// Appends rows `rows` of `other`.
    ///
    /// # Panics
    /// When `other` is of another kind or has no such rows.
    pub fn extend(&mut self, other: &Self, rows: Range<usize>) {
        if !self.nulls.is_empty() || !other.nulls.is_empty() {
            self.nulls.resize(self.len(), 0);
            match other.nulls.get(rows.clone()) {
                Some(nulls) => self.nulls.extend_from_slice(nulls),
                None => self.nulls.resize(self.nulls.len() + rows.len(), 0),
            }
        }
        match (&mut self.values, &other.values) {
            (Values::Boolean(to), Values::Boolean(from)) => to.extend_from_slice(&from[rows]),
            (Values::Int64(to), Values::Int64(from))
            | (Values::Timestamp(to), Values::Timestamp(from)) => to.extend_from_slice(&from[rows]),
            (Values::Float64(to), Values::Float64(from)) => to.extend_from_slice(&from[rows]),
            (Values::Text(to), Values::Text(from))
            | (Values::Bytes(to), Values::Bytes(from))
            | (Values::Json(to), Values::Json(from)) => to.extend(from, rows),
            (Values::Int64List(to), Values::Int64List(from)) => {
                extend(&mut to.items, &mut to.ends, (&from.items, &from.ends), rows);
            }
            (Values::Float64List(to), Values::Float64List(from)) => {
                extend(&mut to.items, &mut to.ends, (&from.items, &from.ends), rows);
            }
            (to, from) => panic!("{from:?} behind {to:?}"),
        }
    }

    /// Forgets all rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int64(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => {
                truncate(&mut spans.data, &mut spans.ends, rows);
            }
            Values::Int64List(lists) => truncate(&mut lists.items, &mut lists.ends, rows),
            Values::Float64List(lists) => truncate(&mut lists.items, &mut lists.ends, rows),
        }
    }

    /// Marks that the value appended last, at `index`, is there; a no-op while no value is missing.
    #[inline]
    pub fn mark_present(&mut self, index: usize) {
        mark(&mut self.nulls, index, false);
    }
}

/// Appends values `rows` of another list of values.
fn extend<T: Copy>(
    items: &mut Vec<T>,
    ends: &mut Vec<u32>,
    (from_items, from_ends): (&[T], &[u32]),
    rows: Range<usize>,
) {
    let start = if rows.start == 0 { 0 } else { from_ends[rows.start - 1] };
    let shift = items.len() as i64 - i64::from(start);
    let moved =
        |end: &u32| u32::try_from(i64::from(*end) + shift).expect("a batch stays below 4 GiB");
    let new_ends = &from_ends[rows];
    let end = new_ends.last().copied().unwrap_or(start);
    ends.extend(new_ends.iter().map(moved));
    items.extend_from_slice(&from_items[start as usize..end as usize]);
}

/// Also forgets items that no end closes yet.
fn truncate<T>(items: &mut Vec<T>, ends: &mut Vec<u32>, rows: usize) {
    ends.truncate(rows);
    items.truncate(ends.last().map_or(0, |end| *end as usize));
}

#[inline]
fn is_null(nulls: &[u8], index: usize) -> bool {
    !nulls.is_empty() && nulls[index] != 0
}

/// Records whether value `index`, the next one, is missing, keeping `nulls` empty while none is.
#[inline]
pub fn mark(nulls: &mut Vec<u8>, index: usize, missing: bool) {
    if missing {
        nulls.resize(index, 0);
        nulls.push(1);
    } else if !nulls.is_empty() {
        nulls.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_marked_only_from_the_first_one_on() {
        let mut blobs = Blobs::default();
        blobs.push(Some(b"a"));
        assert!(blobs.nulls.is_empty());
        blobs.push(None);
        blobs.push(Some(b""));
        assert_eq!(blobs.nulls, [0, 1, 0]);
        assert_eq!(
            (blobs.get(0), blobs.get(1), blobs.get(2)),
            (Some(&b"a"[..]), None, Some(&b""[..]))
        );
    }

    /// A column of five rows, the second one missing, that differ from each other.
    fn sample(kind: Kind) -> Column {
        let mut column = Column::new(kind);
        for row in 0..5_u8 {
            let (value, index) = (i64::from(row), column.len());
            if row == 1 {
                column.push_null();
                continue;
            }
            match &mut column.values {
                Values::Boolean(values) => values.push(row % 2),
                Values::Int64(values) | Values::Timestamp(values) => values.push(value),
                Values::Float64(values) => values.push(value as f64),
                Values::Text(spans) | Values::Bytes(spans) | Values::Json(spans) => {
                    spans.push(&vec![b'0' + row; row as usize]);
                }
                Values::Int64List(lists) => {
                    lists.items.extend(0..value);
                    lists.close();
                }
                Values::Float64List(lists) => {
                    lists.items.extend((0..row).map(f64::from));
                    lists.close();
                }
            }
            column.mark_present(index);
        }
        column
    }

    #[test]
    fn parts_of_a_column_add_up_to_it() {
        for kind in Kind::ALL {
            let whole = sample(kind);
            for cut in 0..=5 {
                let mut parts = Column::new(kind);
                parts.extend(&whole, 0..cut);
                assert_eq!(parts.len(), cut, "{kind:?}");
                parts.extend(&whole, cut..5);
                assert_eq!(parts, whole, "{kind:?} cut at {cut}");
            }
            let mut twice = sample(kind);
            twice.extend(&whole, 1..3);
            assert_eq!((twice.len(), twice.is_null(5), twice.is_null(6)), (7, true, false));
        }
    }

    #[test]
    fn a_missing_value_keeps_its_row_in_every_kind() {
        for kind in Kind::ALL {
            let mut column = Column::new(kind);
            column.push_null();
            assert_eq!((column.len(), column.is_null(0), column.kind()), (1, true, kind));
            column.clear();
            assert!(column.is_empty() && column.nulls.is_empty());
        }
    }
}
