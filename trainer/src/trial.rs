//! A trained network on trial: forward runs over some batches, without training it.

use crate::engine::{Engine, NetId};
use crate::net::Net;
pub use crate::solver::report::Judgement;
use crate::solver::snapshot::{arrays, stored};
use crate::solver::source::{self, order};
use skimjit_caffe::{Definition, Phase, Weights};
use skimjit_data::Feed;
use skimjit_models::{Error, Result, Tensor};
use std::sync::Arc;

/// Bytes of batches that are held in memory at most.
const MOST_BYTES: u64 = 4 << 30;

/// A definition with weights.
pub struct Source {
    /// Of any phase.
    pub definition: Definition,
    /// Weights, later ones over earlier ones.
    pub weights: Vec<Weights>,
    /// Seed of what the data layers draw.
    pub seed: u64,
}

/// A network of an engine, and batches for it.
#[derive(Clone)]
pub struct Stream {
    id: NetId,
    batches: Batches,
}

/// Values of all inputs, batch by batch; several streams may have the same ones.
pub type Batches = Arc<[Vec<Tensor>]>;

impl Source {
    /// The network of a phase, and the feed of a phase: layers of phase TEST may see the data of
    /// phase TRAIN.
    pub fn open(&self, net: Phase, data: Phase) -> Result<(Net, Feed)> {
        let of = |phase| self.definition.clone().in_phase(phase);
        let feed = source::feed(&of(data), self.seed, 0)?;
        let net = Net::new(&of(net), &self.weights, feed.blobs(), self.seed);
        Ok((net.map_err(|error| self.in_file(error))?, feed))
    }

    fn in_file(&self, error: Error) -> Error {
        error.file(self.definition.file())
    }

    /// Adds the network of a phase to an engine, and reads batches of a phase.
    pub fn add(
        &self,
        engine: &mut dyn Engine,
        [net, data]: [Phase; 2],
        count: u32,
    ) -> Result<Stream> {
        let (net, mut feed) = self.open(net, data)?;
        let order = order(&net, &feed).map_err(|error| self.in_file(error))?;
        let mut batches = Vec::new();
        let mut bytes = 0u64;
        for _ in 0..count {
            let batch = feed.next()?;
            let batch: Vec<Tensor> = order.iter().map(|&index| batch[index].clone()).collect();
            bytes += batch.iter().map(|t| 4 * t.data().len() as u64).sum::<u64>();
            if bytes > MOST_BYTES {
                return Err(Error::new(format!("{count} batches of more than 4 GiB"))
                    .file(self.definition.file())
                    .field("--batches")
                    .expected("batches that fit into 4 GiB")
                    .hint("ask for fewer batches, or lower batch_size"));
            }
            batches.push(batch);
        }
        let stream = Stream::new(engine, net, batches.into());
        stream.map_err(|error| self.in_file(error))
    }

    /// The network of phase TEST with so many of its batches; `None` for 0 of them.
    pub fn add_test(&self, engine: &mut dyn Engine, count: u32) -> Result<Option<Stream>> {
        let add = |count| self.add(engine, [Phase::Test; 2], count);
        Some(count).filter(|&count| count > 0).map(add).transpose()
    }

    /// The last weight file with the engine's parameters in place of its own.
    pub fn saved(&self, engine: &mut dyn Engine, id: NetId) -> Weights {
        let values = arrays(engine, false);
        let net = engine.net(id);
        let mut saved = self.weights.last().unwrap_or(&net.layers).clone();
        for (index, places) in stored(engine, id) {
            for place in places {
                saved.set(place, &values[index], &net.layers);
            }
        }
        saved
    }
}

impl Stream {
    /// Adds a network to an engine.
    pub fn new(engine: &mut dyn Engine, net: Net, batches: Batches) -> Result<Self> {
        let id = engine.add(net)?;
        Ok(Self { id, batches })
    }
    /// Images of a batch.
    pub fn images(&self, engine: &dyn Engine) -> u32 {
        let graph = &engine.net(self.id).graph;
        let dims = graph.inputs.first().map(|&id| graph.shape(id).dims());
        dims.and_then(|dims| dims.first().copied()).unwrap_or(1)
    }
    /// Its batches.
    pub fn batches(&self) -> &[Vec<Tensor>] {
        &self.batches
    }
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
