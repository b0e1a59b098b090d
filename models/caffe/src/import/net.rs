//! A network under construction, as the layers see it.

use super::LeftOut;
use super::memory::Memory;
use super::store::Store;
use crate::unknown::Unknown;
use skimjit_models::{Graph, ValueId, Warning};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// A network under construction.
pub(super) struct Net {
    pub graph: Graph,
    pub store: Store,
    /// Phase TRAIN.
    pub training: bool,
    /// Weights of Winograd layers are brought to the Winograd domain.
    pub to_train: bool,
    /// Where the prototxt lies.
    pub directory: Option<PathBuf>,
    /// What is odd about layers.
    pub warnings: Vec<Warning>,
    /// Layers that the rules of the phase have removed.
    pub left_out: Vec<LeftOut>,
    /// What Caffe's memory holds.
    pub memory: Memory,
    /// Overwritten blobs are read as Caffe reads them.
    pub caffe_in_place: bool,
    /// What each blob name means at this point of the network.
    pub blobs: HashMap<String, ValueId>,
    /// Blobs that no layer has taken yet, by name.
    pub results: BTreeMap<String, ValueId>,
    /// Blobs that a layer without tops writes somewhere.
    pub kept: BTreeMap<String, ValueId>,
    pub losses: Vec<(ValueId, f32)>,
    pub ignore_unknown_fields: bool,
    /// Fields of a binary file that were ignored.
    pub unknown: Vec<Unknown>,
}

impl Net {
    /// Name for the top that a loss layer leaves out: the layer's, unless a blob has it.
    pub fn automatic_name(&self, layer: &str) -> String {
        if self.blobs.contains_key(layer) || self.results.contains_key(layer) {
            format!("{layer} (automatic)")
        } else {
            layer.to_owned()
        }
    }

    /// Makes a value a result, whatever takes it.
    pub fn keep(&mut self, name: &str, value: ValueId) {
        self.kept.insert(name.to_owned(), value);
    }
}
