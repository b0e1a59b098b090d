//! The graph section: everything of a [`Graph`] but the weights' elements.
//!
//! MessagePack of [`Record`], in which fields and ops have their names: their order in memory is free, and
//! a field that is new has a default for files that are older. A change that an older reader would
//! misunderstand raises [`super::container::FORMAT`]. What is read is checked like a network from a
//! stranger: every dim, every id, every inferred shape.

use super::format2;
use super::limits::{MAX_GRAPH_BYTES, MAX_GRAPH_ELEMENTS, MAX_GRAPH_VALUES, MAX_TENSOR_ELEMENTS};
use crate::{Error, Graph, Node, Result, Shape, Value, ValueId, Weight};
use serde::{Deserialize, Serialize};
use std::io::Cursor;
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

/// Encodes everything but the weights' elements.
pub fn encode(graph: &Graph) -> Result<Vec<u8>> {
    let shapes = graph.weights.iter().map(|weight| weight.shape().clone());
    let record = Record {
        name: graph.name.clone(),
        values: graph.values.clone(),
        nodes: graph.nodes.clone(),
        inputs: graph.inputs.clone(),
        outputs: graph.outputs.clone(),
        weight_shapes: shapes.collect(),
    };
    record.check_sizes()?;
    let bytes = rmp_serde::to_vec_named(&record)
        .map_err(|error| Error::new(format!("a graph that cannot be stored ({error})")))?;
    check_bytes(&bytes)?;
    Ok(bytes)
}

/// Decodes a record of a file's format; dims and counts are valid, the rest is checked by
/// [`Record::into_graph`].
pub fn decode(format: u32, bytes: &[u8]) -> Result<Record> {
    check_bytes(bytes)?;
    let damaged = |found: String| {
        Error::new(found)
            .field("graph section")
            .hint("compile the network again")
    };
    let decoded = match format {
        2 => format2::decode(bytes),
        _ => named(bytes),
    };
    let (record, rest) =
        decoded.map_err(|error| damaged(format!("contents that are no graph ({error})")))?;
    if rest != 0 {
        return Err(damaged(format!("{rest} bytes behind the graph")));
    }
    // Deserialised shapes have not been through the constructor.
    for value in &record.values {
        check_shape(&value.shape, &value.name)?;
    }
    for (index, shape) in record.weight_shapes.iter().enumerate() {
        check_shape(shape, &format!("weight {index}"))?;
    }
    record.check_sizes()?;
    Ok(record)
}

/// A record, and how many bytes are left.
fn named(bytes: &[u8]) -> std::result::Result<(Record, usize), String> {
    let mut from = rmp_serde::Deserializer::new(Cursor::new(bytes));
    let record = Record::deserialize(&mut from).map_err(|error| error.to_string())?;
    Ok((record, bytes.len().saturating_sub(from.position() as usize)))
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
    fn check_sizes(&self) -> Result<()> {
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

fn check_shape(shape: &Shape, name: &str) -> Result<()> {
    Shape::new(shape.dims())
        .map(drop)
        .map_err(|error| error.field(format!("shape of {name}")))
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
