//! What the demo shows while it runs and when it is done. Text alone: counts nothing, checks nothing.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use super::books::Books;
use super::database::Stretch;
use super::observer::LOOK_EVERY;
use super::traffic::LIVE_PER_SECOND;
use super::{DEVICES, PARTITIONS};
use crate::progress::{count, per_second};

/// The speed is that of the last few seconds.
const SPEED_OVER: Duration = Duration::from_secs(3);
/// Digits of a digest that a person needs to tell two apart.
const DIGEST_DIGITS: usize = 12;

/// How things stand, as one line.
#[derive(Debug, Default)]
pub struct Moment {
    sent: u64,
    rows: u64,
    rejected: u64,
    lag: u64,
    recent: VecDeque<(Instant, u64)>,
}

impl Moment {
    /// The next moment.
    pub fn turn(&mut self, sent: u64, rows: u64, rejected: u64, lag: u64) {
        let now = Instant::now();
        self.recent.push_back((now, rows));
        while self.recent.len() > 2 && now - self.recent[1].0 >= SPEED_OVER {
            self.recent.pop_front();
        }
        (self.sent, self.rows, self.rejected, self.lag) = (sent, rows, rejected, lag);
    }

    fn rows_per_second(&self) -> u64 {
        match (self.recent.front(), self.recent.back()) {
            (Some((from, before)), Some((to, after))) => per_second(after - before, *to - *from),
            _ => 0,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "sent {}  rows {}  rows/s {}  lag {}  dead letters {}",
            count(self.sent),
            count(self.rows),
            count(self.rows_per_second()),
            count(self.lag),
            count(self.rejected),
        )
    }
}

/// The last screen.
#[derive(Debug)]
pub struct Summary {
    /// Everything that was sent and written.
    pub books: Books,
    /// How many of the messages were sent at once, and how long it took until they were written.
    pub at_once: (u64, Duration),
    /// The messages after these, and what they took.
    pub live: Live,
    /// How to look further, now or in another run.
    pub further: Further,
    /// From the first step to the last.
    pub took: Duration,
}

/// What live messages took, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Live {
    pub time: Duration,
    pub p50_ms: u64,
    pub p99_ms: u64,
    pub swap: Option<Swap>,
}

/// How the plugin was replaced.
#[derive(Debug, Clone, Copy)]
pub struct Swap {
    /// From replacing the file until the last partition was written by the new version.
    pub took: Duration,
    /// What the slowest message took in the seconds around it, in milliseconds.
    pub slowest_ms: u64,
}

/// How to look further.
#[derive(Debug)]
pub struct Further {
    /// Everything is left running.
    pub kept: bool,
    /// Of the database, as it may be shown.
    pub url: String,
    /// The settings file.
    pub settings: String,
    /// `host:port`.
    pub brokers: String,
    /// Of the pipeline.
    pub topic: String,
    /// Name of the table.
    pub table: String,
    /// How to call this program.
    pub program: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_counts(formatter)?;
        self.write_times(formatter)?;
        self.write_lineage(formatter)?;
        write!(formatter, "{}", self.further)?;
        writeln!(formatter, "\n  all of it took {:.0} s", self.took.as_secs_f64())
    }
}

impl Summary {
    fn write_counts(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Books { sent, written } = &self.books;
        let rejected = self.books.rejected();
        let codes: Vec<_> = written
            .dead_letters
            .iter()
            .map(|(code, dead_letters)| format!("{code} {}", count(*dead_letters)))
            .collect();
        writeln!(out, "  {} devices, {PARTITIONS} partitions\n", count(DEVICES))?;
        writeln!(out, "  messages  {:>9}  acknowledged by the broker", count(sent.acknowledged))?;
        let table = &self.further.table;
        writeln!(
            out,
            "  rows      {:>9}  in {table}, one for each good message",
            count(written.rows)
        )?;
        writeln!(
            out,
            "  rejected  {:>9}  in sluice.dead_letters: {}",
            count(rejected),
            codes.join(", ")
        )?;
        for difference in self.books.differences() {
            writeln!(out, "  NOT ACCOUNTED FOR  {difference}")?;
        }
        if self.books.differences().is_empty() {
            let text = "rows + rejected = messages; lineage and positions cover every offset once";
            writeln!(out, "  checked              {text}")?;
        }
        writeln!(out)
    }

    fn write_times(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((messages, time), live) = (self.at_once, self.live);
        let speed = count(per_second(messages, time));
        let (messages, seconds) = (count(messages), time.as_secs_f64());
        writeln!(out, "  {messages} at once: written after {seconds:.1} s, {speed} a second")?;
        let (seconds, look_ms) = (live.time.as_secs_f64(), LOOK_EVERY.as_millis());
        let (p50, p99) = (live.p50_ms, live.p99_ms);
        writeln!(
            out,
            "  then {} a second for {seconds:.0} s: latency p50 {p50} ms, p99 {p99} ms",
            count(LIVE_PER_SECOND)
        )?;
        writeln!(
            out,
            "    (from sending until seen in Postgres from outside, with a look every {look_ms} ms)"
        )?;
        if let Some(swap) = live.swap {
            let (took, slowest) = (swap.took.as_millis(), swap.slowest_ms);
            writeln!(
                out,
                "  plugin replaced in the meantime: all partitions went on with it after {took} ms,"
            )?;
            writeln!(out, "    the slowest message in the seconds around it took {slowest} ms")?;
        }
        writeln!(out)
    }

