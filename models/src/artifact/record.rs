//! What the graph section says: a graph without its weights' elements.

use super::limits::{MAX_GRAPH_ELEMENTS, MAX_GRAPH_VALUES, MAX_TENSOR_ELEMENTS};
use crate::{ElementType, Error, Graph, Node, Result, Shape, Value, ValueId, Weight};
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
    /// One for each weight; none in files before format 4, in which a type was what the elements happened to fit.
    #[serde(default)]
    pub(super) weight_elements: Vec<ElementType>,
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
        let weights = typed(weights, &self.weight_elements)?;
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

/// The weights as elements of their types.
fn typed(weights: Vec<Weight>, elements: &[ElementType]) -> Result<Vec<Weight>> {
    if elements.is_empty() {
        let narrow = |weight: Weight| {
            let element = ElementType::narrowest(weight.stored());
            weight.of_type(element)
        };
        return Ok(weights.into_iter().map(narrow).collect());
    }
    if elements.len() != weights.len() {
        return Err(Error::new(format!("{} types of weights", elements.len()))
            .expected(format!("{}, one for each weight", weights.len())));
    }
    let pairs = weights.into_iter().zip(elements);
    let typed = pairs.map(|(weight, &element)| match weight.fits(element) {
        true => Ok(weight.of_type(element)),
        false => Err(Error::new("a weight that its type does not have")
            .expected(format!("elements of {element:?}"))),
    });
    typed.collect()
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
