//! Which blobs share memory in Caffe, and which of them an in-place layer changes before they are read.
//!
//! Caffe's Split, Reshape and Flatten, a Concat of one blob, a Slice into one and a Permute that moves
//! nothing do not copy: their tops are their bottom's memory. An in-place layer behind one of them changes
//! the bottom too, and whoever reads that later gets the result of a layer that is not its own. Here a blob
//! keeps its value; this is where the difference is found.

use crate::proto::{LayerParameter, NetParameter};
use skimjit_models::{Graph, Op, ValueId};
use std::collections::HashMap;

/// Caffe's memory, while the layers run one after the other.
#[derive(Default)]
pub(super) struct Memory {
    /// Where each value lies, and how often that memory had been written when it was made.
    places: HashMap<ValueId, Place>,
    areas: Vec<Area>,
    /// Dropouts drop something.
    training: bool,
}

#[derive(Clone, Copy)]
struct Place {
    area: usize,
    writes: u32,
}

/// Memory of one blob, or of several.
struct Area {
    /// In-place layers that have written it.
    writes: u32,
    /// What it holds.
    value: ValueId,
    /// The last in-place layer that wrote it.
    writer: String,
}

/// What a blob holds in Caffe instead of its own value.
pub(super) struct Overwritten {
    /// Value of the memory.
    pub value: ValueId,
    /// The in-place layer that wrote it.
    pub writer: String,
}

impl Memory {
    pub fn new(training: bool) -> Self {
        Self {
            training,
            ..Self::default()
        }
    }

    /// What an in-place layer has put into the memory of a value since it was made.
    pub fn overwritten(&self, value: ValueId) -> Option<Overwritten> {
        let place = self.places.get(&value)?;
        let area = self.areas.get(place.area)?;
        (place.writes != area.writes).then(|| Overwritten {
            value: area.value,
            writer: area.writer.clone(),
        })
    }

    /// Places a layer's tops. `alone` tells of each bottom whether only this layer reads it: where others do,
    /// Caffe puts a Split before them, and a layer between two names for it is not in place.
    pub fn place(
        &mut self,
        layer: &LayerParameter,
        graph: &Graph,
        bottoms: &[ValueId],
        tops: &[Option<ValueId>],
        alone: &[bool],
    ) {
        for (index, &top) in tops.iter().enumerate() {
            let Some(top) = top else { continue };
            let named = |of: &[String]| of.get(index).cloned();
            let in_place = named(&layer.top).is_some()
                && named(&layer.top) == named(&layer.bottom)
                && alone.get(index) == Some(&true);
            let source = match in_place {
                true => bottoms.get(index),
                false => bottoms.first().filter(|_| shares(layer, graph, top)),
            };
            match source.and_then(|source| self.places.get(source).copied()) {
                Some(place) if in_place && (self.training || !copies(graph, top)) => {
                    self.write(place.area, layer.name(), top);
                }
                Some(place) => drop(self.places.insert(top, place)),
                None => self.add(top),
            }
        }
    }

    fn write(&mut self, area: usize, writer: &str, value: ValueId) {
        if let Some(written) = self.areas.get_mut(area) {
            written.writes += 1;
            written.value = value;
            written.writer = writer.to_owned();
            let writes = written.writes;
            self.places.insert(value, Place { area, writes });
        }
    }

    fn add(&mut self, value: ValueId) {
        let area = self.areas.len();
        self.areas.push(Area {
            writes: 0,
            value,
            writer: String::new(),
        });
        self.places.insert(value, Place { area, writes: 0 });
    }
}

/// Layers whose tops are their first bottom's memory.
fn shares(layer: &LayerParameter, graph: &Graph, top: ValueId) -> bool {
    match layer.r#type() {
        "Split" | "Reshape" | "Flatten" => true,
        "Concat" => layer.bottom.len() == 1,
        "Slice" => layer.top.len() == 1,
        "Permute" => matches!(made_by(graph, top), Some(Op::Permute { order })
            if order.iter().copied().eq(0..order.len() as u32)),
        _ => false,
    }
}

/// A Dropout at test time leaves an in-place blob as it is.
fn copies(graph: &Graph, top: ValueId) -> bool {
    matches!(made_by(graph, top), Some(Op::Identity | Op::Dropout { .. }))
}

fn made_by(graph: &Graph, value: ValueId) -> Option<&Op> {
    let mut nodes = graph.nodes.iter().rev();
    nodes.find(|node| node.output == value).map(|node| &node.op)
}

/// For each layer and bottom: whether no other layer reads that blob before a layer makes it anew. A weight
/// in the loss counts as a reader, as in Caffe.
pub(super) fn sole_readers(topology: &NetParameter) -> Vec<Vec<bool>> {
    let mut current: HashMap<&str, usize> = HashMap::new();
    let mut readers: Vec<usize> = Vec::new();
    let mut read: Vec<Vec<Option<usize>>> = Vec::new();
    for layer in &topology.layer {
        let versions = layer
            .bottom
            .iter()
            .map(|name| current.get(name.as_str()).copied());
        let versions: Vec<Option<usize>> = versions.collect();
        for &version in versions.iter().flatten() {
            if let Some(count) = readers.get_mut(version) {
                *count += 1;
            }
        }
        read.push(versions);
        for (index, name) in layer.top.iter().enumerate() {
            let weighted = layer
                .loss_weight
                .get(index)
                .is_some_and(|&weight| weight != 0.0);
            current.insert(name, readers.len());
            readers.push(usize::from(weighted));
        }
    }
    let alone =
        |version: Option<usize>| version.and_then(|version| readers.get(version)) == Some(&1);
    read.into_iter()
        .map(|versions| versions.into_iter().map(alone).collect())
        .collect()
}
