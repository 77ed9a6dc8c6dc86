//! The host: the same calls as `sluice run` makes, and an eye on its counters.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sluice::pipeline::{self, Control};
use sluice::plugin::Loader;
use sluice::settings::Settings;

use super::{Job, begun, done, link};
use crate::way::Way;

/// How often the counters are read.
const LOOK: Duration = Duration::from_millis(1);
/// A pipeline that does nothing for so long has a fault.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the pipeline until all messages of the topic are committed.
pub fn run(job: &Job, settings: &Settings) -> Result<()> {
    let runtime = pipeline::runtime()?;
    let loader = Loader::new(&settings.pipeline.name, &settings.plugin);
    let loader = if job.way == Way::Native { loader.with_link(link::link) } else { loader };
    let running = pipeline::start_with(settings, loader, runtime.handle())?;
    let control = running.control();
    let told =
        watch(&control, job).and_then(|(messages, commits, time)| done(messages, commits, time));
    control.stop();
    running.wait()?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    told
}

/// Waits for the last message. What counts begins with the first commit, unless all does: how many messages were
/// committed after it, in how many batches, and in which time.
fn watch(control: &Control, job: &Job) -> Result<(u64, u64, Duration)> {
    let messages = job.messages;
    let start = Instant::now();
    let (mut first, mut before, mut moved) = (None, 0, start);
    if job.from_start {
        begun(Duration::ZERO)?;
        first = Some((0, 0, start));
    }
    loop {
        if control.wait_for_end(LOOK) {
            bail!("the pipeline has ended by itself");
        }
        let (counters, now) = (control.counters(), Instant::now());
        let count = counters.messages;
        if count > 0 && first.is_none() {
            begun(now - start)?;
            first = Some((count, counters.batches, now));
        }
        if count > before {
            (before, moved) = (count, now);
        }
        match first {
            Some((first, batches, since)) if count >= messages => {
                return Ok((count - first, counters.batches - batches, now - since));
            }
            _ if now - moved > PATIENCE => bail!("only {count} of {messages} messages came"),
            _ => (),
        }
    }
}
