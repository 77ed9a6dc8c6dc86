//! How far a long task is: a bar on a terminal, elsewhere a plain line every few seconds.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(3);
/// Time between two looks of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Progress of one task.
#[derive(Debug)]
pub struct Progress {
    stream: Stream,
    bar: Option<ProgressBar>,
    shown: Option<Instant>,
}

/// Where progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// For commands that are all about what is on the screen.
    Stdout,
    /// For commands whose result goes to the standard output.
    Stderr,
}

impl Progress {
    /// A task of `total` steps.
    pub fn new(stream: Stream, total: u64) -> Self {
        Self { stream, bar: stream.is_terminal().then(|| bar(stream, total)), shown: None }
    }

    /// True when it is time to call [`Progress::show`].
    pub fn is_due(&self) -> bool {
        let every = if self.bar.is_some() { BAR_EVERY } else { PLAIN_EVERY };
        self.shown.is_none_or(|shown| shown.elapsed() >= every)
    }

    /// Shows that `done` steps are done, and `line`.
    pub fn show(&mut self, done: u64, line: &str) {
        // The first plain line comes after the first while: there is nothing to tell at once.
        let first = self.shown.replace(Instant::now()).is_none();
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(line.to_owned());
            }
            None if first => {}
            None => self.stream.line(line),
        }
    }

    /// Writes a line that stays, above the bar.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.stream.line(line)),
            None => self.stream.line(line),
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Stream {
    fn is_terminal(self) -> bool {
        match self {
            Self::Stdout => std::io::stdout().is_terminal(),
            Self::Stderr => std::io::stderr().is_terminal(),
        }
    }

    /// Writes a line. A reader that went away is no reason to end.
    pub fn line(self, line: &str) {
        let _ = match self {
            Self::Stdout => writeln!(std::io::stdout().lock(), "{line}"),
            Self::Stderr => writeln!(std::io::stderr().lock(), "{line}"),
        };
    }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// `count` in `time`, per second.
pub fn per_second(count: u64, time: Duration) -> u64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
}

fn bar(stream: Stream, total: u64) -> ProgressBar {
    let target = match stream {
        Stream::Stdout => ProgressDrawTarget::stdout(),
        Stream::Stderr => ProgressDrawTarget::stderr(),
    };
    let style = ProgressStyle::with_template("  {bar:60.cyan/blue} {percent:>3} %\n  {wide_msg}")
        .expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(total), target).with_style(style)
}
