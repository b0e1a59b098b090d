//! The graph section: everything of a [`Graph`] but the weights' elements.
//!
//! MessagePack of [`Record`], in which fields and ops have their names: their order in memory is free, and
//! a field that is new has a default for files that are older. Every change of what is written raises
//! [`super::container::FORMAT`], and a section of that format must be what would be written of it: a field
//! that is not known is never passed over. What is read is checked like a network from a stranger: every
//! dim, every id, every inferred shape.

use super::container::FORMAT;
use super::format2;
use super::limits::MAX_GRAPH_BYTES;
use super::record::{Record, check_shape};
use crate::{Error, Graph, Result};
use serde::Deserialize;
use std::io::Cursor;

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
        weight_elements: graph
            .weights
            .iter()
            .map(|weight| weight.element())
            .collect(),
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
        _ => named(format, bytes),
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
fn named(format: u32, bytes: &[u8]) -> std::result::Result<(Record, usize), String> {
    let mut from = rmp_serde::Deserializer::new(Cursor::new(bytes));
    let record = Record::deserialize(&mut from).map_err(|error| error.to_string())?;
    let (read, rest) = bytes.split_at(bytes.len().min(from.position() as usize));
    let again = rmp_serde::to_vec_named(&record).map_err(|error| error.to_string())?;
    if format == FORMAT && again != read {
        return Err("something in it is not known, or not as it is written".to_owned());
    }
    Ok((record, rest.len()))
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
