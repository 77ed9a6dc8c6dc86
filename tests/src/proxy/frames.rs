//! Messages of Postgres' protocol, cut out of a stream of bytes, and which of them commit.

use std::collections::HashSet;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use anyhow::{Result, bail};

/// No message of these tests is larger.
const FRAME_BYTES_MAX: usize = 256 << 20;

/// One message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its type; 0 for the first message of a client, which has none.
    pub kind: u8,
    /// All of it, header included.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// What follows type and length.
    pub fn body(&self) -> &[u8] {
        &self.bytes[if self.kind == 0 { 4 } else { 5 }..]
    }
}

/// Reads messages from one side.
#[derive(Debug)]
pub(super) struct Frames<R = TcpStream> {
    reader: R,
    /// The next message has no type byte.
    untyped: bool,
}

impl<R: Read> Frames<R> {
    /// From a client: the first message has no type.
    pub fn of_client(reader: R) -> Self {
        Self { reader, untyped: true }
    }

    /// From a server that was not asked for encryption.
    pub fn of_server(reader: R) -> Self {
        Self { reader, untyped: false }
    }

    /// The next message; none when the stream has ended.
    pub fn next(&mut self) -> Result<Option<Frame>> {
        let header_bytes = if self.untyped { 4 } else { 5 };
        let mut bytes = vec![0; header_bytes];
        match self.reader.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let kind = if self.untyped { 0 } else { bytes[0] };
        let length = u32::from_be_bytes([
            bytes[header_bytes - 4],
            bytes[header_bytes - 3],
            bytes[header_bytes - 2],
            bytes[header_bytes - 1],
        ]) as usize;
        if !(4..FRAME_BYTES_MAX).contains(&length) {
            bail!("a message of {length} bytes");
        }
        bytes.resize(header_bytes + length - 4, 0);
        self.reader.read_exact(&mut bytes[header_bytes..])?;
        self.untyped = false;
        Ok(Some(Frame { kind, bytes }))
    }
}

/// Remembers which prepared statements and portals of a session commit.
#[derive(Debug, Default)]
pub(super) struct Commits {
    statements: HashSet<Vec<u8>>,
    portals: HashSet<Vec<u8>>,
}

impl Commits {
    /// True when the server commits on `frame`: a simple query that has COMMIT in it, or the execution of a
    /// prepared one.
    pub fn is_commit(&mut self, frame: &Frame) -> bool {
        let mut words = frame.body().split(|byte| *byte == 0);
        let mut word = || words.next().unwrap_or_default().to_vec();
        match frame.kind {
            b'Q' => commits(&word()),
            b'P' => {
                let (name, text) = (word(), word());
                remember(&mut self.statements, name, commits(&text));
                false
            }
            b'B' => {
                let (portal, statement) = (word(), word());
                let commits = self.statements.contains(&statement);
                remember(&mut self.portals, portal, commits);
                false
            }
            b'E' => self.portals.contains(&word()),
            _ => false,
        }
    }
}

fn commits(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_uppercase();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "COMMIT")
}

fn remember(set: &mut HashSet<Vec<u8>>, name: Vec<u8>, commits: bool) {
    if commits {
        set.insert(name);
    } else {
        set.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, body: &[u8]) -> Frame {
        let length = u32::try_from(body.len() + 4).unwrap_or(0).to_be_bytes();
        let bytes = if kind == 0 {
            [&length[..], body].concat()
        } else {
            [&[kind], &length[..], body].concat()
        };
        Frame { kind, bytes }
    }

    #[test]
    fn messages_are_cut_out_of_the_stream() -> Result<()> {
        let sent = [frame(0, b"\0\x03\0\0user\0"), frame(b'Q', b"SELECT 1\0"), frame(b'X', b"")];
        let stream: Vec<u8> = sent.iter().flat_map(|frame| frame.bytes.clone()).collect();
        let mut frames = Frames::of_client(&stream[..]);
        for expected in &sent {
            assert_eq!(frames.next()?.as_ref(), Some(expected));
        }
        assert_eq!(frames.next()?, None);
        Ok(())
    }

    #[test]
    fn a_commit_is_seen_in_both_ways_of_asking_for_it() {
        let mut commits = Commits::default();
        let mut check = |kind, body: &[u8], expected| {
            assert_eq!(commits.is_commit(&frame(kind, body)), expected, "{body:?}");
        };
        check(b'Q', b"BEGIN\0", false);
        check(b'Q', b"commit\0", true);
        check(b'Q', b"UPDATE t SET committed = 1; COMMIT\0", true);
        check(b'Q', b"UPDATE t SET committed = 1\0", false);
        check(b'P', b"s1\0COMMIT\0\0\0", false);
        check(b'P', b"s2\0SELECT 1\0\0\0", false);
        check(b'B', b"\0s2\0", false);
        check(b'E', b"\0\0\0\0\0", false);
        check(b'B', b"\0s1\0", false);
        check(b'E', b"\0\0\0\0\0", true);
    }
}
