//! Sluice moves Kafka messages into Postgres tables at bulk speed, exactly once, with a sandboxed WebAssembly plugin in
//! between.
//!
//! The modules are listed in the order in which a batch travels. [`settings`] say what a pipeline is; [`pipeline`] is
//! the loop, and knows all parts of the batch path. [`source`] fills a [`batch`] from Kafka, [`decode`] makes typed
//! [`columns`] of its payloads, [`plugin`] lets the guest work on them and checks what it returns, and [`sink`]
//! writes the resulting [`rows`] and rejections in one Postgres transaction together with the positions. [`relay`]
//! sends dead letters to a topic later. [`fault`] decides what is done about each failure, and [`explain`] tells an
//! operator about it. Then come the parts that know nothing of batches, and last what a person starts: [`simulate`],
//! [`demo`], [`cli`].
//!
//! `source` knows no SQL, `plugin` neither Kafka nor Postgres, `sink` neither Kafka nor WebAssembly.

// What a pipeline is, and its loop.

/// What an operator writes, read and checked before anything is started.
pub mod settings;

/// Lanes that read, decode, transform and write; the supervisor that begins them again after a fault; retries.
pub mod pipeline;

// A batch on its way, from the brokers to COMMIT.

/// Kafka: the consumer group, the partitions that this host owns, and batches filled from them.
pub mod source;

/// Messages as they came, their payloads not yet decoded.
pub mod batch;

/// The one shape of values that decoder, plugin and COPY share.
pub mod columns;

/// Which fields a plugin reads and which outputs it has, for the decoder and the sink.
pub mod description;

/// Fields whose numbers go into `numeric` columns, so that the decoder keeps them as text.
pub mod exact;

/// JSON decoded on this side of the sandbox, so that a guest gets typed columns and no bytes to parse.
pub mod decode;

/// The sandbox: loading, limits, calls, the check of what comes back, and the swap between two batches.
pub mod plugin;

/// The plugin's outcome once it was checked; what the sink takes.
pub mod rows;

/// Postgres: one transaction for each batch, claims of partitions, dead letters, parked messages, migrations.
pub mod sink;

/// What happens to dead letters after COMMIT where a topic wants them too.
pub mod relay;

// Failures, and what an operator reads about them.

/// Errors by what to do next, with the one table of SQLSTATEs and the one of librdkafka's errors.
pub mod fault;

/// The codes `SL-...` with their explanations and hints, one file for each part of the host.
pub mod explain;

/// Escapes and bounds text of messages, plugins and servers for log, terminal and JSON.
pub mod printable;

// Parts of the process, which know nothing of batches.

/// How plugins, secrets and certificates are read: regular files only, up to a size, without waiting.
pub mod files;

/// Exponential backoff with jitter.
pub mod backoff;

/// A wake-up call between threads.
pub mod bell;

/// The threads that all pipelines of the process share.
pub mod threads;

/// Settings of glibc's malloc, made once at start; limits on memory are in `settings` and `plugin::limits`.
pub mod memory;

/// What the operating system is asked for at start, so that secrets stay in this process.
pub mod process;

/// Signals, and the request to stop that long tasks poll.
pub mod shutdown;

/// Versions of wasmtime, librdkafka and OpenSSL in this binary.
pub mod versions;

/// Progress bars of the commands that take long.
pub mod progress;

// What a person starts.

/// Generated messages for the demo, the tests and `sluice simulate`.
pub mod simulate;

/// `sluice demo`: a real pipeline with everything it needs, started and taken down.
pub mod demo;

/// The commands of the binary `sluice`.
pub mod cli;

/// Targets of the fuzzer.
#[cfg(any(test, fuzzing))]
pub mod fuzz;

#[cfg(test)]
mod readme;
