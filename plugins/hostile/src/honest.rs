//! What an honest plugin makes of a batch: one row per message.

use crate::bindings::exports::sluice::plugin::transform::{Batch, Outcome, Rows};
use crate::bindings::sluice::plugin::columns::{Column, Spans, Values};

/// Place of `length` among the computed columns.
pub const LENGTH: usize = 0;
/// Place of `note`.
pub const NOTE: usize = 1;
/// Place of `detail`.
pub const DETAIL: usize = 2;
/// Place of `long`.
pub const LONG: usize = 3;

/// `length` of the device id, `note` "long id" where `long`, `detail` an object.
pub fn process(batch: &Batch) -> Outcome {
    let lengths = lengths_of_ids(batch);
    let is_long = |length: &i64| *length > 16;
    let notes: Vec<_> = lengths.iter().map(|length| is_long(length).then_some("long id")).collect();
    let details: Vec<_> =
        lengths.iter().map(|length| Some(format!("{{\"length\":{length}}}"))).collect();
    let long = lengths.iter().map(|length| u8::from(is_long(length))).collect();
    Outcome {
        outputs: vec![Rows {
            messages: (0..batch.count).collect(),
            columns: vec![
                column(Values::Int64(lengths)),
                nullable(Values::Text, &notes),
                nullable(Values::Json, &details),
                column(Values::Boolean(long)),
            ],
            deletes: Vec::new(),
        }],
        rejections: Vec::new(),
    }
}

fn lengths_of_ids(batch: &Batch) -> Vec<i64> {
    let Values::Text(ids) = &batch.fields[0].values else {
        panic!("the device id is text");
    };
    let starts = std::iter::once(&0).chain(&ids.ends);
    starts.zip(&ids.ends).map(|(start, end)| i64::from(end - start)).collect()
}

fn column(values: Values) -> Column {
    Column { values, nulls: Vec::new() }
}

fn nullable<T: AsRef<str>>(case: impl Fn(Spans) -> Values, texts: &[Option<T>]) -> Column {
    let mut spans = Spans { data: Vec::new(), ends: Vec::new() };
    for text in texts {
        spans.data.extend_from_slice(text.as_ref().map_or("", AsRef::as_ref).as_bytes());
        spans.ends.push(u32::try_from(spans.data.len()).expect("less than 4 GiB"));
    }
    let nulls = texts.iter().map(|text| u8::from(text.is_none())).collect();
    Column { values: case(spans), nulls }
}
