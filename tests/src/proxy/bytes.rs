//! A cut behind a certain byte of a transaction, on one of its two ways. Pure.

use super::committed;
use super::frames::Frame;

/// Which way bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Requests.
    ToServer,
    /// Replies.
    ToClient,
}

/// A cut that was asked for, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByteCut {
    way: Way,
    bytes: usize,
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// No transaction has begun since.
    Waiting,
    /// One is under way on this connection; so many bytes of it have passed.
    Counting {
        connection: u64,
        passed: usize,
        committed: bool,
    },
    Cut,
    /// The transaction had fewer bytes.
    Missed {
        bytes: usize,
    },
}

impl ByteCut {
    pub(super) fn new(bytes: usize, way: Way) -> Self {
        Self { way, bytes, stage: Stage::Waiting }
    }

    /// True when the connection was cut.
    pub fn is_cut(&self) -> bool {
        self.stage == Stage::Cut
    }

    /// The number of bytes of a transaction that was over before its turn came.
    pub fn missed(&self) -> Option<usize> {
        match self.stage {
            Stage::Missed { bytes } => Some(bytes),
            _ => None,
        }
    }

    /// How many bytes of `frame` may pass before the connection is cut; none when it passes as it is.
    pub(super) fn allows(&mut self, number: u64, on: Way, frame: &Frame) -> Option<usize> {
        if self.stage == Stage::Waiting && on == Way::ToServer && is_query(frame, b"BEGIN") {
            self.stage = Stage::Counting { connection: number, passed: 0, committed: false };
        }
        let Stage::Counting { connection, passed, committed: over } = &mut self.stage else {
            return None;
        };
        if *connection != number || on != self.way {
            return None;
        }
        let left = self.bytes - *passed;
        if left < frame.bytes.len() {
            self.stage = Stage::Cut;
            return Some(left);
        }
        *passed += frame.bytes.len();
        *over |= committed(frame);
        let last = match on {
            Way::ToServer => is_query(frame, b"COMMIT"),
            Way::ToClient => *over && frame.kind == b'Z',
        };
        if last {
            self.stage = Stage::Missed { bytes: *passed };
        }
        None
    }
}

fn is_query(frame: &Frame, text: &[u8]) -> bool {
    frame.kind == b'Q' && frame.body().starts_with(text)
}
