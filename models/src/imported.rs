//! What a format's reader makes of files: the network, and what they say of its use.

use crate::{Graph, Preprocess, ValueId, Warning, WeightId};
use std::collections::{BTreeMap, BTreeSet};

/// An imported network.
#[derive(Debug)]
pub struct Imported {
    /// The network.
    pub graph: Graph,
    /// What training needs beside the graph.
    pub training: Training,
    /// How pictures become inputs, where the files say it.
    pub preprocess: Option<Preprocess>,
    /// What was ignored.
    pub warnings: Vec<Warning>,
}

/// What a definition says of training and no op says itself. Nodes are indices into the graph as it was
/// imported.
#[derive(Clone, Debug, Default)]
pub struct Training {
    /// Values that the loss is the weighted sum of, with their weights: the sum of all their elements
    /// counts.
    pub losses: Vec<(ValueId, f32)>,
    /// Weights that belong to layers, in the layers' order. Only where the network is imported to be trained,
    /// as all that follows.
    pub parameters: Vec<Parameter>,
    /// Operands of nodes of which is said whether a gradient goes to them.
    pub propagates: BTreeMap<(usize, usize), bool>,
    /// Every value gets a gradient.
    pub force_backward: bool,
    /// Average poolings that draw one element of each window instead, in proportion to its value.
    pub draws: BTreeSet<usize>,
}

/// A weight of one layer or several, as their definition describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The weight.
    pub weight: WeightId,
    /// Layers that use it, the owner first: name, index of the layer, index of the weight in the layer.
    pub places: Vec<Place>,
    /// Factor of the learning rate, where it is said.
    pub lr_mult: Option<f32>,
    /// Factor of the weight decay, where it is said.
    pub decay_mult: Option<f32>,
    /// What is added to the loss for its size, where it is not the solver's.
    pub regularization: Option<String>,
    /// SkimCaffe's factor of the decay of whole kernels' breadth.
    pub breadth_decay_mult: f32,
    /// SkimCaffe's factor of the decay of kernel shapes.
    pub kernel_shape_decay_mult: f32,
    /// SkimCaffe's group lasso.
    pub block_group_lasso: Vec<BlockLasso>,
    /// Which of its zeros stay.
    pub connectivity: Connectivity,
}

/// Where a weight belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the layer.
    pub layer: String,
    /// Index of the layer in its definition.
    pub layer_index: usize,
    /// Index of the weight in the layer.
    pub index: usize,
}

/// Blocks of a weight matrix whose norms are kept small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockLasso {
    /// Columns of a block.
    pub columns: u32,
    /// Rows of a block.
    pub rows: u32,
    /// Factor of the solver's decay.
    pub decay_mult: f32,
}

/// Which zeros of a weight stay zero in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Connectivity {
    /// None of them.
    #[default]
    Free,
    /// Every element that is zero.
    Elements,
    /// Every row and column of a group that is all zero.
    Groups,
}
