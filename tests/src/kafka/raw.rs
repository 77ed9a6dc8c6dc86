//! One message in a produce request made by hand, for what client libraries do not send: header names that are no
//! text. Knows the protocol as far as that takes.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Broker, Topic};

const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A header as bytes.
pub type RawHeader<'a> = (&'a [u8], Option<&'a [u8]>);

impl Topic {
    /// Appends a message to `partition` and returns its offset.
    pub fn append_raw(
        &self,
        broker: &Broker,
        partition: i32,
        payload: &[u8],
        headers: &[RawHeader<'_>],
    ) -> Result<i64> {
        let mut stream = TcpStream::connect(broker.address())?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(&self.request(partition, &batch(payload, headers)))?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length))?];
        stream.read_exact(&mut answer)?;
        // Correlation id, one topic with its name, one partition with its number; then what matters.
        let at = 4 + 4 + 2 + self.name.len() + 4 + 4;
        let (code, rest) = answer[at..].split_at(2);
        ensure!(code == [0, 0], "the broker refused: {code:?}");
        Ok(i64::from_be_bytes(rest[..8].try_into()?))
    }

    /// Produce, version 3.
    fn request(&self, partition: i32, batch: &[u8]) -> Vec<u8> {
        let mut request = Vec::new();
        request.extend([0_i16, 3].iter().flat_map(|it| it.to_be_bytes()));
        request.extend(7_i32.to_be_bytes());
        put_text("by hand", &mut request);
        // No transaction; all replicas; at most 10 s.
        request.extend([-1_i16, -1].iter().flat_map(|it| it.to_be_bytes()));
        request.extend(10_000_i32.to_be_bytes());
        request.extend(1_i32.to_be_bytes());
        put_text(&self.name, &mut request);
        request.extend([1, partition, batch.len() as i32].iter().flat_map(|it| it.to_be_bytes()));
        request.extend(batch);
        [&(request.len() as i32).to_be_bytes(), &request[..]].concat()
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// A batch of one record, version 2, neither compressed nor of a known producer.
fn batch(payload: &[u8], headers: &[RawHeader<'_>]) -> Vec<u8> {
    // Attributes, last offset, timestamps; producer and its epoch, first number; records.
    let mut checked = vec![0; 2 + 4];
    checked.extend([1_790_000_000_000_i64; 2].iter().flat_map(|it| it.to_be_bytes()));
    checked.extend([0xff; 8 + 2 + 4]);
    checked.extend(1_i32.to_be_bytes());
    checked.extend(record(payload, headers));
    // Offset, length, leader's epoch, version, checksum.
    let mut batch = 0_i64.to_be_bytes().to_vec();
    batch.extend((checked.len() as i32 + 4 + 1 + 4).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c(&checked).to_be_bytes());
    [batch, checked].concat()
}

fn record(payload: &[u8], headers: &[RawHeader<'_>]) -> Vec<u8> {
    // Attributes, timestamp, offset, no key.
    let mut record = vec![0, 0, 0];
    put_number(-1, &mut record);
    put_bytes(payload, &mut record);
    put_number(headers.len() as i64, &mut record);
    for (name, value) in headers {
        put_bytes(name, &mut record);
        match value {
            Some(value) => put_bytes(value, &mut record),
            None => put_number(-1, &mut record),
        }
    }
    let mut out = Vec::new();
    put_bytes(&record, &mut out);
    out
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len() as i64, out);
    out.extend(bytes);
}

/// Seven bits a byte, the sign in the lowest bit.
fn put_number(number: i64, out: &mut Vec<u8>) {
    let mut rest = (number << 1 ^ number >> 63) as u64;
    while rest > 0x7f {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Castagnoli's, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_have_seven_bits_a_byte() {
        let bytes = |number| {
            let mut out = Vec::new();
            put_number(number, &mut out);
            out
        };
        assert_eq!(bytes(0), [0]);
        assert_eq!(bytes(-1), [1]);
        assert_eq!(bytes(300), [0xd8, 0x04]);
    }
}
