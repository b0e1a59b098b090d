//! The graph section: everything of a [`Graph`] but the weights' elements.
//!
//! The text of the section is postcard's encoding of [`Record`]; any change of the types below it
//! raises [`super::container::FORMAT`]. What is read is checked like a network from a stranger:
//! every dim, every id, every inferred shape.

use super::limits::{MAX_GRAPH_BYTES, MAX_GRAPH_ELEMENTS, MAX_GRAPH_VALUES, MAX_TENSOR_ELEMENTS};
use crate::{Error, Graph, Node, Result, Shape, Value, ValueId, Weight};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A graph without its weights' elements; not yet known to be consistent.
#[derive(Deserialize)]
pub struct Record {
    name: String,
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    weight_shapes: Vec<Shape>,
}

/// The same fields in the same order, borrowed.
#[derive(Serialize)]
struct RecordRef<'a> {
    name: &'a str,
    values: &'a [Value],
    nodes: &'a [Node],
    inputs: &'a [ValueId],
    outputs: &'a [ValueId],
    weight_shapes: Vec<&'a Shape>,
}

/// Encodes everything but the weights' elements.
pub fn encode(graph: &Graph) -> Result<Vec<u8>> {
    let record = RecordRef {
        name: &graph.name,
        values: &graph.values,
        nodes: &graph.nodes,
        inputs: &graph.inputs,
        outputs: &graph.outputs,
        weight_shapes: graph.weights.iter().map(|weight| weight.shape()).collect(),
    };
    check_sizes(
        &graph.values,
        &graph.nodes,
        record.weight_shapes.iter().copied(),
    )?;
    let bytes = postcard::to_stdvec(&record)
        .map_err(|error| Error::new(format!("a graph that cannot be stored ({error})")))?;
    check_bytes(&bytes)?;
    Ok(bytes)
}

/// Decodes a record; dims and counts are valid, the rest is checked by [`Record::into_graph`].
pub fn decode(bytes: &[u8]) -> Result<Record> {
    check_bytes(bytes)?;
    let damaged = |found: String| {
        Error::new(found)
            .field("graph section")
            .hint("compile the network again")
    };
    let (record, rest) = postcard::take_from_bytes::<Record>(bytes)
        .map_err(|error| damaged(format!("contents that are no graph ({error})")))?;
    if !rest.is_empty() {
        return Err(damaged(format!("{} bytes behind the graph", rest.len())));
    }
    // Deserialised shapes have not been through the constructor.
    for value in &record.values {
        check_shape(&value.shape, &value.name)?;
    }
    for (index, shape) in record.weight_shapes.iter().enumerate() {
        check_shape(shape, &format!("weight {index}"))?;
    }
    check_sizes(&record.values, &record.nodes, record.weight_shapes.iter())?;
    Ok(record)
}

impl Record {
    /// Shape of each weight, in order of [`crate::WeightId`].
    pub fn weight_shapes(&self) -> &[Shape] {
        &self.weight_shapes
    }
    /// Joins record and weights to a graph that passes all checks.
    pub fn into_graph(self, weights: Vec<Weight>) -> Result<Graph> {
        if !weights.iter().map(Weight::shape).eq(&self.weight_shapes) {
            return Err(Error::new("weights of other shapes than the graph's"));
        }
        let graph = Graph {
            name: self.name,
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

fn check_shape(shape: &Shape, name: &str) -> Result<()> {
    Shape::new(shape.dims())
        .map(drop)
        .map_err(|error| error.field(format!("shape of {name}")))
}

fn check_sizes<'a>(
    values: &[Value],
    nodes: &[Node],
    weights: impl Iterator<Item = &'a Shape>,
) -> Result<()> {
    let most = values.len().max(nodes.len());
    if most > MAX_GRAPH_VALUES {
        return Err(Error::new(format!("a graph of {most} values or layers"))
            .expected(format!("at most {MAX_GRAPH_VALUES}")));
    }
    let mut total = 0;
    for count in weights.map(Shape::count) {
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

fn check_bytes(bytes: &[u8]) -> Result<()> {
    if bytes.len() <= MAX_GRAPH_BYTES {
        return Ok(());
    }
    Err(
        Error::new(format!("a graph section of {} bytes", bytes.len()))
            .expected(format!("at most {MAX_GRAPH_BYTES}")),
    )
}
