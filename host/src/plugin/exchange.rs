//! Moves columns between the host's own types and the generated ones. Only vectors' three words move,
//! never what is in them: the copy into and out of the guest's memory is the only one.

use std::mem::{swap, take};

use super::bindings::exports::sluice::plugin::transform as wit;
use super::bindings::sluice::plugin::columns as wit_columns;
use super::check::{Returned, ReturnedRejection, ReturnedRows};
use crate::batch::Batch;
use crate::columns::{Blobs, Column, Lists, Spans, Values};
use crate::description::{Attributes, Description};
use crate::rows::Decoded;

/// A batch as the guest gets it; kept from call to call with its memory.
#[derive(Debug)]
pub(super) struct Loan {
    /// What `process` is called with.
    pub batch: wit::Batch,
    whole: bool,
}

impl Default for Loan {
    fn default() -> Self {
        let blobs = || wit_columns::Blobs { values: empty_spans(), nulls: Vec::new() };
        let headers = wit::Headers { ends: Vec::new(), names: empty_spans(), values: blobs() };
        let batch = wit::Batch {
            topic: String::new(),
            count: 0,
            fields: Vec::new(),
            payloads: blobs(),
            keys: blobs(),
            timestamps: Vec::new(),
            partitions: Vec::new(),
            offsets: Vec::new(),
            headers,
        };
        Self { batch, whole: false }
    }
}

impl Loan {
    /// Fills `self.batch` with what the description asks for. Where every message was decoded, the
    /// columns are lent; else the attributes of those that were are copied, so that all rows agree.
    pub fn lend(&mut self, batch: &mut Batch, decoded: &mut Decoded, description: &Description) {
        self.whole = decoded.messages.len() == batch.len();
        self.batch.count = decoded.messages.len() as u32;
        self.batch.topic.clone_from(&batch.topic);
        if self.whole {
            self.swap_attributes(batch, description.reads);
        } else {
            self.copy_attributes(batch, &decoded.messages, description.reads);
        }
        let fields = description.payload.fields().iter().zip(&mut decoded.columns);
        let read = fields.filter(|(field, _)| field.read);
        self.batch.fields.extend(read.map(|(_, column)| column_to_guest(column)));
    }

    /// Gives back what was lent, and is empty again. To be called after every [`Loan::lend`].
    pub fn restore(&mut self, batch: &mut Batch, decoded: &mut Decoded, description: &Description) {
        if self.whole {
            self.swap_attributes(batch, description.reads);
        } else {
            self.clear_attributes();
        }
        let fields = description.payload.fields().iter().zip(&mut decoded.columns);
        let read = fields.filter(|(field, _)| field.read);
        for (lent, (_, column)) in self.batch.fields.drain(..).zip(read) {
            *column = column_to_host(lent);
        }
    }

    fn swap_attributes(&mut self, batch: &mut Batch, reads: Attributes) {
        if reads.payload {
            swap_blobs(&mut self.batch.payloads, &mut batch.payloads);
        }
        if reads.key {
            swap_blobs(&mut self.batch.keys, &mut batch.keys);
        }
        if reads.timestamp {
            swap(&mut self.batch.timestamps, &mut batch.timestamps);
        }
        if reads.position {
            swap(&mut self.batch.partitions, &mut batch.partitions);
            swap(&mut self.batch.offsets, &mut batch.offsets);
        }
        if reads.headers {
            swap(&mut self.batch.headers.ends, &mut batch.headers.ends);
            swap_spans(&mut self.batch.headers.names, &mut batch.headers.names);
            swap_blobs(&mut self.batch.headers.values, &mut batch.headers.values);
        }
    }

    fn copy_attributes(&mut self, batch: &Batch, messages: &[u32], reads: Attributes) {
        let to = &mut self.batch;
        for index in messages.iter().map(|&message| message as usize) {
            if reads.payload {
                push_blob(&mut to.payloads, batch.payloads.get(index));
            }
            if reads.key {
                push_blob(&mut to.keys, batch.keys.get(index));
            }
            if reads.timestamp {
                to.timestamps.push(batch.timestamps[index]);
            }
            if reads.position {
                to.partitions.push(batch.partitions[index]);
                to.offsets.push(batch.offsets[index]);
            }
            if reads.headers {
                for header in batch.headers.of(index) {
                    push_span(&mut to.headers.names, batch.headers.names.get(header));
                    push_blob(&mut to.headers.values, batch.headers.values.get(header));
                }
                to.headers.ends.push(to.headers.names.ends.len() as u32);
            }
        }
    }

