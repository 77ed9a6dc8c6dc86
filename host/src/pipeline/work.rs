//! What a lane does to a batch between fetching and writing: decode, call the plugin, encode.
//! Knows nothing of when.

use std::sync::Arc;

use crate::batch::Batch;
use crate::decode::Decoder;
use crate::fault::Fault;
use crate::pipeline::Deployed;
use crate::plugin::check;
use crate::plugin::engine::prepare_thread;
use crate::plugin::instance::{Context, Instance};
use crate::plugin::slot::Slot;
use crate::rows::{Decoded, Rejection};
use crate::sink::table::Plan;
use crate::sink::{Delivery, Parking, Prepared, Range, WaitingKeys};

/// One version of the plugin at work in one lane, and the columns it fills again and again.
pub struct Worker {
    pipeline: Arc<str>,
    deployed: Arc<Deployed>,
    decoder: Option<Decoder>,
    instance: Instance,
    decoded: Decoded,
    undecoded: Vec<Rejection>,
    /// A version that could not be instantiated here although it could when it was checked.
    refused: Option<Arc<Deployed>>,
}

impl Worker {
    /// A worker with the version that is in `slot` now.
    pub fn new(pipeline: Arc<str>, slot: &Slot<Deployed>) -> Result<Self, Fault> {
        prepare_thread();
        let deployed = slot.current();
        let decoder = decoder(&deployed)?;
        let instance = instance(&pipeline, &deployed)?;
        Ok(Self {
            pipeline,
            deployed,
            decoder,
            instance,
            decoded: Decoded::default(),
            undecoded: Vec::new(),
            refused: None,
        })
    }

    /// Goes on with the version in `slot`, and says whether that is another one. Called between two batches. A version
    /// that cannot be instantiated is skipped, and the one at work goes on. The same version with another plan for
    /// its tables is none.
    pub fn swap(&mut self, slot: &Slot<Deployed>) -> bool {
        let Some(next) = slot.newer_than(&self.deployed) else { return false };
        if self.refused.as_ref().is_some_and(|refused| Arc::ptr_eq(refused, &next)) {
            return false;
        }
        let (pipeline, digest) = (&*self.pipeline, next.generation.short_digest());
        match self.parts_for(&next) {
            Ok((decoder, instance)) => {
                let swapped = instance.is_some();
                if let Some(instance) = instance {
                    tracing::info!(pipeline, digest, "plugin swapped");
                    self.instance = instance;
                }
                (self.decoder, self.decoded) = (decoder, Decoded::default());
                self.deployed = next;
                swapped
            }
            Err(fault) => {
                let code = fault.code;
                tracing::error!(pipeline, digest, code, "plugin not swapped: {}", fault.message);
                self.refused = Some(next);
                false
            }
        }
    }

    /// A decoder, which depends on the tables as well, and an instance unless that of now goes on.
    fn parts_for(&self, next: &Deployed) -> Result<(Option<Decoder>, Option<Instance>), Fault> {
        let same = Arc::ptr_eq(&next.generation, &self.deployed.generation);
        let instance = (!same).then(|| instance(&self.pipeline, next)).transpose()?;
        Ok((decoder(next)?, instance))
    }

    /// Makes rows and dead letters of a batch, ready to be written. The batch is left as it was. Without messages nobody is
    /// asked.
    pub fn process(
        &mut self,
        batch: &mut Batch,
        ranges: Vec<Range>,
        parking: Parking,
        waiting: &WaitingKeys,
        reuse: Prepared,
    ) -> Result<(Arc<Plan>, Prepared), Fault> {
        self.decode(batch);
        let outcome = if batch.is_empty() {
            check::nothing(&self.deployed.generation.description)
        } else {
            let outcome = self.instance.process_around(batch, &mut self.decoded);
            outcome.map_err(|fault| self.at(fault.into(), &ranges))?
        };
        let delivery = Delivery {
            batch,
            decoded: &self.decoded,
            outcome: &outcome,
            undecoded: &self.undecoded,
            ranges,
            version: self.deployed.version.clone(),
            parking,
            waiting,
        };
        let prepared = self.deployed.plan.encode(delivery, reuse);
        Ok((self.deployed.plan.clone(), prepared))
    }

    /// True when a batch was too large for one call of the plugin since this was asked last.
    pub fn take_too_large(&mut self) -> bool {
        self.instance.take_too_large()
    }

    /// The version at work.
    pub fn deployed(&self) -> &Arc<Deployed> {
        &self.deployed
    }

    fn decode(&mut self, batch: &Batch) {
        self.undecoded.clear();
        if let Some(decoder) = &mut self.decoder {
            let exact = self.deployed.plan.exact_inputs();
            assert!(decoder.is_for(exact), "a decoder of another plan would lose digits");
            decoder.decode(batch, &mut self.decoded, &mut self.undecoded);
        } else {
            self.decoded.messages.clear();
            self.decoded.messages.extend(0..batch.len() as u32);
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
    let decoder = Decoder::new(fields, deployed.plan.exact_inputs())
        .map_err(|text| Fault::block("SL-G009", text))?;
    Ok(Some(decoder))
}

fn instance(pipeline: &Arc<str>, deployed: &Deployed) -> Result<Instance, Fault> {
    Ok(deployed.generation.instantiate(Context { pipeline: pipeline.clone() })?)
}
