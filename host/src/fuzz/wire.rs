//! A second reader of COPY BINARY, written from Postgres' documentation alone: what the encoder writes is
//! compared with it.

/// `None` for NULL.
pub(super) type Cell<'a> = Option<&'a [u8]>;

/// The rows of a finished COPY.
///
/// # Panics
/// When it is none.
pub(super) fn rows(copy: &[u8]) -> Vec<Vec<Cell<'_>>> {
    let mut reader = Reader(copy);
    assert_eq!(reader.take(11), b"PGCOPY\n\xff\r\n\0", "signature");
    assert_eq!((reader.word(), reader.word()), (0, 0), "flags and extension");
    let mut rows = Vec::new();
    loop {
        let columns = reader.short();
        if columns == -1 {
            assert!(reader.0.is_empty(), "bytes follow the trailer");
            return rows;
        }
        rows.push((0..columns).map(|_| reader.cell()).collect());
    }
}

/// The items of an array of one dimension without NULLs.
///
/// # Panics
/// When it is another one, or not of type `element`.
pub(super) fn items(array: &[u8], element: i32) -> Vec<&[u8]> {
    let mut reader = Reader(array);
    let dimensions = reader.word();
    assert_eq!((reader.word(), reader.word()), (0, element), "no NULLs, and the element's type");
    if dimensions == 0 {
        assert!(reader.0.is_empty());
        return Vec::new();
    }
    let (length, lower) = (reader.word(), reader.word());
    assert!(dimensions == 1 && length > 0 && lower == 1, "one dimension, from 1");
    let items = (0..length).map(|_| reader.cell().expect("an item is there")).collect();
    assert!(reader.0.is_empty(), "bytes follow the array");
    items
}

/// Reads from the front.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(bytes).expect("the copy ends early");
        self.0 = rest;
        taken
    }

    pub fn short(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    pub fn word(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn cell(&mut self) -> Cell<'a> {
        match self.word() {
            -1 => None,
            length => Some(self.take(usize::try_from(length).expect("a length or -1"))),
        }
    }
}