    fn write_lineage(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "  which version wrote what")?;
        for line in condensed(&self.books.written.lineage) {
            writeln!(out, "    {line}")?;
        }
        writeln!(out)
    }
}

impl fmt::Display for Further {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, settings, brokers, topic, table, program, .. } = self;
        if self.kept {
            writeln!(out, "  look further, while all of it keeps running")?;
        } else {
            writeln!(out, "  look further: with --keep, all of it keeps running for")?;
        }
        writeln!(out, "    psql '{url}' -c 'SELECT status, count(*) FROM {table} GROUP BY 1'")?;
        writeln!(out, "    {program} lineage {settings}")?;
        if self.kept {
            writeln!(out, "  brokers {brokers}, topic {topic}; Ctrl-C ends it all and cleans up")?;
        }
        Ok(())
    }
}

/// One line for each version, in the order in which they wrote.
fn condensed(lineage: &[Stretch]) -> Vec<String> {
    let mut versions: Vec<(&str, Vec<&Stretch>)> = Vec::new();
    for stretch in lineage {
        match versions.iter_mut().find(|(digest, _)| *digest == stretch.digest) {
            Some((_, stretches)) => stretches.push(stretch),
            None => versions.push((&stretch.digest, vec![stretch])),
        }
    }
    versions.iter().map(|(_, stretches)| version_line(stretches)).collect()
}

fn version_line(stretches: &[&Stretch]) -> String {
    let sum = |number: fn(&Stretch) -> u64| count(stretches.iter().map(|one| number(one)).sum());
    let first = stretches[0];
    format!(
        "{} {} {}  {} messages -> {} rows, {} rejected  (partition {}: offsets {} to {})",
        first.plugin,
        first.version,
        short(&first.digest),
        sum(|stretch| stretch.messages),
        sum(|stretch| stretch.rows),
        sum(|stretch| stretch.rejected),
        first.partition,
        count(first.from as u64),
        count((first.to - 1).max(0) as u64),
    )
}

/// The first digits of a digest.
pub fn short(digest: &str) -> &str {
    digest.get(..DIGEST_DIGITS).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::super::books::tests::books;
    use super::*;

    fn summary(kept: bool) -> Summary {
        Summary {
            books: books(),
            at_once: (1000, Duration::from_millis(5)),
            live: Live {
                time: Duration::from_secs(40),
                p50_ms: 18,
                p99_ms: 41,
                swap: Some(Swap { took: Duration::from_millis(740), slowest_ms: 63 }),
            },
            further: Further {
                kept,
                url: "postgres://postgres@127.0.0.1:40123/postgres".to_owned(),
                settings: "sluice-demo/readings.toml".to_owned(),
                brokers: "127.0.0.1:40124".to_owned(),
                topic: "hems.readings".to_owned(),
                table: "readings".to_owned(),
                program: "target/release/sluice".to_owned(),
            },
            took: Duration::from_secs(52),
        }
    }

    #[test]
    fn the_last_screen_tells_what_happened() {
        insta::assert_snapshot!(summary(false), @"
        500,000 devices, 12 partitions

        messages      1,200  acknowledged by the broker
        rows          1,176  in readings, one for each good message
        rejected         24  in sluice.dead_letters: malformed 20, unknown-status 4
        checked              rows + rejected = messages; lineage and positions cover every offset once

        1,000 at once: written after 0.0 s, 200,000 a second
        then 8,333 a second for 40 s: latency p50 18 ms, p99 41 ms
          (from sending until seen in Postgres from outside, with a look every 10 ms)
        plugin replaced in the meantime: all partitions went on with it after 740 ms,
          the slowest message in the seconds around it took 63 ms

        which version wrote what
          readings 0.1.0 3f2a91c03f2a  720 messages -> 708 rows, 12 rejected  (partition 0: offsets 0 to 59)
          readings 0.1.0 91bcd0e291bc  480 messages -> 468 rows, 12 rejected  (partition 0: offsets 60 to 99)

        look further: with --keep, all of it keeps running for
          psql 'postgres://postgres@127.0.0.1:40123/postgres' -c 'SELECT status, count(*) FROM readings GROUP BY 1'
          target/release/sluice lineage sluice-demo/readings.toml

        all of it took 52 s
        ");
    }

    #[test]
    fn a_kept_demo_says_how_to_reach_it() {
        insta::assert_snapshot!(summary(true).further, @"
        look further, while all of it keeps running
          psql 'postgres://postgres@127.0.0.1:40123/postgres' -c 'SELECT status, count(*) FROM readings GROUP BY 1'
          target/release/sluice lineage sluice-demo/readings.toml
        brokers 127.0.0.1:40124, topic hems.readings; Ctrl-C ends it all and cleans up
        ");
    }

    #[test]
    fn what_does_not_fit_is_on_the_screen() {
        let mut summary = summary(false);
        summary.books.written.rows -= 1;
        let screen = summary.to_string();
        let lines: Vec<_> = screen
            .lines()
            .filter(|line| line.contains("NOT") || line.contains("checked"))
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        NOT ACCOUNTED FOR  rows and dead letters: 1200 expected, 1199 found
        NOT ACCOUNTED FOR  rows: 1176 expected, 1175 found
        NOT ACCOUNTED FOR  rows in lineage: 1175 expected, 1176 found
        ");
    }

    #[test]
    fn a_moment_is_one_line() {
        let mut moment = Moment::default();
        moment.turn(412_000, 398_112, 4012, 9876);
        insta::assert_snapshot!(moment, @"sent 412,000  rows 398,112  rows/s 0  lag 9,876  dead letters 4,012");
    }
}
