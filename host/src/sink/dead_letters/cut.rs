//! Messages that are too large for a row: what is kept of them, and how their dead letters say so.
//!
//! Postgres takes no value, no row as text and no message of its protocol beyond 1 GiB, and `bytea` is twice as long as
//! text. A dead letter beyond that could not be written, and its partition would be blocked for good.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::put_position;
use crate::batch::Batch;
use crate::rows::{Rejection, Stage};
use crate::sink::copy;

/// Most bytes of key, payload and headers that a row keeps: a quarter of what Postgres takes, because `pg_dump`, `psql` and
/// our own queries have rows as text, twice as long, and several values of one in a message.
pub(in crate::sink) const ROW_BYTES_MAX: usize = 256 << 20;

/// Bytes kept of the payload and of the key of a message that is larger, and of all of its headers together.
const KEPT_BYTES: usize = 1 << 20;

/// Name of the header that comes first in a dead letter of which not all was kept. Its value says what is missing.
pub const CUT: &str = "sluice-truncated";

/// Dead letters of which all was kept: only these can be replayed.
pub(super) const IS_COMPLETE: &str =
    "header_names[1] IS DISTINCT FROM pg_catalog.convert_to('sluice-truncated', 'UTF8')";

/// Bytes of a message in a row.
pub(in crate::sink) fn bytes(batch: &Batch, message: usize) -> usize {
    let of = |value: Option<&[u8]>| value.map_or(0, <[u8]>::len);
    let headers = batch
        .headers
        .of(message)
        .map(|index| batch.headers.names.get(index).len() + of(batch.headers.values.get(index)));
    of(batch.keys.get(message)) + of(batch.payloads.get(message)) + headers.sum::<usize>()
}

/// What is said of a message that cannot be parked, as what is parked has to be kept as it is.
pub(in crate::sink) fn not_parked(batch: &Batch, rejection: &Rejection) -> Rejection {
    let bytes = bytes(batch, rejection.message as usize);
    let reason =
        format!("{}; not tried again: {bytes} bytes are too many to be parked", rejection.reason);
    Rejection { reason, retry: false, ..rejection.clone() }
}

/// Of one that would have to wait for others of its key.
pub(in crate::sink) fn cannot_wait(batch: &Batch, message: usize) -> Rejection {
    let bytes = bytes(batch, message);
    let reason = format!(
        "an earlier message of its key is parked, and {bytes} bytes are too many to be parked behind it"
    );
    let code = "too-large-to-wait".to_owned();
    Rejection { message: message as u32, stage: Stage::Sink, code, reason, retry: false }
}

/// Appends what is kept of a message, in the columns of one that is kept as it is.
pub(super) fn put(batch: &Batch, message: usize, out: &mut Vec<u8>) {
    let start = |value: &'_ [u8]| value[..value.len().min(KEPT_BYTES)].to_vec();
    put_position(batch, message, out);
    copy::maybe_bytes(batch.keys.get(message).map(start).as_deref(), out);
    copy::maybe_bytes(batch.payloads.get(message).map(start).as_deref(), out);
    let mut room = KEPT_BYTES;
    let kept: Vec<usize> = (batch.headers.of(message))
        .take_while(|&index| {
            let value = batch.headers.values.get(index).map_or(0, <[u8]>::len);
            let bytes = batch.headers.names.get(index).len() + value;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        })
        .collect();
    let note = note(batch, message, kept.len());
    let names = kept.iter().map(|index| batch.headers.names.get(*index));
    let names: Vec<&[u8]> = std::iter::once(CUT.as_bytes()).chain(names).collect();
    let values = kept.iter().map(|index| batch.headers.values.get(*index));
    let values: Vec<Option<&[u8]>> = std::iter::once(Some(note.as_bytes())).chain(values).collect();
    copy::byte_strings(names.into_iter().map(Some), out);
    copy::byte_strings(values.into_iter(), out);
}

/// `payload 300000000 bytes sha256 ..., key 4 bytes sha256 ..., headers 2 of 2`; what is missing has no length.
fn note(batch: &Batch, message: usize, headers_kept: usize) -> String {
    let mut note = String::new();
    let values = [("payload", &batch.payloads), ("key", &batch.keys)];
    for (name, values) in values {
        if let Some(value) = values.get(message) {
            let _ = write!(note, "{name} {} bytes sha256 ", value.len());
            for byte in Sha256::digest(value) {
                let _ = write!(note, "{byte:02x}");
            }
            note.push_str(", ");
        }
    }
    let _ = write!(note, "headers {headers_kept} of {}", batch.headers.of(message).len());
    note
}
