//! A checked, topologically ordered graph of single-output nodes.

use super::{Shape, Tensor};
use crate::{Error, Op, Result};
use std::sync::Arc;

/// A blob at one point of the network. In-place layers get a fresh id each, with the same name.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct ValueId(pub u32);

/// A weight tensor of the graph; shared parameters are one id used by several nodes.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize,
)]
pub struct WeightId(pub u32);

/// Name and shape of a value.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Value {
    /// Blob name, as in the prototxt.
    pub name: String,
    /// Dims.
    pub shape: Shape,
}

/// One operation.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Layer name, as in the prototxt.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands, in Caffe's bottom order.
    pub inputs: Vec<ValueId>,
    /// Result.
    pub output: ValueId,
}

/// A network: values, weights, and nodes in an order in which every operand is computed before use.
#[derive(Clone, Default, Debug)]
pub struct Graph {
    /// Network name.
    pub name: String,
    /// All values, indexed by [`ValueId`].
    pub values: Vec<Value>,
    /// All weights, indexed by [`WeightId`].
    pub weights: Vec<Arc<Tensor>>,
    /// Nodes in execution order.
    pub nodes: Vec<Node>,
    /// Values fed from outside, in the order of the prototxt.
    pub inputs: Vec<ValueId>,
    /// Results, sorted by blob name as Caffe numbers them. Values listed here survive every pass.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// Adds a value.
    pub fn add_value(&mut self, name: impl Into<String>, shape: Shape) -> ValueId {
        self.values.push(Value {
            name: name.into(),
            shape,
        });
        ValueId(self.values.len() as u32 - 1)
    }
    /// Adds a weight tensor.
    pub fn add_weight(&mut self, tensor: Tensor) -> WeightId {
        self.weights.push(Arc::new(tensor));
        WeightId(self.weights.len() as u32 - 1)
    }
    /// Infers the output shape, adds the value and the node.
    pub fn add_node(
        &mut self,
        name: &str,
        op: Op,
        inputs: Vec<ValueId>,
        output: &str,
    ) -> Result<ValueId> {
        let shapes: Vec<&Shape> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = op
            .infer_shape(&shapes, &self.weights)
            .map_err(|error| error.layer(name))?;
        let output = self.add_value(output, shape);
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs,
            output,
        });
        Ok(output)
    }
    /// Value by id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }
    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.value(id).shape
    }
    /// Weight tensor by id.
    pub fn weight(&self, id: WeightId) -> &Arc<Tensor> {
        &self.weights[id.0 as usize]
    }
    /// The last value of that blob name (what Caffe's blob holds after a forward pass).
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values
            .iter()
            .rposition(|value| value.name == name)
            .map(|index| ValueId(index as u32))
    }
    /// Recomputes every shape for another batch size (axis 0 of every input).
    pub fn with_batch(&self, batch: u32) -> Result<Self> {
        let mut graph = self.clone();
        for &id in &self.inputs {
            let shape = self.shape(id).with_batch(batch);
            graph.values[id.0 as usize].shape = Shape::new(shape.dims().to_vec())?;
        }
        graph.infer_shapes()?;
        Ok(graph)
    }
    /// Recomputes the shapes of all node outputs from the inputs' shapes.
    pub fn infer_shapes(&mut self) -> Result<()> {
        for node in &self.nodes {
            let shapes: Vec<&Shape> = node
                .inputs
                .iter()
                .map(|&id| &self.values[id.0 as usize].shape)
                .collect();
            let shape = node
                .op
                .infer_shape(&shapes, &self.weights)
                .map_err(|error| error.layer(node.name.clone()))?;
            self.values[node.output.0 as usize].shape = shape;
        }
        Ok(())
    }
    /// Checks ids, order and single assignment. For graphs that come from outside (artifacts).
    pub fn check(&self) -> Result<()> {
        let mut ready = vec![false; self.values.len()];
        let mut define = |id: ValueId, what: &str| match ready.get_mut(id.0 as usize) {
            Some(flag) if !*flag => {
                *flag = true;
                Ok(())
            }
            _ => Err(Error::new(format!("value {} as {what}", id.0))
                .expected("a value that exists and is assigned once")),
        };
        for &id in &self.inputs {
            define(id, "network input")?;
        }
        for node in &self.nodes {
            define(node.output, "output").map_err(|error| error.layer(node.name.clone()))?;
        }
        let mut known: std::collections::HashSet<ValueId> = self.inputs.iter().copied().collect();
        for node in &self.nodes {
            let weights_exist = node
                .op
                .weights()
                .iter()
                .all(|id| (id.0 as usize) < self.weights.len());
            if !weights_exist || !node.inputs.iter().all(|id| known.contains(id)) {
                return Err(Error::new("an operand that no earlier layer computes")
                    .layer(node.name.clone()));
            }
            known.insert(node.output);
        }
        match self.outputs.iter().find(|id| !known.contains(id)) {
            Some(id) => Err(Error::new(format!(
                "output value {} that nothing computes",
                id.0
            ))),
            None => Ok(()),
        }
    }
}
