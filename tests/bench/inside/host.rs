//! A host that goes on until it is told to stop, and says all the time what it has done.

use std::io::{Read as _, stdin};
use std::time::Duration;

use anyhow::Result;
use sluice::pipeline;
use sluice::settings::Settings;

use super::say;

/// How often it says so.
const TELL: Duration = Duration::from_millis(50);

/// Runs the pipeline until the standard input ends.
pub fn run(settings: &Settings) -> Result<()> {
    let runtime = pipeline::runtime()?;
    let running = pipeline::start(settings, runtime.handle())?;
    let control = running.control();
    std::thread::spawn({
        let control = control.clone();
        move || {
            let _ = stdin().lock().read_to_end(&mut Vec::new());
            control.stop();
        }
    });
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !control.wait_for_end(TELL) {
                // Nobody listens any more: then the standard input has ended, too.
                let _ = say(&control.counters());
            }
        });
        running.wait()
    })?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    say(&ended)
}
