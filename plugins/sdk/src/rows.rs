//! What a transform may return: one row, none, many, for one output or several.

use crate::bindings::exports::sluice::plugin::transform::Rows as Finished;
use crate::row::Row;
use crate::schema::Tables;

/// Rows that come of one message.
#[diagnostic::on_unimplemented(
    message = "a transform cannot return `{Self}`",
    label = "not rows",
    note = "rows are a struct with `#[derive(sluice_plugin::Row)]`, an `Option`, `Vec`, array or `Change` of one, or a tuple of these for several outputs"
)]
pub trait Rows {
    /// The outputs they belong to.
    const TABLES: Tables;

    /// The outputs' rows under construction.
    type Tables;

    /// Empty, with room for one row of each of `messages`.
    fn tables(messages: usize) -> Self::Tables;

    /// Appends these rows of message `message`.
    fn put_into(self, message: u32, tables: &mut Self::Tables);

    /// Appends what was built to the outcome, output by output.
    fn finish(tables: Self::Tables, into: &mut Vec<Finished>);
}

/// A row to write, or one to delete: for outputs whose pipeline upserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<R> {
    /// Write this row.
    Put(R),
    /// Delete the row that has this one's key; other columns do not matter.
    Delete(R),
}

/// One output's rows under construction.
pub struct Table<R: Row> {
    messages: Vec<u32>,
    columns: R::Columns,
    /// Empty until the first delete.
    deletes: Vec<u8>,
}

impl<R: Row> Table<R> {
    #[inline]
    fn push(&mut self, message: u32, row: R) {
        self.messages.push(message);
        row.put_into(&mut self.columns);
    }
}

impl<R: Row> Rows for R {
    const TABLES: Tables = Tables::One(R::TABLE);
    type Tables = Table<R>;

    fn tables(messages: usize) -> Table<R> {
        let columns = R::columns(messages);
        Table { messages: Vec::with_capacity(messages), columns, deletes: Vec::new() }
    }

    #[inline]
    fn put_into(self, message: u32, table: &mut Table<R>) {
        table.push(message, self);
    }

    fn finish(mut table: Table<R>, into: &mut Vec<Finished>) {
        if !table.deletes.is_empty() {
            table.deletes.resize(table.messages.len(), 0);
        }
        into.push(Finished {
            messages: table.messages,
            columns: R::finish(table.columns),
            deletes: table.deletes,
        });
    }
}

impl<R: Row> Rows for Change<R> {
    const TABLES: Tables = Tables::One(R::TABLE);
    type Tables = Table<R>;

    fn tables(messages: usize) -> Table<R> {
        <R as Rows>::tables(messages)
    }

    #[inline]
    fn put_into(self, message: u32, table: &mut Table<R>) {
        match self {
            Self::Put(row) => table.push(message, row),
            Self::Delete(row) => {
                table.deletes.resize(table.messages.len(), 0);
                table.deletes.push(1);
                table.push(message, row);
            }
        }
    }

    fn finish(table: Table<R>, into: &mut Vec<Finished>) {
        <R as Rows>::finish(table, into);
    }
}

macro_rules! several {
    ([$($parameter:tt)+] $type:ty, $inner:ident) => {
        impl<$($parameter)+> Rows for $type {
            const TABLES: Tables = $inner::TABLES;
            type Tables = $inner::Tables;

            fn tables(messages: usize) -> Self::Tables {
                $inner::tables(messages)
            }

            // Not a loop, which the compiler takes for a mistake where `self` is an `Option`.
            #[allow(clippy::needless_for_each)]
            #[inline]
            fn put_into(self, message: u32, tables: &mut Self::Tables) {
                self.into_iter().for_each(|rows| rows.put_into(message, tables));
            }

            fn finish(tables: Self::Tables, into: &mut Vec<Finished>) {
                $inner::finish(tables, into);
            }
        }
    };
}

several!([R: Rows] Option<R>, R);
several!([R: Rows] Vec<R>, R);
several!([R: Rows, const N: usize] [R; N], R);

/// Several outputs at once.
impl<A: Rows, B: Rows> Rows for (A, B) {
    const TABLES: Tables = Tables::Both(&A::TABLES, &B::TABLES);
    type Tables = (A::Tables, B::Tables);

    fn tables(messages: usize) -> Self::Tables {
        (A::tables(messages), B::tables(messages))
    }

    #[inline]
    fn put_into(self, message: u32, tables: &mut Self::Tables) {
        self.0.put_into(message, &mut tables.0);
        self.1.put_into(message, &mut tables.1);
    }

    fn finish(tables: Self::Tables, into: &mut Vec<Finished>) {
        A::finish(tables.0, into);
        B::finish(tables.1, into);
    }
}

/// Tuples of three and more are nested pairs.
macro_rules! tuple {
    ($first:ident $second:ident: $($rest:ident)+) => {
        impl<$first: Rows, $second: Rows, $($rest: Rows),+> Rows for ($first, $second, $($rest),+) {
            const TABLES: Tables = <($first, ($second, $($rest),+)) as Rows>::TABLES;
            type Tables = <($first, ($second, $($rest),+)) as Rows>::Tables;

            fn tables(messages: usize) -> Self::Tables {
                <($first, ($second, $($rest),+)) as Rows>::tables(messages)
            }

            #[inline]
            #[allow(non_snake_case)]
            fn put_into(self, message: u32, tables: &mut Self::Tables) {
                let ($first, $second, $($rest),+) = self;
                ($first, ($second, $($rest),+)).put_into(message, tables);
            }

            fn finish(tables: Self::Tables, into: &mut Vec<Finished>) {
                <($first, ($second, $($rest),+)) as Rows>::finish(tables, into);
            }
        }
    };
}

tuple!(A B: C);
tuple!(A B: C D);
tuple!(A B: C D E);
tuple!(A B: C D E F);
