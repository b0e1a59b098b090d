//! Inputs and outputs of a model, and what is known of their shapes.

use super::build::{Build, Known, Value};
use super::{BATCHES, ImportOptions};
use crate::element::{self, Element, Kind};
use crate::proto::{GraphProto, ValueInfoProto};
use skimjit_models::{Error, Graph, Result, Shape};
use std::collections::{HashMap, HashSet};

/// A dim as the file has it.
#[derive(Clone, PartialEq, Debug)]
enum Dim {
    Size(u32),
    /// By a name, which may be empty.
    Open(String),
}

struct Input<'a> {
    name: &'a str,
    /// Axis 0 is the batch.
    batched: bool,
    dims: Vec<u32>,
}

/// Inputs that are no initializers, and the outputs.
pub(super) struct Interface<'a> {
    inputs: Vec<Input<'a>>,
    outputs: Vec<(&'a str, Option<Vec<Dim>>)>,
    /// Images that the graph is to be for.
    pub batch: u32,
    /// The batch that the file says, where it says one.
    written: Option<i64>,
}

impl<'a> Interface<'a> {
    pub fn of(graph: &'a GraphProto, options: &ImportOptions) -> Result<Self> {
        let initializers = graph.initializer.iter().map(|one| one.name());
        let sparse = graph
            .sparse_initializer
            .iter()
            .filter_map(|one| one.values.as_ref());
        let initializers: HashSet<&str> =
            initializers.chain(sparse.map(|one| one.name())).collect();
        let infos = graph
            .input
            .iter()
            .filter(|input| !initializers.contains(input.name()));
        let infos: Vec<&ValueInfoProto> = infos.collect();
        check_names(&infos, options)?;
        let mut written = Vec::new();
        for info in &infos {
            written.push(dims(info)?);
        }
        let first = written
            .first()
            .and_then(|dims| dims.as_ref()?.first())
            .cloned();
        let mut inputs = Vec::new();
        for (index, (info, dims)) in infos.iter().zip(&written).enumerate() {
            let given = options.input_shapes.iter().find(|(name, _)| match name {
                Some(name) => name == info.name(),
                None => index == 0,
            });
            let of_batch = |dims: &Vec<Dim>| first.is_some() && dims.first() == first.as_ref();
            inputs.push(Input {
                name: info.name(),
                batched: dims.as_ref().is_some_and(of_batch),
                dims: known(info.name(), dims.as_deref(), given.map(|(_, shape)| shape))?,
            });
        }
        let outputs = graph.output.iter().map(|output| {
            let dims = if output.r#type.is_some() {
                dims(output).ok().flatten()
            } else {
                None
            };
            (output.name(), dims)
        });
        let batch = inputs
            .first()
            .and_then(|input| input.dims.first().copied())
            .unwrap_or(1);
        Ok(Self {
            outputs: outputs.collect(),
            batch,
            written: match first {
                Some(Dim::Size(size)) => Some(size.into()),
                _ => None,
            },
            inputs,
        })
    }

    /// A graph for a batch that stays open.
    pub fn open_batch(&self) -> Build {
        Build::new(BATCHES[0], Some(BATCHES[1]), self.written)
    }

    /// The same with the two batches exchanged.
    pub fn other_batch(&self) -> Build {
        Build::new(BATCHES[1], Some(BATCHES[0]), self.written)
    }

    /// A graph for the one batch that is asked for.
    pub fn fixed_batch(&self) -> Build {
        Build::new(self.batch, None, None)
    }

    /// Adds the inputs to a graph.
    pub fn add_to(
        &self,
        build: &mut Build,
        names: &mut HashMap<&'a str, Option<Known>>,
    ) -> Result<()> {
        for input in &self.inputs {
            let at = |error: Error| error.field(format!("input \"{}\"", input.name));
            let id = build
                .input(input.name, &input.dims, input.batched)
                .map_err(at)?;
            let kind = Kind::Float;
            names.insert(input.name, Some(Known::Value(Value { id, kind })));
        }
        Ok(())
    }

    /// An output of another shape than the file says; the shapes are those for the batch.
    pub fn mismatch(&self, graph: &Graph) -> Option<String> {
        let outputs = self.outputs.iter().zip(&graph.outputs);
        let wrong = |(name, dims): &(&str, Option<Vec<Dim>>), shape: &Shape| {
            let dims = dims.as_ref()?;
            let same = |(axis, (dim, &found)): (usize, (&Dim, &u32))| match dim {
                Dim::Open(_) => true,
                // Another batch than the file's may have been asked for.
                Dim::Size(size) => *size == found || axis == 0,
            };
            let fits =
                dims.len() == shape.rank() && dims.iter().zip(shape.dims()).enumerate().all(same);
            let sizes: Vec<String> = dims.iter().map(Dim::text).collect();
            (!fits).then(|| {
                format!(
                    "output \"{name}\" is {shape}, while the file says {}",
                    sizes.join("x")
                )
            })
        };
        outputs
            .filter_map(|(output, &id)| wrong(output, graph.shape(id)))
            .next()
    }
}