    fn clear_attributes(&mut self) {
        let batch = &mut self.batch;
        batch.timestamps.clear();
        batch.partitions.clear();
        batch.offsets.clear();
        batch.headers.ends.clear();
        clear_spans(&mut batch.headers.names);
        for blobs in [&mut batch.payloads, &mut batch.keys, &mut batch.headers.values] {
            clear_spans(&mut blobs.values);
            blobs.nulls.clear();
        }
    }
}

/// What the guest returned, in the host's own types and not believed yet.
pub(super) fn returned(outcome: wit::Outcome) -> Returned {
    let outputs = outcome.outputs.into_iter().map(|rows| ReturnedRows {
        messages: rows.messages,
        columns: rows.columns.into_iter().map(column_to_host).collect(),
        deletes: rows.deletes,
    });
    let rejections = outcome.rejections.into_iter().map(|rejection| ReturnedRejection {
        message: rejection.message,
        code: rejection.code,
        reason: rejection.reason,
        retry: rejection.retry,
    });
    Returned { outputs: outputs.collect(), rejections: rejections.collect() }
}

fn column_to_guest(column: &mut Column) -> wit_columns::Column {
    use wit_columns::Values as Guest;
    let values = match &mut column.values {
        Values::Boolean(values) => Guest::Boolean(take(values)),
        Values::Int64(values) => Guest::Int64(take(values)),
        Values::Float64(values) => Guest::Float64(take(values)),
        Values::Text(spans) => Guest::Text(spans_to_guest(spans)),
        Values::Bytes(spans) => Guest::Bytes(spans_to_guest(spans)),
        Values::Timestamp(values) => Guest::Timestamp(take(values)),
        Values::Json(spans) => Guest::Json(spans_to_guest(spans)),
        Values::Int64List(lists) => Guest::Int64List(wit_columns::Int64Lists {
            items: take(&mut lists.items),
            ends: take(&mut lists.ends),
        }),
        Values::Float64List(lists) => Guest::Float64List(wit_columns::Float64Lists {
            items: take(&mut lists.items),
            ends: take(&mut lists.ends),
        }),
    };
    wit_columns::Column { values, nulls: take(&mut column.nulls) }
}

fn column_to_host(column: wit_columns::Column) -> Column {
    use wit_columns::Values as Guest;
    let values = match column.values {
        Guest::Boolean(values) => Values::Boolean(values),
        Guest::Int64(values) => Values::Int64(values),
        Guest::Float64(values) => Values::Float64(values),
        Guest::Text(spans) => Values::Text(spans_to_host(spans)),
        Guest::Bytes(spans) => Values::Bytes(spans_to_host(spans)),
        Guest::Timestamp(values) => Values::Timestamp(values),
        Guest::Json(spans) => Values::Json(spans_to_host(spans)),
        Guest::Int64List(lists) => {
            Values::Int64List(Lists { items: lists.items, ends: lists.ends })
        }
        Guest::Float64List(lists) => {
            Values::Float64List(Lists { items: lists.items, ends: lists.ends })
        }
    };
    Column { values, nulls: column.nulls }
}

fn empty_spans() -> wit_columns::Spans {
    wit_columns::Spans { data: Vec::new(), ends: Vec::new() }
}

fn spans_to_guest(spans: &mut Spans) -> wit_columns::Spans {
    wit_columns::Spans { data: take(&mut spans.data), ends: take(&mut spans.ends) }
}

fn spans_to_host(spans: wit_columns::Spans) -> Spans {
    Spans { data: spans.data, ends: spans.ends }
}

fn swap_spans(guest: &mut wit_columns::Spans, host: &mut Spans) {
    swap(&mut guest.data, &mut host.data);
    swap(&mut guest.ends, &mut host.ends);
}

fn swap_blobs(guest: &mut wit_columns::Blobs, host: &mut Blobs) {
    swap_spans(&mut guest.values, &mut host.values);
    swap(&mut guest.nulls, &mut host.nulls);
}

fn push_span(spans: &mut wit_columns::Spans, value: &[u8]) {
    spans.data.extend_from_slice(value);
    spans.ends.push(spans.data.len() as u32);
}

fn push_blob(blobs: &mut wit_columns::Blobs, value: Option<&[u8]>) {
    crate::columns::mark(&mut blobs.nulls, blobs.values.ends.len(), value.is_none());
    push_span(&mut blobs.values, value.unwrap_or_default());
}

fn clear_spans(spans: &mut wit_columns::Spans) {
    spans.data.clear();
    spans.ends.clear();
}

#[cfg(test)]
mod tests;
