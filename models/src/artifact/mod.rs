//! The `.skim` container: a compiled network without machine code.
//!
//! An artifact is a recipe: the graph, its weights, and whatever sections other crates add (the
//! runtime's plan). [`container`] knows sections and checksums only; [`graph`] and [`weights`] know
//! what is inside two kinds of section. Nothing here touches the file system: the reader works on
//! bytes that the caller has mapped or read.

pub mod container;
pub mod graph;
pub mod limits;
pub mod pictures;
pub mod weights;

mod bits;
mod format2;
pub mod record;

pub use container::{Kind, Reader, Section, Writer};

use crate::{Error, Graph, Result, Shape};
use skimjit_host::memory;

/// Name of the single section of kind [`Kind::GRAPH`].
pub const GRAPH_SECTION: &str = "graph";

/// Name of the section that holds weight `index` of the graph.
pub fn weight_section(index: usize) -> String {
    format!("weight.{index}")
}

/// Adds the graph section and one section per weight tensor.
pub fn write_graph(writer: &mut Writer<'_>, graph: &Graph) -> Result<()> {
    writer.add(Kind::GRAPH, GRAPH_SECTION, graph::encode(graph)?)?;
    for (index, weight) in graph.weights.iter().enumerate() {
        writer.add(
            Kind::WEIGHT,
            &weight_section(index),
            weights::encode_weight(weight),
        )?;
    }
    Ok(())
}

/// Reads what [`write_graph`] wrote, and checks it as if it came from a stranger.
pub fn read_graph(reader: &Reader<'_>) -> Result<Graph> {
    let record = graph::decode(
        reader.format(),
        required(reader, Kind::GRAPH, GRAPH_SECTION)?,
    )?;
    check_memory(reader, record.weight_shapes())?;
    let mut weights = Vec::with_capacity(record.weight_shapes().len());
    for (index, shape) in record.weight_shapes().iter().enumerate() {
        let name = weight_section(index);
        let bytes = required(reader, Kind::WEIGHT, &name)?;
        let weight = weights::decode_weight(bytes, shape)
            .map_err(|error| error.field(format!("section {name}")))?;
        weights.push(weight);
    }
    record.into_graph(weights)
}

/// Zeros take no room in a file: what all weights take once decoded is checked before the first one is.
fn check_memory(reader: &Reader<'_>, shapes: &[Shape]) -> Result<()> {
    let counts = shapes.iter().map(|shape| shape.count() as u64);
    let bytes = size_of::<f32>() as u64 * counts.sum::<u64>();
    let stored: usize = reader.sections().iter().map(|part| part.bytes.len()).sum();
    let most = (stored as u64).saturating_mul(limits::WEIGHT_BYTES_PER_BYTE);
    if bytes > most.max(limits::BASE_WEIGHT_BYTES) {
        return Err(Error::new(format!("weights of {} MiB", bytes >> 20))
            .expected("no more than a file of this size can hold")
            .hint("the file is damaged, or was made to take memory: compile the network again"));
    }
    Ok(memory::check(bytes)?)
}

fn required<'a>(reader: &Reader<'a>, kind: Kind, name: &str) -> Result<&'a [u8]> {
    reader.section(kind, name).ok_or_else(|| {
        Error::new(format!("no section {name} of kind {kind}"))
            .expected("a complete .skim file")
            .hint("compile the network again")
    })
}
