//! Reads back a COPY that we encoded: where its rows and cells are. Everything in it is our own.

use std::ops::Range;

use super::copy;

/// The rows of a whole COPY.
#[derive(Debug)]
pub(crate) struct CopiedRows<'a> {
    bytes: &'a [u8],
    /// Where each row ends; the first one begins at `start`.
    ends: Vec<usize>,
    start: usize,
}

impl<'a> CopiedRows<'a> {
    /// Finds the rows of `bytes`, a COPY from [`copy::begin`] to [`copy::end`]; empty bytes have none.
    pub fn of(bytes: &'a [u8]) -> Self {
        let start = copy::HEADER_BYTES.min(bytes.len());
        let (mut at, mut ends) = (start, Vec::new());
        // The trailer is a count of -1.
        while let Some(count) = bytes.get(at..at + 2).filter(|count| count[0] & 0x80 == 0) {
            at += 2;
            for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
                at += cell_bytes(&bytes[at..]);
            }
            ends.push(at);
        }
        Self { bytes, ends, start }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of row `index`.
    pub fn row(&self, index: usize) -> &'a [u8] {
        let start = if index == 0 { self.start } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// The cells of row `index`, each with its length in front.
    pub fn cells(&self, index: usize) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = &self.row(index)[2..];
        std::iter::from_fn(move || {
            let (cell, behind) = rest.split_at((!rest.is_empty()).then(|| cell_bytes(rest))?);
            rest = behind;
            Some(cell)
        })
    }

    /// A COPY of those rows in `range` that `wanted` lets through; appended to `out`.
    pub fn part(&self, range: Range<usize>, wanted: impl Fn(usize) -> bool, out: &mut Vec<u8>) {
        copy::begin(out);
        for index in range.filter(|index| wanted(*index)) {
            out.extend_from_slice(self.row(index));
        }
        copy::end(out);
    }
}

/// Bytes of the cell that `bytes` begin with, its length included.
fn cell_bytes(bytes: &[u8]) -> usize {
    let length = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    4 + usize::try_from(length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_and_parts_are_whole_copies() {
        let mut bytes = Vec::new();
        copy::begin(&mut bytes);
        for row in 0..3_u8 {
            bytes.extend_from_slice(&2_u16.to_be_bytes());
            copy::bytes(&vec![row; usize::from(row)], &mut bytes);
            copy::null(&mut bytes);
        }
        copy::end(&mut bytes);
        let rows = CopiedRows::of(&bytes);
        assert_eq!((rows.len(), rows.row(0).len(), rows.row(2).len()), (3, 10, 12));
        let mut all = Vec::new();
        rows.part(0..3, |_| true, &mut all);
        assert_eq!(all, bytes);
        let mut some = Vec::new();
        rows.part(0..3, |index| index != 1, &mut some);
        let some = CopiedRows::of(&some);
        assert_eq!((some.len(), some.row(1)), (2, rows.row(2)));
        assert_eq!(CopiedRows::of(&[]).len(), 0);
        let cells: Vec<&[u8]> = rows.cells(1).collect();
        assert_eq!(cells, [&[0, 0, 0, 1, 1][..], &[0xff; 4]]);
    }
}
