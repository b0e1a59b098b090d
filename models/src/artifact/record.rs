//! What the graph section says: a graph without its weights' elements.

use super::limits::{MAX_GRAPH_ELEMENTS, MAX_GRAPH_VALUES, MAX_TENSOR_ELEMENTS};
use crate::{Error, Graph, Node, Result, Shape, Value, ValueId, Weight};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A graph without its weights' elements; not yet known to be consistent.
#[derive(Serialize, Deserialize)]
pub struct Record {
    pub(super) name: String,
    pub(super) values: Vec<Value>,
    pub(super) nodes: Vec<Node>,
    pub(super) inputs: Vec<ValueId>,
    pub(super) outputs: Vec<ValueId>,
    pub(super) weight_shapes: Vec<Shape>,
}

impl Record {
    /// Nodes, as they are stored.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// Shape of each weight, in order of [`crate::WeightId`].
    pub fn weight_shapes(&self) -> &[Shape] {
        &self.weight_shapes
    }
    pub(super) fn check_sizes(&self) -> Result<()> {
        let most = self.values.len().max(self.nodes.len());
        if most > MAX_GRAPH_VALUES {
            return Err(Error::new(format!("a graph of {most} values or layers"))
                .expected(format!("at most {MAX_GRAPH_VALUES}")));
        }
        let mut total = 0;
        for count in self.weight_shapes.iter().map(Shape::count) {
            total += count;
            if count > MAX_TENSOR_ELEMENTS || total > MAX_GRAPH_ELEMENTS {
                return Err(
                    Error::new(format!("{count} weights in one layer, {total} so far")).expected(
                        format!("at most {MAX_TENSOR_ELEMENTS} and {MAX_GRAPH_ELEMENTS}"),
                    ),
                );
            }
        }
        Ok(())
    }
    /// Joins record and weights to a graph that passes all checks.
    pub fn into_graph(self, weights: Vec<Weight>) -> Result<Graph> {
        if !weights.iter().map(Weight::shape).eq(&self.weight_shapes) {
            return Err(Error::new("weights of other shapes than the graph's"));
        }
        let graph = Graph {
            name: self.name,
            file: None,
            values: self.values,
            weights: weights.into_iter().map(Arc::new).collect(),
            nodes: self.nodes,
            inputs: self.inputs,
            outputs: self.outputs,
        };
        graph.check()?;
        check_inferred(&graph)?;
        Ok(graph)
    }
}

/// Every stored shape must be what its layer computes from its operands' stored shapes.
fn check_inferred(graph: &Graph) -> Result<()> {
    for node in &graph.nodes {
        let inputs: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
        let shape = node.op.infer_shape(&inputs, &graph.weights);
        let shape = shape.map_err(|error| error.layer(node.name.clone()))?;
        let stored = graph.shape(node.output);
        if shape != *stored {
            return Err(Error::new(format!("shape {stored}"))
                .layer(node.name.clone())
                .expected(shape.to_string())
                .hint("compile the network again"));
        }
    }
    Ok(())
}

pub(super) fn check_shape(shape: &Shape, name: &str) -> Result<()> {
    Shape::new(shape.dims())
        .map(drop)
        .map_err(|error| error.field(format!("shape of {name}")))
}
