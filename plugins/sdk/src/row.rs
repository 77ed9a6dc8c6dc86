//! Building rows: one column per computed field, grown side by side.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write;

use crate::bindings::sluice::plugin::columns::{Column, Float64Lists, Int64Lists, Spans, Values};
use crate::schema::{Kind, Table};
use crate::{Decimal, Json, Timestamp};

/// A row of one output; implemented by `#[derive(Row)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how it is written to an output",
    label = "needs `#[derive(sluice_plugin::Row)]`"
)]
pub trait Row {
    /// The output and its columns.
    const TABLE: Table;

    /// One builder per computed field.
    type Columns;

    /// Empty columns with room for `rows`.
    fn columns(rows: usize) -> Self::Columns;

    /// Appends this row.
    fn put_into(self, columns: &mut Self::Columns);

    /// The finished columns, in the order of the fields.
    fn finish(columns: Self::Columns) -> Vec<Column>;
}

/// A type that a field of a row can have.
#[diagnostic::on_unimplemented(
    message = "a row has no field of type `{Self}`",
    label = "no column of an output contains this",
    note = "a field is a `bool`, an integer up to `i64`, `f32`, `f64`, `&str`, `String`, `Decimal`, `Timestamp`, `Json`, `&[u8]`, `Vec<u8>`, a slice or `Vec` of `i64` or `f64`, or an `Option` of one of these",
    note = "wrap anything else that has a `Display` into `Text(...)`: the host casts text to the type of the table's column (uuid, date, inet, an enum...)"
)]
pub trait Cell {
    /// What the column contains.
    const KIND: Kind;

    /// True when a row may have no value.
    const NULLABLE: bool = false;

    /// A column under construction.
    type Builder: Builder;

    /// Appends this value.
    fn put_into(self, builder: &mut Self::Builder);
}

/// A column under construction.
pub trait Builder {
    /// Empty, with room for `rows`.
    fn with_capacity(rows: usize) -> Self;

    /// Appends a placeholder where there is no value.
    fn skip(&mut self);

    /// The finished column.
    fn finish(self) -> Column;
}

/// Anything with a `Display`, sent as text. The host casts it to the type of the table's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<T>(pub T);

