//! What a converter sees of the layer it converts, and how it adds nodes.

use super::fields::Part;
use super::net::Net;
use super::spelling;
use super::store::Wanted;
use crate::proto::LayerParameter;
use skimjit_host::octets;
use skimjit_models::Warning;
use skimjit_models::{Error, Op, Result, Shape, Tensor, ValueId, Weight, WeightId};
use std::path::PathBuf;

/// One layer on its way into the graph.
pub(super) struct Layer<'a> {
    /// Definition.
    pub def: &'a LayerParameter,
    /// Messages of its parameters.
    parts: &'static [Part],
    /// Operands, one per bottom.
    pub inputs: Vec<ValueId>,
    /// Results so far, one per top (or one automatic top for losses without any).
    outputs: Vec<Option<ValueId>>,
    net: &'a mut Net,
}

impl<'a> Layer<'a> {
    pub fn new(
        def: &'a LayerParameter,
        parts: &'static [Part],
        inputs: Vec<ValueId>,
        net: &'a mut Net,
    ) -> Self {
        let outputs = vec![None; def.top.len()];
        Self {
            def,
            parts,
            inputs,
            outputs,
            net,
        }
    }

    /// Results, `None` for tops that the converter left out.
    pub fn into_outputs(self) -> Vec<Option<ValueId>> {
        self.outputs
    }

    /// True when the network is imported to be trained.
    pub fn training(&self) -> bool {
        self.net.training
    }

    /// True when it is imported to be trained, or to be tested between iterations: a layer's blobs are then
    /// written back in the order in which its nodes have them.
    pub fn keeps_blobs(&self) -> bool {
        self.net.training || self.net.to_train
    }

    /// Shape of operand `bottom`; the table has checked their number.
    pub fn shape(&self, bottom: usize) -> Shape {
        self.net.graph.shape(self.inputs[bottom]).clone()
    }

    /// Number of tops.
    pub fn tops(&self) -> usize {
        self.def.top.len()
    }

    /// Adds the node of top `index`. Tops after the first get nodes named `layer[index]`.
    pub fn top(&mut self, index: usize, op: Op, inputs: Vec<ValueId>) -> Result<ValueId> {
        let node = match index {
            0 => self.def.name().to_owned(),
            _ => format!("{}[{index}]", self.def.name()),
        };
        let blob = match self.def.top.get(index) {
            Some(top) => top.clone(),
            None => self.net.automatic_name(self.def.name()),
        };
        self.add(index, &node, op, inputs, &blob)
    }

    /// Adds a node of which no top is the result, named `layer/part`, as is its blob.
    pub fn hidden(&mut self, part: &str, op: Op, inputs: Vec<ValueId>) -> Result<ValueId> {
        let name = format!("{}/{part}", self.def.name());
        self.add(usize::MAX, &name, op, inputs, &name)
    }

    fn add(
        &mut self,
        index: usize,
        node: &str,
        op: Op,
        inputs: Vec<ValueId>,
        blob: &str,
    ) -> Result<ValueId> {
        let value = self
            .net
            .graph
            .add_node(node, op.clone(), inputs, blob)
            .map_err(|error| {
                let mut error = spelling::spell(self.parts, &op, error);
                error.layer = Some(self.def.name().to_owned());
                error
            })?;
        let layer = self.def.name();
        if node != layer
            && let Some(node) = self.net.graph.nodes.last_mut()
        {
            node.part_of = Some(layer.to_owned());
        }
        if let Some(output) = self.outputs.get_mut(index) {
            *output = Some(value);
        } else if index == 0 {
            self.outputs.push(Some(value));
        }
        Ok(value)
    }

    /// Adds the single node of a layer with one top and all bottoms as operands.
    pub fn node(&mut self, op: Op) -> Result<()> {
        let inputs = self.inputs.clone();
        self.top(0, op, inputs).map(drop)
    }

    /// Adds one node per bottom and top, all with the same op (layers that share their weights
    /// between several operands).
    pub fn node_per_bottom(&mut self, op: &Op) -> Result<()> {
        if self.inputs.len() != self.tops() {
            return Err(self
                .fault("top", format!("{} tops", self.tops()))
                .expected(format!("{}, one per bottom", self.inputs.len())));
        }
        for (index, input) in self.inputs.clone().into_iter().enumerate() {
            self.top(index, op.clone(), vec![input])?;
        }
        Ok(())
    }

    /// Makes top `index` a network input.
    pub fn network_input(&mut self, index: usize, shape: Shape) {
        let value = self.net.graph.add_value(self.def.top[index].clone(), shape);
        self.net.graph.inputs.push(value);
        self.outputs[index] = Some(value);
    }

