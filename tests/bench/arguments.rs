//! What can be asked for on the command line.

use std::str::FromStr;

use clap::{Parser, ValueEnum as _};
use sluice::simulate::Shape;

use crate::load::Load;
use crate::turn::Case;
use crate::way::Way;

const ROWS: &str = "\
Rows:
  drain   librdkafka alone: the topic is read into batches that are thrown away
  copy    Postgres alone: the same rows, encoded before, are copied by two connections
  native  the host with the plugin's code linked in, without a sandbox
  road    the host as it is
  upsert  the host, upserting into a table with a primary key
  raw     the host, with a plugin that decodes payloads itself
  beside  the program named with --beside
  pace    a table of its own, only when asked for: what 10 to 50,000 messages a second and full speed cost, and
          how soon they are visible, with the default pace, none and 1 s; --per-second and --pace pick from it

All figures are of the time from the first commit to the last (drain: from the first message received; copy: from
the first byte sent), and of the messages after the first commit. CPU is that of the host, of all of Postgres and
of the broker, in microseconds a message; start is what passes before the first commit, when all is prepared;
foreign is the share of the machine that others used in the meantime.";

/// Measures the road from Kafka to Postgres.
#[derive(Debug, Clone, Parser)]
#[command(name = "road", after_help = ROWS, max_term_width = 110)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Arguments {
    /// Rows, shapes, or both, such as `road,native,short` [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub only: Vec<Pick>,
    /// How often each row is measured [default: 3; pace: 1]
    #[arg(long)]
    pub runs: Option<usize>,
    /// Lanes of the host, and threads or connections of the halves
    #[arg(long, default_value_t = 2)]
    pub lanes: usize,
    /// Partitions of the topics
    #[arg(long, default_value_t = 12)]
    pub partitions: i32,
    /// Most messages of a batch
    #[arg(long, default_value_t = 50_000)]
    pub batch: usize,
    /// The host's `pace` [default: the host's own]
    #[arg(long, value_name = "TIME")]
    pub pace: Option<String>,
    /// Bad messages among a thousand
    #[arg(long, default_value_t = 10)]
    pub bad_per_mille: u32,
    /// Messages of a topic [default: 1,000,000 short and 300,000 long ones]
    #[arg(long)]
    pub messages: Option<u64>,
    /// Property for librdkafka, such as `fetch.max.bytes=4194304`; may be given several times
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    pub properties: Vec<(String, String)>,
    /// Another program, run in turn by a shell: `{brokers}`, `{topic}`, `{messages}`, `{postgres}` (host:port of
    /// the superuser and database `postgres`), `{postgres_password}` and `{postgres_pid}` are filled in, and
    /// `NNN msg/s` is read from what it prints; of `own`, `pg`, `broker`, `rss` and `foreign` the number behind each, where there is one
    #[arg(long, value_name = "COMMAND")]
    pub beside: Option<String>,
    /// Instead of all this, compare what a message costs the host with 12 and 120 partitions, 1 and 4 lanes,
    /// none and 1 % rejected, batches of 50,000 and 5,000
    #[arg(long, conflicts_with_all = ["only", "soak", "latency"])]
    pub matrix: bool,
    /// Instead of all this, measure how long messages take to become rows; a run without `--only` does so, too
    #[arg(long, conflicts_with_all = ["only", "soak"])]
    pub latency: bool,
    /// Messages a second then [default: 8,334, those of 500,000 devices that send one a minute]
    #[arg(long)]
    pub per_second: Option<u64>,
    /// Instead of all this, run the host for so long at full speed while its plugin is swapped every ten
    /// seconds, and compare the first sixth of the time with the last
    #[arg(long, value_name = "MINUTES", conflicts_with = "keep")]
    pub soak: Option<f64>,
    /// Leave broker, Postgres and topics for the next call, which finds them
    #[arg(long)]
    pub keep: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    pub bench: bool,
    /// What the process is to do that is measured
    #[arg(long, hide = true, value_name = "JOB")]
    pub inside: Option<String>,
}

/// A part of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pick {
    /// A row.
    Way(Way),
    /// One kind of message.
    Shape(Shape),
    /// The table of paces.
    Pace,
}

impl FromStr for Pick {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "pace" {
            return Ok(Self::Pace);
        }
        let way = Way::from_str(text, true).map(Self::Way);
        way.or_else(|_| Shape::from_str(text, true).map(Self::Shape)).map_err(|_| {
            let ways = Way::value_variants().iter().map(|way| way.name());
            format!("one of {}, short, long, pace", ways.collect::<Vec<_>>().join(", "))
        })
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Arguments {
    /// How often each row is measured.
    pub fn runs(&self) -> usize {
        self.runs.unwrap_or(3)
    }

    /// The topics that are needed.
    pub fn loads(&self) -> Vec<Load> {
        let load = |shape, messages| Load {
            shape,
            messages: self.messages.unwrap_or(messages),
            partitions: self.partitions,
            bad_per_mille: self.bad_per_mille,
        };
        let all = [load(Shape::Short, 1_000_000), load(Shape::Long, 300_000)];
        let any = self.only.iter().any(|pick| matches!(pick, Pick::Shape(_)));
        let wanted = |load: &Load| !any || self.only.contains(&Pick::Shape(load.shape));
        all.into_iter().filter(wanted).collect()
    }

    /// What is measured, in the order of the table.
    pub fn cases(&self) -> Vec<Case> {
        let any = self.only.iter().any(|pick| matches!(pick, Pick::Way(_)));
        let wanted = |way: &Way| {
            (!any || self.only.contains(&Pick::Way(*way)))
                && (*way != Way::Beside || self.beside.is_some())
        };
        let ways: Vec<Way> = Way::value_variants().iter().copied().filter(wanted).collect();
        let cases = self.loads().into_iter().flat_map(|load| {
            ways.iter().map(move |&way| Case {
                way,
                load,
                lanes: self.lanes,
                batch: self.batch,
                from_start: false,
                pace: None,
            })
        });
        cases.collect()
    }
}
