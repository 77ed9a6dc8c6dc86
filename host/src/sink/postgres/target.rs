//! Which of several servers is taken: libpq's `target_session_attrs`, as far as somebody who writes can use it.

use tokio_postgres::config::TargetSessionAttrs;

use crate::fault::{Fault, sqlstate};

/// What `word` asks of a server, of which `servers` are named. Without a word one server is taken as it is, and among
/// several the first that takes writes.
///
/// `any` takes the first that answers, whatever its defaults are; a standby is no use all the same, and is tried again as
/// `SL-P003`. `primary` is read as `read-write`: a primary whose transactions are read-only by default, which is all the
/// difference, takes no row either.
///
/// # Errors
/// `SL-P011` when it asks for a server that takes no writes, or is no word of libpq.
pub(super) fn target(word: Option<&str>, servers: usize) -> Result<TargetSessionAttrs, Fault> {
    let message = match word {
        None if servers > 1 => return Ok(TargetSessionAttrs::ReadWrite),
        None | Some("any") => return Ok(TargetSessionAttrs::Any),
        Some("read-write" | "primary") => return Ok(TargetSessionAttrs::ReadWrite),
        Some(word @ ("read-only" | "standby" | "prefer-standby")) => format!(
            "sink.url: target_session_attrs={word} may lead to a server that takes no writes; use read-write"
        ),
        Some(word) => {
            format!("sink.url: target_session_attrs {word:?} is none of any, read-write, primary")
        }
    };
    Err(Fault::exit(sqlstate::URL, message))
}
