//! Finds the messages that a plugin cannot take: a batch that fails is bisected, each half on a fresh guest
//! where the last one was lost, until those at fault are alone. They are rejected; all others become rows,
//! and order is kept.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::check;
use super::fault::{PluginFault, printable};
use super::instance::Instance;
use crate::batch::Batch;
use crate::rows::{Checked, Decoded, Outcome, Rejection, Stage};

/// The least time for a part of a batch that took too long.
const PART_TIME_MIN: Duration = Duration::from_millis(250);

/// How much more than its share of the time a part may take.
const PART_TIME_FACTOR: f64 = 4.0;

/// As many times the output of one call all parts together may return.
const OUTPUT_FACTOR: usize = 4;

impl Instance {
    /// As [`Instance::process`], but messages at fault are rejected and the others go on. Calls the plugin
    /// at most `2 k log2 n + 1` times for `k` messages at fault among `n`.
    ///
    /// # Errors
    /// What is not a message's fault, and [`PluginFault::Poisoned`].
    pub fn process_around(
        &mut self,
        batch: &mut Batch,
        decoded: &mut Decoded,
    ) -> Result<Checked<Outcome>, PluginFault> {
        match self.process(batch, decoded) {
            Ok(outcome) => {
                self.failed_in_a_row = 0;
                Ok(outcome)
            }
            Err(fault) if fault.rejection_code().is_some() => {
                let call_time_max = self.call_time_max;
                let search = Search { instance: self, batch, decoded, too_slow: false };
                let outcome = search.run(fault);
                self.call_time_max = call_time_max;
                outcome
            }
            Err(fault) => Err(fault),
        }
    }

    /// True when a batch has failed since this was asked last although none of its messages is at fault: it is too large
    /// for what one call may take.
    pub fn take_too_large(&mut self) -> bool {
        std::mem::take(&mut self.too_large)
    }
}

struct Search<'a> {
    instance: &'a mut Instance,
    batch: &'a mut Batch,
    decoded: &'a Decoded,
    /// True after a timeout: each part gets no more than its share of the time.
    too_slow: bool,
}

impl Search<'_> {
    /// `fault` is how all of the batch failed.
    fn run(mut self, fault: PluginFault) -> Result<Checked<Outcome>, PluginFault> {
        let generation = self.instance.generation().clone();
        let (begun, time_max) = (Instant::now(), generation.limits.search_time_max);
        let mut whole = check::nothing(&generation.description);
        let (mut bytes, mut at_fault) = (0, 0);
        let mut part = Decoded::default();
        // What is still to be looked at, the next range last; with the fault of those known to fail.
        let mut left: Vec<(Range<usize>, Option<PluginFault>)> =
            vec![(0..self.decoded.messages.len(), Some(fault))];
        while let Some((rows, known)) = left.pop() {
            let result = known.map_or_else(|| self.attempt(&rows, &mut part), Err);
            match result {
                Ok(outcome) => {
                    self.instance.failed_in_a_row = 0;
                    bytes += check::bytes(&outcome, &generation.description, &part);
                    check::check_bytes(bytes, OUTPUT_FACTOR * generation.limits.output_bytes_max)?;
                    whole.append(outcome, rows.start);
                }
                Err(fault) if fault.rejection_code().is_none() => return Err(fault),
                Err(_) if generation.stop.is_set() => return Err(PluginFault::Interrupted),
                Err(last) if begun.elapsed() > time_max => {
                    return Err(PluginFault::TooManyFail { max: time_max, last: Box::new(last) });
                }
                Err(fault) if rows.len() == 1 => {
                    whole.reject(self.alone(rows.start, fault)?);
                    at_fault += 1;
                }
                Err(fault) => {
                    self.too_slow |= matches!(fault, PluginFault::Timeout { .. });
                    let middle = rows.start + rows.len() / 2;
                    left.push((middle..rows.end, None));
                    left.push((rows.start..middle, None));
                }
            }
        }
        self.instance.too_large |= at_fault == 0;
        Ok(whole)
    }

    fn attempt(
        &mut self,
        rows: &Range<usize>,
        part: &mut Decoded,
    ) -> Result<Checked<Outcome>, PluginFault> {
        self.decoded.part(rows.clone(), part);
        if self.too_slow {
            self.instance.call_time_max = self.share_of_time(rows.len());
        }
        self.instance.process(self.batch, part)
    }

    /// Generous; but a batch in which every message took all of the time would keep its lane for hours.
    fn share_of_time(&self, rows: usize) -> Duration {
        let whole = self.instance.generation().limits.call_time_max;
        let share = rows as f64 / self.decoded.messages.len() as f64;
        let time = whole.mul_f64((share * PART_TIME_FACTOR).min(1.0)).max(PART_TIME_MIN).min(whole);
        Duration::from_millis(time.as_millis() as u64)
    }

    /// The rejection of a message at fault, unless there were too many in a row.
    fn alone(&mut self, row: usize, fault: PluginFault) -> Result<Rejection, PluginFault> {
        let limits = &self.instance.generation().limits;
        let (poison_max, reason_bytes_max) = (limits.poison_max, limits.reason_bytes_max);
        self.instance.failed_in_a_row += 1;
        let count = self.instance.failed_in_a_row;
        if count > poison_max {
            return Err(PluginFault::Poisoned { count, last: Box::new(fault) });
        }
        Ok(Rejection {
            message: self.decoded.messages[row],
            stage: Stage::Plugin,
            code: fault.rejection_code().unwrap_or("failed").to_owned(),
            reason: printable(&fault.to_string(), reason_bytes_max),
            retry: false,
        })
    }
}
