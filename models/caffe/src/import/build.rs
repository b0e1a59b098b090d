//! Wires layers into the graph: which value a blob name means, and which blobs are results.

use super::layer::Layer;
use super::memory::{Memory, Overwritten, sole_readers};
use super::net::Net;
use super::store::Store;
use super::{ImportOptions, LeftOut, batch, fields, table, training};
use crate::proto::{LayerParameter, NetParameter};
use crate::unknown;
use skimjit_models::Warning;
use skimjit_models::ops::Reshape;
use skimjit_models::{Error, Graph, Op, Result, Shape, Training, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;

/// A finished network.
pub(super) struct Built {
    pub graph: Graph,
    pub store: Store,
    pub warnings: Vec<Warning>,
    pub training: Training,
}

/// Builds the graph of a topology that is upgraded, filtered and in order. An error carries the warnings
/// that came before it.
pub(super) fn build(
    topology: &NetParameter,
    store: Store,
    directory: Option<PathBuf>,
    left_out: Vec<LeftOut>,
    options: &ImportOptions,
) -> Result<Built> {
    if topology.layer.is_empty() {
        return Err(Error::new("no layers")
            .field("layer")
            .expected("at least one"));
    }
    let graph = Graph {
        name: topology.name().to_owned(),
        ..Graph::default()
    };
    let mut net = Net {
        graph,
        store,
        training: options.training,
        to_train: options.to_train,
        directory,
        warnings: Vec::new(),
        left_out,
        memory: Memory::new(options.training),
        caffe_in_place: options.caffe_in_place,
        blobs: HashMap::new(),
        results: BTreeMap::new(),
        kept: BTreeMap::new(),
        losses: Vec::new(),
        ignore_unknown_fields: options.ignore_unknown_fields,
        unknown: Vec::new(),
    };
    let added = net.add_layers(topology);
    net.warnings.extend(unknown::warnings(&net.unknown));
    net.warnings.append(&mut net.store.warnings);
    added.map_err(|error| error.after(&net.warnings))?;
    let mut training = Training {
        losses: net.losses,
        ..Training::default()
    };
    if options.to_train {
        training::describe(topology, &net.graph, &mut training)
            .map_err(|error| error.after(&net.warnings))?;
    }
    Ok(Built {
        graph: net.graph,
        store: net.store,
        warnings: net.warnings,
        training,
    })
}

impl Net {
    fn add_layers(&mut self, topology: &NetParameter) -> Result<()> {
        let alone = sole_readers(topology);
        for (index, layer) in topology.layer.iter().enumerate() {
            let later = topology.layer.get(index..).unwrap_or_default();
            let alone = alone.get(index).map(Vec::as_slice).unwrap_or_default();
            self.add_layer(layer, later, alone)
                .map_err(|error| error.layer(layer.name()))?;
        }
        for (name, value) in std::mem::take(&mut self.kept) {
            self.results.entry(name).or_insert(value);
        }
        for (name, value) in std::mem::take(&mut self.results) {
            let reader = format!("the result {name:?}");
            let output = self.as_in_caffe(value, &reader, &name)?;
            self.graph.outputs.push(output);
        }
        batch::check_filtered(&self.graph)
    }

    /// Adds one layer; `later` starts with it and tells forward references from missing blobs. `alone` tells
    /// which bottoms it is the only reader of.
    fn add_layer(
        &mut self,
        layer: &LayerParameter,
        later: &[LayerParameter],
        alone: &[bool],
    ) -> Result<()> {
        let row = table::find(layer)?;
        self.check_unknown(layer)?;
        for (field, found, allowed) in [
            ("bottom", layer.bottom.len(), &row.bottoms),
            ("top", layer.top.len(), &row.tops),
        ] {
            if !allowed.contains(&found) {
                return Err(
                    Error::new(format!("{found} {field}s of a {} layer", row.name))
                        .field(field)
                        .expected(table::range(allowed)),
                );
            }
        }
        let bottoms = self.operands(layer, later)?;
        let mut inputs = bottoms.clone();
        self.check_tops(layer)?;
        if row.tops != (0..=0) {
            let reader = format!("layer {:?}", layer.name());
            for input in &mut inputs {
                let part = format!("{}/{}", layer.name(), self.graph.value(*input).name);
                *input = self.as_in_caffe(*input, &reader, &part)?;
            }
        }
        for bottom in &layer.bottom {
            self.results.remove(bottom);
        }
        let mut converted = Layer::new(layer, row.parts, inputs, self);
        for warning in fields::check(layer, row.parts)? {
            converted.warn(warning);
        }
        (row.convert)(&mut converted)?;
        let outputs = converted.into_outputs();
        self.memory
            .place(layer, &self.graph, &bottoms, &outputs, alone);
        self.note_losses(layer, &outputs)?;
        self.define_tops(layer, outputs)
    }

    /// Refuses fields that may change what the layer means. Those of a text have been told when it was
    /// read.
    fn check_unknown(&mut self, layer: &LayerParameter) -> Result<()> {
        let mut unknown = unknown::of_layer(layer);
        match unknown.first() {
            Some(first) if !self.ignore_unknown_fields => Err(first.error()),
            _ => {
                unknown.retain(|unknown| unknown.position.is_none());
                self.unknown.extend(unknown);
                Ok(())
            }
        }
    }

    /// The value that a reader gets: the blob's own, or with the option what an in-place layer has put into
    /// Caffe's memory of it. `node` names what may be added for that.
    fn as_in_caffe(&mut self, value: ValueId, reader: &str, node: &str) -> Result<ValueId> {
        let Some(Overwritten {
            value: held,
            writer,
        }) = self.memory.overwritten(value)
        else {
            return Ok(value);
        };
        let blob = self.graph.value(value).name.clone();
        let changed = self.graph.value(held).name.clone();
        let (shape, from) = (
            self.graph.shape(value).clone(),
            self.graph.shape(held).clone(),
        );
        let here = match self.caffe_in_place {
            true => "as asked for, it is used here too",
            false => {
                "here a blob keeps its own value; --caffe-in-place computes what Caffe does, for networks \
                 that were trained with it"
            }
        };
        self.warnings.push(Warning::new(format!(
            "{reader} reads blob {blob:?} after the in-place layer {writer:?} changed blob {changed:?}, which \
             has the same memory in Caffe: there the result of {writer:?} is read instead; {here}"
        )));
        if !self.caffe_in_place {
            return Ok(value);
        }
        let op = match shape == from {
            true => Op::Identity,
            false => Op::Reshape(like(&shape, &from)),
        };
        let name = format!("{node} (as in Caffe)");
        let output = self.graph.add_node(&name, op, vec![held], &blob)?;
        Ok(output)
    }

    /// Tops with a weight in the loss: those that `loss_weight` says, or the first of a loss layer.
    fn note_losses(&mut self, layer: &LayerParameter, outputs: &[Option<ValueId>]) -> Result<()> {
        let weights: &[f32] = match layer.loss_weight.as_slice() {
            [] if layer.r#type().ends_with("Loss") => &[1.0],
            weights if weights.is_empty() || weights.len() == outputs.len() => weights,
            weights => {
                return Err(Error::new(format!("{} weights", weights.len()))
                    .field("loss_weight")
                    .expected(format!("none, or {}, one per top", outputs.len())));
            }
        };
        let weighted = outputs.iter().zip(weights);
        let losses = weighted.filter_map(|(&value, &weight)| Some((value?, weight)));
        self.losses
            .extend(losses.filter(|&(_, weight)| weight != 0.0));
        Ok(())
    }

    fn operands(&self, layer: &LayerParameter, later: &[LayerParameter]) -> Result<Vec<ValueId>> {
        let operand = |(index, name): (usize, &String)| {
            self.blobs.get(name).copied().ok_or_else(|| {
                let error = Error::new(format!("blob {name:?}, which no earlier layer makes"))
                    .field(format!("bottom[{index}]"))
                    .expected("the top of an earlier layer");
                match later.iter().find(|later| later.top.contains(name)) {
                    Some(later) if std::ptr::eq(later, layer) => {
                        error.hint("a layer cannot take its own result")
                    }
                    Some(later) => error.hint(format!(
                        "layer {:?} makes it, but comes later: move it up, or break the cycle",
                        later.name()
                    )),
                    None => match self.left_out.iter().find(|left| left.tops.contains(name)) {
                        Some(left) => error.hint(left.advice()),
                        None => error,
                    },
                }
            })
        };
        layer.bottom.iter().enumerate().map(operand).collect()
    }

    fn check_tops(&self, layer: &LayerParameter) -> Result<()> {
        let mut seen = HashSet::new();
        for (index, top) in layer.top.iter().enumerate() {
            let in_place = layer.bottom.get(index) == Some(top);
            if !seen.insert(top) || (self.blobs.contains_key(top) && !in_place) {
                return Err(Error::new(format!("blob {top:?} a second time"))
                    .field(format!("top[{index}]"))
                    .expected(
                        "a name that no other layer makes, or that of the bottom in its place",
                    ));
            }
        }
        Ok(())
    }

    fn define_tops(&mut self, layer: &LayerParameter, outputs: Vec<Option<ValueId>>) -> Result<()> {
        for (index, value) in outputs.into_iter().enumerate() {
            let Some(value) = value else {
                return Err(
                    Error::new(format!("top {index} of a {} layer", layer.r#type()))
                        .field(format!("top[{index}]"))
                        .expected("fewer tops"),
                );
            };
            let name = self.graph.value(value).name.clone();
            self.results.insert(name.clone(), value);
            if index < layer.top.len() {
                self.blobs.insert(name, value);
            }
        }
        Ok(())
    }
}

/// A Reshape to `shape`; the first dim follows the batch where it is the same.
fn like(shape: &Shape, from: &Shape) -> Reshape {
    let mut dims: Vec<i64> = shape.dims().iter().map(|&dim| dim.into()).collect();
    if let (Some(first), Some(old)) = (dims.first_mut(), from.dims().first())
        && *first == i64::from(*old)
    {
        *first = 0;
    }
    Reshape {
        dims,
        axis: 0,
        num_axes: -1,
    }
}
