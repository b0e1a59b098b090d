//! A network in one phase, wired and checked: what an engine runs.

use skimjit_caffe::filter::filter_net;
use skimjit_caffe::import::{ImportOptions, import};
use skimjit_caffe::proto::{NetParameter, NetState, Phase};
use skimjit_data::Blob;
use skimjit_models::{Graph, Result, Shape, Tensor, Training, ValueId, WeightId};
use std::sync::Arc;

/// A network of one phase.
#[derive(Debug)]
pub struct Net {
    /// What it computes. Weights that are trained are not in it: see [`Net::take_weights`].
    pub graph: Graph,
    /// What its definition says of training.
    pub training: Training,
    /// What was ignored.
    pub warnings: Vec<String>,
    /// Layers of the phase, data layers included, without weights: what files of weights are made of.
    pub definition: NetParameter,
    is_training: bool,
}

/// What a net is made of.
pub struct NetSource<'a> {
    /// Definition, upgraded, all phases, with or without weights.
    pub definition: &'a NetParameter,
    /// Phase, level and stages.
    pub state: &'a NetState,
    /// Weights, later ones over earlier ones.
    pub weights: &'a [NetParameter],
    /// What the data layers bring.
    pub blobs: &'a [Blob],
    /// Chooses the numbers of fillers.
    pub seed: u64,
}

impl NetSource<'_> {
    /// Wires the network. Weights that no file has are filled.
    pub fn build(&self) -> Result<Net> {
        let filtered = filter_net(self.definition.clone(), self.state)?;
        let is_training = self.state.phase() == Phase::Train;
        let options = ImportOptions {
            level: self.state.level(),
            stages: self.state.stage.clone(),
            data_shapes: self.blobs.iter().map(named_shape).collect(),
            allow_missing_weights: true,
            training: is_training,
            to_train: true,
            seed: self.seed,
            ..ImportOptions::default()
        };
        let imported = import(self.definition.clone(), self.weights.to_vec(), &options)?;
        Ok(Net {
            graph: imported.graph,
            training: imported.training,
            warnings: imported.warnings.iter().map(ToString::to_string).collect(),
            definition: without_weights(filtered, self.state.phase()),
            is_training,
        })
    }
}

fn named_shape(blob: &Blob) -> (String, Shape) {
    (blob.name.clone(), blob.shape.clone())
}

fn without_weights(mut net: NetParameter, phase: Phase) -> NetParameter {
    for layer in &mut net.layer {
        layer.blobs.clear();
        layer.phase.get_or_insert(phase as i32);
    }
    net
}

impl Net {
    /// True in phase TRAIN.
    pub fn is_training(&self) -> bool {
        self.is_training
    }
    /// Moves the values of a parameter out of the graph, which keeps a placeholder.
    pub fn take_weights(&mut self, id: WeightId) -> Result<Tensor> {
        let placeholder = Tensor::zeros(Shape::new([1])?).into();
        let tensor = std::mem::replace(&mut self.graph.weights[id.0 as usize], placeholder);
        Ok(Arc::unwrap_or_clone(tensor).into_tensor())
    }
    /// The value of that name that is an input.
    pub fn input(&self, name: &str) -> Option<ValueId> {
        let mut inputs = self.graph.inputs.iter().copied();
        inputs.find(|&id| self.graph.value(id).name == name)
    }
}
