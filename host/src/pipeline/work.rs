//! What a lane does to a batch between fetching and writing: decode, call the plugin, encode.
//! Knows nothing of when.

use std::sync::Arc;

use crate::batch::Batch;
use crate::decode::Decoder;
use crate::fault::Fault;
use crate::pipeline::Deployed;
use crate::plugin::engine::prepare_thread;
use crate::plugin::instance::{Context, Instance};
use crate::plugin::slot::Slot;
use crate::rows::{Decoded, Rejection};
use crate::sink::table::Plan;
use crate::sink::{Delivery, Prepared, Range};

/// One version of the plugin at work in one lane, and the columns it fills again and again.
pub struct Worker {
    pipeline: Arc<str>,
    deployed: Arc<Deployed>,
    decoder: Option<Decoder>,
    instance: Instance,
    decoded: Decoded,
    undecoded: Vec<Rejection>,
}

impl Worker {
    /// A worker with the version that is in `slot` now.
    pub fn new(pipeline: Arc<str>, slot: &Slot<Deployed>) -> Result<Self, Fault> {
        prepare_thread();
        let deployed = slot.current();
        let decoder = decoder(&deployed)?;
        let instance = instance(&pipeline, &deployed)?;
        let (decoded, undecoded) = (Decoded::default(), Vec::new());
        Ok(Self { pipeline, deployed, decoder, instance, decoded, undecoded })
    }

    /// Goes on with the version in `slot`, if that is another one. Called between two batches.
    pub fn swap(&mut self, slot: &Slot<Deployed>) -> Result<bool, Fault> {
        let Some(next) = slot.newer_than(&self.deployed) else { return Ok(false) };
        self.decoder = decoder(&next)?;
        self.instance = instance(&self.pipeline, &next)?;
        self.decoded = Decoded::default();
        self.deployed = next;
        Ok(true)
    }

    /// Makes rows and letters of a batch, ready to be written. The batch is left as it was.
    pub fn process(
        &mut self,
        batch: &mut Batch,
        ranges: Vec<Range>,
        reuse: Prepared,
    ) -> Result<(Arc<Plan>, Prepared), Fault> {
        self.decode(batch);
        let outcome = self
            .instance
            .process(batch, &mut self.decoded)
            .map_err(|fault| self.at(fault.into(), &ranges))?;
        let delivery = Delivery {
            batch,
            decoded: &self.decoded,
            outcome: &outcome,
            undecoded: &self.undecoded,
            ranges,
            version: self.deployed.version.clone(),
        };
        let prepared = self.deployed.plan.encode(delivery, reuse);
        Ok((self.deployed.plan.clone(), prepared))
    }

    fn decode(&mut self, batch: &Batch) {
        self.undecoded.clear();
        match &mut self.decoder {
            Some(decoder) => decoder.decode(batch, &mut self.decoded, &mut self.undecoded),
            None => {
                self.decoded.messages.clear();
                self.decoded.messages.extend(0..batch.len() as u32);
            }
        }
    }

    /// The fault with the place where it happened.
    fn at(&self, mut fault: Fault, ranges: &[Range]) -> Fault {
        let places: Vec<String> = ranges
            .iter()
            .map(|range| format!("{}: {}..{}", range.partition, range.from, range.to))
            .collect();
        let Deployed { generation, .. } = &*self.deployed;
        let description = &generation.description;
        fault.message = format!(
            "plugin {} {} ({}) failed on partition offsets {}: {}",
            description.name,
            description.version,
            generation.short_digest(),
            places.join(", "),
            fault.message
        );
        fault
    }
}

fn decoder(deployed: &Deployed) -> Result<Option<Decoder>, Fault> {
    let fields = deployed.generation.description.payload.fields();
    if fields.is_empty() {
        return Ok(None);
    }
    let decoder = Decoder::new(fields).map_err(|text| Fault::stop("SL-G009", text))?;
    Ok(Some(decoder))
}

fn instance(pipeline: &Arc<str>, deployed: &Deployed) -> Result<Instance, Fault> {
    Ok(deployed.generation.instantiate(Context { pipeline: pipeline.clone() })?)
}