    /// Keeps operand `bottom` among the network's results although this layer takes it.
    pub fn keep_as_result(&mut self, bottom: usize) {
        self.net.keep(&self.def.bottom[bottom], self.inputs[bottom]);
    }

    /// Says what is odd about this layer but does not keep it from being used.
    pub fn warn(&mut self, text: impl std::fmt::Display) {
        let text = format!("layer \"{}\": {text}", self.def.name());
        self.net.warnings.push(Warning::new(text));
    }

    /// Stores a constant that comes from no weight file.
    pub fn constant(&mut self, tensor: Tensor) -> WeightId {
        self.net.graph.add_weight(tensor)
    }

    /// Weights of the layer, one per expected tensor.
    pub fn weights(&mut self, expected: &[Wanted]) -> Result<Vec<WeightId>> {
        self.net
            .store
            .weights(&mut self.net.graph, self.def, expected, false)
    }

    /// The same for convolutions and inner products: small elements of the first blob become 0
    /// when the options say so.
    pub fn prunable_weights(&mut self, expected: &[Wanted]) -> Result<Vec<WeightId>> {
        self.net
            .store
            .weights(&mut self.net.graph, self.def, expected, true)
    }

    /// Shape of a blob in the weight files, before any check.
    pub fn stored_shape(&self, blob: usize) -> Option<Shape> {
        self.net.store.shape(self.def.name(), blob)
    }

    /// Number of blobs in the weight files, before any check.
    pub fn stored_blobs(&self) -> Option<usize> {
        self.net.store.count(self.def.name())
    }

    /// A weight.
    pub fn weight(&self, id: WeightId) -> &Weight {
        self.net.graph.weight(id)
    }

    /// The shape as stored, or that of the parameter of another layer that this one shares.
    pub fn known_shape(&self, blob: usize) -> Option<Shape> {
        let owner = self.net.store.owner(self.def, blob);
        owner
            .map(|id| self.net.graph.weight(id).shape().clone())
            .or_else(|| self.stored_shape(blob))
    }

    /// True when the network is to be trained, or tested in between.
    pub fn is_to_train(&self) -> bool {
        self.net.to_train
    }

    /// Puts what `transform` makes of a weight in its place.
    pub fn transform_weight(
        &mut self,
        id: WeightId,
        transform: impl FnOnce(&Weight) -> Option<Tensor>,
    ) {
        let weight = &mut self.net.graph.weights[id.0 as usize];
        if let Some(transformed) = transform(weight) {
            *weight = transformed.into();
        }
    }

    /// Says that this layer's blobs are known and not needed.
    pub fn ignore_weights(&mut self) {
        self.net.store.ignore(self.def.name());
    }

    /// Where a file that the prototxt names may be: as written, then beside the prototxt.
    pub fn paths_of(&self, source: &str) -> Vec<PathBuf> {
        let source = octets::path(source);
        let directory = self.net.directory.iter();
        let beside: Vec<PathBuf> = directory.map(|folder| folder.join(&source)).collect();
        std::iter::once(source).chain(beside).collect()
    }

    /// An error at a field of this layer.
    pub fn fault(&self, field: &str, found: impl Into<String>) -> Error {
        Error::new(found).layer(self.def.name()).field(field)
    }

    /// Checks a shape that attributes lead to.
    pub fn checked_shape(&self, field: &str, dims: Vec<u32>) -> Result<Shape> {
        Shape::new(dims).map_err(|error| error.layer(self.def.name()).field(field))
    }

    /// Axis of `shape`, negative from the end.
    pub fn axis(&self, field: &str, axis: i32, shape: &Shape) -> Result<u32> {
        shape.axis(axis).map(|axis| axis as u32).ok_or_else(|| {
            let rank = shape.rank();
            self.fault(field, axis.to_string()).expected(format!(
                "-{rank} or more and less than {rank} for shape {shape}"
            ))
        })
    }

    /// An attribute without default that must be 1 or more.
    pub fn positive(&self, field: &str, value: Option<u32>) -> Result<u32> {
        match value {
            Some(value) if value > 0 => Ok(value),
            Some(_) => Err(self.fault(field, "0").expected("at least 1")),
            None => Err(self
                .fault(field, "nothing")
                .expected("a number, at least 1")),
        }
    }
}

/// The layer's parameters of one kind, or their defaults.
pub(super) fn param<T: Clone + Default>(field: &Option<Box<T>>) -> T {
    field.as_deref().cloned().unwrap_or_default()
}
