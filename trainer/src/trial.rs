//! A trained network on trial: forward runs over some batches, without training it.

use crate::engine::{Engine, NetId};
use crate::net::{Net, NetSource};
pub use crate::solver::report::Judgement;
use crate::solver::snapshot::{blob_at, blobs, stored};
use crate::solver::source::{self, order, phase};
use skimjit_caffe::proto::{BlobProto, LayerParameter, NetParameter, Phase};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Error, Place, Result, Tensor};
use std::path::PathBuf;

/// Bytes of batches that are held in memory at most.
const MOST_BYTES: u64 = 4 << 30;

/// A definition with weights.
pub struct Source {
    /// Upgraded, all phases.
    pub definition: NetParameter,
    /// File of the definition.
    pub file: PathBuf,
    /// Weights, later ones over earlier ones.
    pub weights: Vec<NetParameter>,
    /// Seed of what the data layers draw.
    pub seed: u64,
}

/// A network of an engine, and batches for it.
pub struct Stream {
    id: NetId,
    batches: Vec<Vec<Tensor>>,
}

impl Source {
    /// The network of a phase, and the feed of a phase: layers of phase TEST may see the data of
    /// phase TRAIN.
    pub fn open(&self, net: Phase, data: Phase) -> Result<(Net, Feed)> {
        self.open_here(net, data)
            .map_err(|error| error.file(&self.file))
    }

    fn open_here(&self, net: Phase, data: Phase) -> Result<(Net, Feed)> {
        let options = FeedOptions {
            seed: self.seed,
            ahead: 2,
            ..FeedOptions::default()
        };
        let feed = source::feed(&self.definition, &self.file, &phase(data), options)?;
        let source = NetSource {
            definition: &self.definition,
            state: &phase(net),
            weights: &self.weights,
            blobs: feed.blobs(),
            seed: self.seed,
        };
        Ok((source.build()?, feed))
    }

    /// Adds the network of a phase to an engine, and reads batches of a phase.
    pub fn add(
        &self,
        engine: &mut dyn Engine,
        [net, data]: [Phase; 2],
        count: u32,
    ) -> Result<Stream> {
        let (net, mut feed) = self.open(net, data)?;
        let order = order(&net, &feed).map_err(|error| error.file(&self.file))?;
        let mut batches = Vec::new();
        let mut bytes = 0u64;
        for _ in 0..count {
            let batch = feed.next()?;
            let batch: Vec<Tensor> = order.iter().map(|&index| batch[index].clone()).collect();
            bytes += batch.iter().map(|t| 4 * t.data().len() as u64).sum::<u64>();
            if bytes > MOST_BYTES {
                return Err(Error::new(format!("{count} batches of more than 4 GiB"))
                    .file(&self.file)
                    .field("--batches")
                    .expected("batches that fit into 4 GiB")
                    .hint("ask for fewer batches, or lower batch_size"));
            }
            batches.push(batch);
        }
        let id = engine.add(net).map_err(|error| error.file(&self.file))?;
        Ok(Stream { id, batches })
    }

    /// The network of phase TEST with so many of its batches; `None` for 0 of them.
    pub fn add_test(&self, engine: &mut dyn Engine, count: u32) -> Result<Option<Stream>> {
        let add = |count| self.add(engine, [Phase::Test; 2], count);
        Some(count).filter(|&count| count > 0).map(add).transpose()
    }

    /// The last weight file with the engine's parameters in place of its own.
    pub fn saved(&self, engine: &mut dyn Engine, id: NetId) -> NetParameter {
        let values = blobs(engine, false);
        let net = engine.net(id);
        let mut saved = match self.weights.last() {
            Some(weights) => weights.clone(),
            None => net.definition.clone(),
        };
        for (index, places) in stored(engine, id) {
            for place in places {
                let blob = blob_at(layer_of(&mut saved, &net.definition, place), place.index);
                // What other forks say about the blob stays with it.
                let unknown_fields = std::mem::take(&mut blob.unknown_fields);
                *blob = BlobProto {
                    unknown_fields,
                    ..values[index].clone()
                };
            }
        }
        saved
    }
}

/// The layer of a place, taken from the definition where there is none.
fn layer_of<'a>(
    net: &'a mut NetParameter,
    definition: &NetParameter,
    place: &Place,
) -> &'a mut LayerParameter {
    let named = |layer: &&LayerParameter| layer.name() == place.layer;
    let found = net.layer.iter().position(|layer| named(&layer));
    let index = found.unwrap_or_else(|| {
        let new = definition.layer.iter().find(named);
        net.layer.push(new.cloned().unwrap_or_default());
        net.layer.len() - 1
    });
    &mut net.layer[index]
}

impl Stream {
    /// The network.
    pub fn id(&self) -> NetId {
        self.id
    }
    /// Runs forward over all batches; `visit` is called after each.
    pub fn run(
        &self,
        engine: &mut dyn Engine,
        visit: &mut dyn FnMut(&mut dyn Engine) -> Result<()>,
    ) -> Result<()> {
        for (turn, batch) in self.batches.iter().enumerate() {
            let inputs: Vec<&Tensor> = batch.iter().collect();
            engine.forward(self.id, &inputs, turn as u64)?;
            visit(engine)?;
        }
        Ok(())
    }
    /// Means of all results.
    pub fn judge(&self, engine: &mut dyn Engine) -> Result<Judgement> {
        let mut sums = Judgement::default();
        self.run(engine, &mut |engine| {
            sums.add(engine, self.id);
            Ok(())
        })?;
        sums.divide(self.batches.len().max(1) as f64);
        Ok(sums)
    }
}
