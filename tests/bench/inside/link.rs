//! The plugin's code linked into the host: the generated types of one side become those of the other. Only
//! vectors' three words move, as on the way to the sandbox; nothing is copied.

use std::cell::RefCell;
use std::mem::take;

use sluice::plugin::bindings::exports::sluice::plugin::transform as host;
use sluice::plugin::bindings::sluice::plugin::columns as host_columns;
use sluice::plugin::linked::Process;
use sluice_plugin::bindings::exports::sluice::plugin::transform as guest;
use sluice_plugin::bindings::sluice::plugin::columns as guest_columns;
use sluice_plugin::runtime::Linked;

thread_local! {
    /// A transform need not be `Send`, and the host makes and calls one on a lane's own thread.
    static LINKED: RefCell<Option<Linked>> = const { RefCell::new(None) };
}

/// The plugin `readings` for one lane.
pub fn link(settings: &str) -> Result<Process, String> {
    LINKED.set(Some(readings::link(settings)?));
    Ok(Box::new(|batch| {
        LINKED.with_borrow(|linked| {
            let linked = linked.as_ref().ok_or("linked on another thread")?;
            let lent = lend(batch);
            let result = linked(&lent);
            give_back(lent, batch);
            result.map(outcome)
        })
    }))
}

fn lend(batch: &mut host::Batch) -> guest::Batch {
    guest::Batch {
        topic: take(&mut batch.topic),
        count: batch.count,
        fields: batch.fields.drain(..).map(column_to_guest).collect(),
        payloads: blobs_to_guest(&mut batch.payloads),
        keys: blobs_to_guest(&mut batch.keys),
        timestamps: take(&mut batch.timestamps),
        partitions: take(&mut batch.partitions),
        offsets: take(&mut batch.offsets),
        headers: guest::Headers {
            ends: take(&mut batch.headers.ends),
            names: spans_to_guest(&mut batch.headers.names),
            values: blobs_to_guest(&mut batch.headers.values),
        },
    }
}

fn give_back(lent: guest::Batch, batch: &mut host::Batch) {
    batch.topic = lent.topic;
    batch.fields.extend(lent.fields.into_iter().map(column_to_host));
    batch.payloads = blobs_to_host(lent.payloads);
    batch.keys = blobs_to_host(lent.keys);
    batch.timestamps = lent.timestamps;
    batch.partitions = lent.partitions;
    batch.offsets = lent.offsets;
    batch.headers.ends = lent.headers.ends;
    batch.headers.names = spans_to_host(lent.headers.names);
    batch.headers.values = blobs_to_host(lent.headers.values);
}

fn outcome(outcome: guest::Outcome) -> host::Outcome {
    let outputs = outcome.outputs.into_iter().map(|rows| host::Rows {
        messages: rows.messages,
        columns: rows.columns.into_iter().map(column_to_host).collect(),
        deletes: rows.deletes,
    });
    let rejections = outcome.rejections.into_iter().map(|rejection| host::Rejection {
        message: rejection.message,
        code: rejection.code,
        reason: rejection.reason,
        retry: rejection.retry,
    });
    host::Outcome { outputs: outputs.collect(), rejections: rejections.collect() }
}

/// The same nine kinds on both sides, converted one way.
macro_rules! column {
    ($name:ident, $from:ident, $to:ident, $spans:ident) => {
        fn $name(column: $from::Column) -> $to::Column {
            use $from::Values as From;
            use $to::Values as To;
            let values = match column.values {
                From::Boolean(values) => To::Boolean(values),
                From::Int64(values) => To::Int64(values),
                From::Float64(values) => To::Float64(values),
                From::Text(mut spans) => To::Text($spans(&mut spans)),
                From::Bytes(mut spans) => To::Bytes($spans(&mut spans)),
                From::Timestamp(values) => To::Timestamp(values),
                From::Json(mut spans) => To::Json($spans(&mut spans)),
                From::Int64List($from::Int64Lists { items, ends }) => {
                    To::Int64List($to::Int64Lists { items, ends })
                }
                From::Float64List($from::Float64Lists { items, ends }) => {
                    To::Float64List($to::Float64Lists { items, ends })
                }
            };
            $to::Column { values, nulls: column.nulls }
        }
    };
}

column!(column_to_guest, host_columns, guest_columns, spans_to_guest);
column!(column_to_host, guest_columns, host_columns, take_spans_to_host);

fn spans_to_guest(spans: &mut host_columns::Spans) -> guest_columns::Spans {
    guest_columns::Spans { data: take(&mut spans.data), ends: take(&mut spans.ends) }
}

fn take_spans_to_host(spans: &mut guest_columns::Spans) -> host_columns::Spans {
    host_columns::Spans { data: take(&mut spans.data), ends: take(&mut spans.ends) }
}

fn spans_to_host(mut spans: guest_columns::Spans) -> host_columns::Spans {
    take_spans_to_host(&mut spans)
}

fn blobs_to_guest(blobs: &mut host_columns::Blobs) -> guest_columns::Blobs {
    guest_columns::Blobs {
        values: spans_to_guest(&mut blobs.values),
        nulls: take(&mut blobs.nulls),
    }
}

fn blobs_to_host(blobs: guest_columns::Blobs) -> host_columns::Blobs {
    host_columns::Blobs { values: spans_to_host(blobs.values), nulls: blobs.nulls }
}
