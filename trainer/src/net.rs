//! A network in one phase, wired and checked: what an engine runs.

use skimjit_caffe::import::ImportOptions;
use skimjit_caffe::{Definition, Phase, Weights};
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
    pub layers: Weights,
    is_training: bool,
}

impl Net {
    /// Wires the layers of a definition's state: with weights, later ones over earlier ones, and what the data
    /// layers bring. Weights that no file has are filled; the seed chooses the numbers.
    pub fn new(
        definition: &Definition,
        weights: &[Weights],
        blobs: &[Blob],
        seed: u64,
    ) -> Result<Self> {
        let layers = definition.without_weights()?;
        let options = ImportOptions {
            data_shapes: blobs.iter().map(named_shape).collect(),
            allow_missing_weights: true,
            to_train: true,
            seed,
            ..ImportOptions::default()
        };
        let imported = definition.import(weights, options)?;
        Ok(Self {
            graph: imported.graph,
            training: imported.training,
            warnings: imported.warnings.iter().map(ToString::to_string).collect(),
            layers,
            is_training: definition.phase() == Phase::Train,
        })
    }
    /// Of a graph with weights, and what is known of its parameters.
    pub fn of_graph(graph: Graph, training: Training, is_training: bool) -> Self {
        Self {
            graph,
            training,
            warnings: Vec::new(),
            layers: Weights::default(),
            is_training,
        }
    }
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

fn named_shape(blob: &Blob) -> (String, Shape) {
    (blob.name.clone(), blob.shape.clone())
}
