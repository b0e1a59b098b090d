//! A trained network on trial: forward runs over some batches, without training it.

use crate::engine::{self, Engine, NetId};
use crate::net::{Net, NetSource};
use crate::param::{Param, Role};
use crate::solver::display;
use crate::solver::report::Output;
use serde::Serialize;
use skimjit_caffe::filter::filter_net;
use skimjit_caffe::proto::{BlobProto, BlobShape, LayerParameter, NetParameter, NetState, Phase};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Error, Result, Tensor};
use std::path::{Path, PathBuf};

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

/// Means over the batches.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Of each element of the results.
    pub outputs: Vec<Output>,
    /// Of the weighted sum of the losses.
    pub loss: f64,
}

impl Source {
    /// The network of a phase, and the feed of a phase: layers of phase TEST may see the data of
    /// phase TRAIN.
    pub fn open(&self, net: Phase, data: Phase) -> Result<(Net, Feed)> {
        self.open_here(net, data)
            .map_err(|error| error.file(&self.file))
    }

    fn open_here(&self, net: Phase, data: Phase) -> Result<(Net, Feed)> {
        let filtered = filter_net(self.definition.clone(), &state(data))?;
        let feed = Feed::open(
            &filtered,
            &FeedOptions {
                phase: data,
                seed: self.seed,
                folder: self.file.parent().map(Path::to_owned),
                ahead: 2,
                ..FeedOptions::default()
            },
        )?;
        let source = NetSource {
            definition: &self.definition,
            state: &state(net),
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

    /// The last weight file with the engine's parameters in place of its own.
    pub fn saved(&self, engine: &mut dyn Engine, id: NetId) -> NetParameter {
        let values = values(engine);
        let net = engine.net(id);
        let mut saved = match self.weights.last() {
            Some(weights) => weights.clone(),
            None => net.definition.clone(),
        };
        for (_, places) in net.parameters() {
            let owner = (net.layer(places[0]).name(), places[0].index);
            let found = values
                .iter()
                .find(|(layer, index, _)| (layer.as_str(), *index) == owner);
            let Some((_, _, blob)) = found else { continue };
            for place in places {
                let layer = net.layer(*place);
                let blobs = &mut layer_of(&mut saved, layer).blobs;
                if blobs.len() <= place.index {
                    blobs.resize_with(place.index + 1, BlobProto::default);
                }
                // What other forks say about the blob stays with it.
                let unknown_fields = std::mem::take(&mut blobs[place.index].unknown_fields);
                blobs[place.index] = BlobProto {
                    unknown_fields,
                    ..blob.clone()
                };
            }
        }
        saved
    }
}

/// The layer of that name, added where there is none.
fn layer_of<'a>(net: &'a mut NetParameter, layer: &LayerParameter) -> &'a mut LayerParameter {
    let found = net.layer.iter().position(|own| own.name() == layer.name());
    let index = found.unwrap_or_else(|| {
        net.layer.push(layer.clone());
        net.layer.len() - 1
    });
    &mut net.layer[index]
}

fn values(engine: &mut dyn Engine) -> Vec<(String, usize, BlobProto)> {
    let mut values = Vec::new();
    for index in 0..engine.params().len() {
        engine.edit(index, &mut |param, state| {
            let dims = param.shape.dims().iter().map(|&dim| dim.into());
            let blob = BlobProto {
                shape: Some(BlobShape {
                    dim: dims.collect(),
                    ..BlobShape::default()
                }),
                data: state.data.clone(),
                ..BlobProto::default()
            };
            values.push((param.layer.clone(), param.index, blob));
        });
    }
    values
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
        let mut sums = Judgement {
            outputs: Vec::new(),
            loss: 0.0,
        };
        self.run(engine, &mut |engine| {
            let outputs = display::outputs(engine, self.id);
            sums.loss += f64::from(engine::loss(engine, self.id));
            if sums.outputs.is_empty() {
                sums.outputs = outputs;
            } else {
                let all = sums.outputs.iter_mut().zip(outputs);
                all.for_each(|(sum, output)| sum.value += output.value);
            }
            Ok(())
        })?;
        let count = self.batches.len().max(1) as f64;
        sums.loss /= count;
        sums.outputs.iter_mut().for_each(|sum| sum.value /= count);
        Ok(sums)
    }
}

/// For each input of the network, the number of its blob in the feed.
pub fn order(net: &Net, feed: &Feed) -> Result<Vec<usize>> {
    let place = |&id: &skimjit_models::ValueId| {
        let name = &net.graph.value(id).name;
        let found = feed.blobs().iter().position(|blob| blob.name == *name);
        found.ok_or_else(|| {
            Error::new(format!("input {name:?} without data"))
                .expected("a Data, ImageData or HDF5Data layer of that phase")
                .hint("give the train_val prototxt, not the deploy prototxt")
        })
    };
    net.graph.inputs.iter().map(place).collect()
}

fn state(phase: Phase) -> NetState {
    NetState {
        phase: Some(phase as i32),
        ..NetState::default()
    }
}

/// Indices of the parameters that are pruned: weights of the layers of these names, or all without.
pub fn prunable(params: &[Param], layers: &[&str]) -> Result<Vec<usize>> {
    let weights = |param: &Param| matches!(param.role, Role::Weight | Role::Winograd);
    for &layer in layers {
        let found = |param: &Param| weights(param) && param.layer == layer;
        if !params.iter().any(found) {
            let names = params.iter().filter(|param| weights(param));
            let names: Vec<&str> = names.map(|param| param.layer.as_str()).collect();
            return Err(Error::new(format!("layer {layer:?}"))
                .field("--layers")
                .expected(format!("layers with weights: {}", names.join(", "))));
        }
    }
    let chosen = |param: &Param| {
        weights(param) && (layers.is_empty() || layers.contains(&param.layer.as_str()))
    };
    let all = params.iter().enumerate();
    Ok(all
        .filter(|(_, param)| chosen(param))
        .map(|(index, _)| index)
        .collect())
}