macro_rules! fixed_builder {
    ($(#[$doc:meta])+ $name:ident, $item:ty, $kind:ident) => {
        $(#[$doc])+
        pub struct $name(Vec<$item>);

        impl Builder for $name {
            fn with_capacity(rows: usize) -> Self {
                Self(Vec::with_capacity(rows))
            }

            #[inline]
            fn skip(&mut self) {
                self.0.push(<$item>::default());
            }

            fn finish(self) -> Column {
                Column { values: Values::$kind(self.0), nulls: Vec::new() }
            }
        }
    };
}

fixed_builder!(/** A column of booleans. */ Booleans, u8, Boolean);
fixed_builder!(/** A column of integers. */ Integers, i64, Int64);
fixed_builder!(/** A column of doubles. */ Doubles, f64, Float64);
fixed_builder!(/** A column of timestamps. */ Timestamps, i64, Timestamp);

macro_rules! fixed_cell {
    ($($type:ty, $kind:ident, $builder:ty, $value:ident => $convert:expr;)+) => { $(
        impl Cell for $type {
            const KIND: Kind = Kind::$kind;
            type Builder = $builder;

            #[inline]
            fn put_into(self, builder: &mut Self::Builder) {
                let $value = self;
                builder.0.push($convert);
            }
        }
    )+ };
}

fixed_cell! {
    bool, Boolean, Booleans, value => u8::from(value);
    i64, Int64, Integers, value => value;
    i32, Int64, Integers, value => i64::from(value);
    i16, Int64, Integers, value => i64::from(value);
    i8, Int64, Integers, value => i64::from(value);
    u32, Int64, Integers, value => i64::from(value);
    u16, Int64, Integers, value => i64::from(value);
    u8, Int64, Integers, value => i64::from(value);
    f64, Float64, Doubles, value => value;
    f32, Float64, Doubles, value => f64::from(value);
    Timestamp, Timestamp, Timestamps, value => value.0;
}

macro_rules! list_builder {
    ($(#[$doc:meta])+ $name:ident, $item:ty, $record:ident { $items:ident }, $kind:ident, $guess:expr) => {
        $(#[$doc])+
        pub struct $name($record);

        impl $name {
            #[inline]
            fn close(&mut self) {
                let end = u32::try_from(self.0.$items.len());
                self.0.ends.push(end.expect("a batch's rows stay below 4 GiB"));
            }

            #[inline]
            fn push(&mut self, value: &[$item]) {
                self.0.$items.extend_from_slice(value);
                self.close();
            }
        }

        impl Builder for $name {
            fn with_capacity(rows: usize) -> Self {
                let items = Vec::with_capacity(rows * $guess);
                Self($record { $items: items, ends: Vec::with_capacity(rows) })
            }

            #[inline]
            fn skip(&mut self) {
                self.close();
            }

            fn finish(self) -> Column {
                Column { values: Values::$kind(self.0), nulls: Vec::new() }
            }
        }
    };
}

list_builder!(/** A column of text. */ Texts, u8, Spans { data }, Text, 16);
list_builder!(/** A column of bytes. */ Binaries, u8, Spans { data }, Bytes, 16);
list_builder!(/** A column of JSON. */ Jsons, u8, Spans { data }, Json, 16);
list_builder!(/** A column of lists of integers. */ IntegerLists, i64, Int64Lists { items }, Int64List, 4);
list_builder!(/** A column of lists of doubles. */ DoubleLists, f64, Float64Lists { items }, Float64List, 4);

macro_rules! list_cell {
    ($($type:ty, $kind:ident, $builder:ty, $value:ident => $convert:expr;)+) => { $(
        impl Cell for $type {
            const KIND: Kind = Kind::$kind;
            type Builder = $builder;

            #[inline]
            fn put_into(self, builder: &mut Self::Builder) {
                let $value = &self;
                builder.push($convert);
            }
        }
    )+ };
}

list_cell! {
    &str, Text, Texts, value => value.as_bytes();
    String, Text, Texts, value => value.as_bytes();
    Cow<'_, str>, Text, Texts, value => value.as_bytes();
    &[u8], Bytes, Binaries, value => value;
    Vec<u8>, Bytes, Binaries, value => value;
    &[i64], Int64List, IntegerLists, value => value;
    Vec<i64>, Int64List, IntegerLists, value => value;
    &[f64], Float64List, DoubleLists, value => value;
    Vec<f64>, Float64List, DoubleLists, value => value;
    Json<&str>, Json, Jsons, value => value.0.as_bytes();
    Json<String>, Json, Jsons, value => value.0.as_bytes();
}

impl<T: Display> Cell for Text<T> {
    const KIND: Kind = Kind::Text;
    type Builder = Texts;

    #[inline]
    fn put_into(self, builder: &mut Self::Builder) {
        write!(builder.0.data, "{}", self.0).expect("memory takes all bytes");
        builder.close();
    }
}

/// Sent as text, which Postgres' `numeric` takes digit for digit.
impl Cell for Decimal {
    const KIND: Kind = Kind::Text;
    type Builder = Texts;

    #[inline]
    fn put_into(self, builder: &mut Self::Builder) {
        Text(self).put_into(builder);
    }
}

/// A column with gaps under construction.
pub struct Gaps<B> {
    inner: B,
    rows: usize,
    /// Empty until the first gap.
    nulls: Vec<u8>,
}

impl<B: Builder> Builder for Gaps<B> {
    fn with_capacity(rows: usize) -> Self {
        Self { inner: B::with_capacity(rows), rows: 0, nulls: Vec::new() }
    }

    fn skip(&mut self) {
        self.nulls.resize(self.rows, 0);
        self.nulls.push(1);
        self.rows += 1;
        self.inner.skip();
    }

    fn finish(self) -> Column {
        let mut nulls = self.nulls;
        if !nulls.is_empty() {
            nulls.resize(self.rows, 0);
        }
        Column { nulls, ..self.inner.finish() }
    }
}

impl<C: Cell> Cell for Option<C> {
    const KIND: Kind = C::KIND;
    const NULLABLE: bool = true;
    type Builder = Gaps<C::Builder>;

    #[inline]
    fn put_into(self, builder: &mut Self::Builder) {
        match self {
            Some(value) => {
                value.put_into(&mut builder.inner);
                builder.rows += 1;
            }
            None => builder.skip(),
        }
    }
}
