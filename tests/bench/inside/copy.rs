//! Postgres alone: a connection per lane sends rows that were encoded before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use sluice::settings::Settings;
use tokio_postgres::{Client, NoTls};

use super::{Job, begun, done};

/// Signature, flags and length of an extension: <https://www.postgresql.org/docs/current/sql-copy.html>.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Bytes in one message of the protocol.
const CHUNK: usize = 256 << 10;

/// Copies the rows of the reference table into `readings`, a batch in a transaction.
pub fn run(job: &Job, settings: &Settings) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..settings.pipeline.lanes {
            clients.push(connect(&settings.sink.url).await?);
        }
        let rows = read(&clients[0], &job.reference).await?;
        let (batches, count) = split(&rows, settings.batch.max_messages)?;
        drop(rows);
        let mut shares = vec![Vec::new(); clients.len()];
        for (index, batch) in batches.into_iter().enumerate() {
            shares[index % clients.len()].push(batch);
        }
        begun(Duration::ZERO)?;
        let first = Instant::now();
        let tasks: Vec<_> =
            clients.into_iter().zip(shares).map(|it| tokio::spawn(copy(it.0, it.1))).collect();
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(task.await??);
        }
        done(count, 0, first.elapsed())
    })
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn read(client: &Client, table: &str) -> Result<Bytes> {
    let stream = client.copy_out(&format!("COPY {table} TO STDOUT (FORMAT binary)")).await?;
    let mut stream = std::pin::pin!(stream);
    let mut rows = BytesMut::new();
    while let Some(part) = stream.next().await {
        rows.extend_from_slice(&part?);
    }
    Ok(rows.freeze())
}

/// Complete COPY streams of `rows_max` rows each, and the number of rows.
fn split(stream: &[u8], rows_max: usize) -> Result<(Vec<Bytes>, u64)> {
    let mut rest = stream.strip_prefix(HEADER).context("not the binary format of COPY")?;
    let (mut batches, mut batch, mut rows, mut count) = (Vec::new(), Vec::from(HEADER), 0, 0);
    while rest != TRAILER {
        let length = row_length(rest).context("a row ends early")?;
        let (row, behind) = rest.split_at(length);
        rest = behind;
        batch.extend_from_slice(row);
        rows += 1;
        count += 1;
        if rows == rows_max || rest == TRAILER {
            batch.extend_from_slice(&TRAILER);
            batches.push(Bytes::from(std::mem::replace(&mut batch, Vec::from(HEADER))));
            rows = 0;
        }
    }
    ensure!(count > 0, "the reference table is empty");
    Ok((batches, count))
}

/// Bytes of the row at the start: the number of its fields, then each with its length, -1 for NULL.
fn row_length(rows: &[u8]) -> Option<usize> {
    let fields = i16::from_be_bytes(*rows.first_chunk()?);
    let mut length = 2;
    for _ in 0..fields {
        let bytes = i32::from_be_bytes(*rows.get(length..)?.first_chunk()?);
        length += 4 + usize::try_from(bytes).unwrap_or(0);
    }
    (length <= rows.len()).then_some(length)
}

/// A statement of its own is a transaction of its own.
async fn copy(client: Client, batches: Vec<Bytes>) -> Result<Client> {
    for mut batch in batches {
        let sink = client.copy_in::<_, Bytes>("COPY readings FROM STDIN (FORMAT binary)").await?;
        let mut sink = std::pin::pin!(sink);
        while !batch.is_empty() {
            let chunk = batch.split_to(batch.len().min(CHUNK));
            sink.feed(chunk).await?;
        }
        sink.as_mut().finish().await?;
    }
    Ok(client)
}