impl Dim {
    fn text(&self) -> String {
        match self {
            Self::Size(size) => size.to_string(),
            Self::Open(name) if name.is_empty() => "?".to_owned(),
            Self::Open(name) => name.clone(),
        }
    }
}

/// Refuses inputs of one name, and shapes for inputs that there are not.
fn check_names(infos: &[&ValueInfoProto], options: &ImportOptions) -> Result<()> {
    let mut names = HashSet::new();
    if let Some(info) = infos.iter().find(|info| !names.insert(info.name())) {
        let found = format!("two inputs \"{}\"", info.name());
        return Err(Error::new(found).expected("names of their own"));
    }
    let first = infos.first().map(|info| info.name());
    let mut shaped = HashSet::new();
    for (name, _) in &options.input_shapes {
        let Some(name) = name.as_deref().or(first) else {
            continue;
        };
        if !shaped.insert(name) {
            let found = Error::new("two shapes").field(format!("input \"{name}\""));
            return Err(found.expected("one"));
        }
        if !infos.iter().any(|info| info.name() == name) {
            let names: Vec<&str> = infos.iter().map(|info| info.name()).collect();
            return Err(Error::new(format!("no input \"{name}\""))
                .expected(format!("one of: {}", names.join(", "))));
        }
    }
    Ok(())
}

/// Dims of an input or output, where the file says how many there are.
fn dims(info: &ValueInfoProto) -> Result<Option<Vec<Dim>>> {
    let at = |error: Error| error.field(format!("input \"{}\"", info.name()));
    let tensor = info
        .r#type
        .as_ref()
        .and_then(|one| one.tensor_type.as_ref());
    let Some(tensor) = tensor else {
        return Err(at(Error::new("no tensor").expected("a tensor")));
    };
    let element = Element::of(tensor.elem_type()).map_err(at)?;
    if element.number != element::FLOAT {
        return Err(at(Error::new(format!("elements of type {}", element.name))
            .expected("float")
            .hint("what gives shapes can be made an initializer, and a Cast in front of the network left out")));
    }
    let Some(shape) = &tensor.shape else {
        return Ok(None);
    };
    if shape.dim.len() > Shape::MAX_RANK {
        return Err(at(Error::new(format!("{} axes", shape.dim.len()))
            .expected(format!("at most {}", Shape::MAX_RANK))));
    }
    let dim = |dim: &crate::proto::tensor_shape_proto::Dimension| match dim.dim_value {
        // Some exporters write −1 or 0 for what is open.
        Some(size) if size > 0 => u32::try_from(size)
            .map(Dim::Size)
            .map_err(|_| at(Error::new(size.to_string()).expected("sizes of 32 bits"))),
        _ => Ok(Dim::Open(dim.dim_param().to_owned())),
    };
    shape.dim.iter().map(dim).collect::<Result<_>>().map(Some)
}

/// Dims as they are to be: as the file says, or the caller, or 1 for an open batch.
fn known(name: &str, written: Option<&[Dim]>, given: Option<&Shape>) -> Result<Vec<u32>> {
    let at = |error: Error| error.field(format!("input \"{name}\""));
    match (written, given) {
        (None, None) => Err(at(Error::new("no shape").expected("a shape").hint(
            format!("say it: --input-shape {name}=1,3,224,224, for example"),
        ))),
        (None, Some(given)) => Ok(given.dims().to_vec()),
        (Some(written), Some(given)) if written.len() != given.rank() => Err(at(Error::new(
            format!("shape {given}"),
        )
        .expected(format!("{} axes", written.len())))),
        (Some(_), Some(given)) => Ok(given.dims().to_vec()),
        (Some(written), None) => {
            let open = written.iter().enumerate().skip(1);
            let open: Vec<String> = open
                .filter(|(_, dim)| matches!(dim, Dim::Open(_)))
                .map(|(axis, dim)| format!("{axis} ({})", dim.text()))
                .collect();
            if !open.is_empty() {
                let axes = if open.len() == 1 { "axis" } else { "axes" };
                return Err(at(Error::new(format!(
                    "no size for {axes} {}",
                    open.join(", ")
                ))
                .expected("sizes")
                .hint(format!(
                    "say them: --input-shape {name}=1,3,224,224, for example"
                ))));
            }
            let size = |dim: &Dim| match dim {
                Dim::Size(size) => *size,
                Dim::Open(_) => 1,
            };
            Ok(written.iter().map(size).collect())
        }
    }
}
