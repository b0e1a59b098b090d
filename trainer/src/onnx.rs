//! Networks of ONNX files: what an engine runs of them, and what is written back.

use crate::engine::Engine;
use crate::layer::LayerSpec;
use crate::net::Net;
use skimjit_models::{
    Connectivity, Error, Graph, Node, Op, Parameter, Place, Result, Shape, Training, Warning,
    Weight, WeightId,
};
use skimjit_onnx::{ExportOptions, ImportOptions, Model};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Images that are computed together at most.
const MOST_IMAGES: u32 = 16;
/// Bytes that all values of a network may take for more than one image.
const MOST_BYTES: u64 = 1 << 30;

/// The network of an ONNX file.
pub struct OnnxNetwork {
    /// As the file has it, but that no two parameters are one weight.
    graph: Graph,
    /// What an engine may change, in the order of its parameters.
    parameters: Vec<Parameter>,
    /// Names of nodes with parameters, by node: no two are the same.
    names: HashMap<usize, String>,
    /// What is odd about the file.
    pub warnings: Vec<Warning>,
}

/// What a network is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To compute what it computes in use.
    Use,
    /// To gather the statistics of BatchNormalizations: each normalises by those of its batch.
    Statistics,
}

impl OnnxNetwork {
    /// Reads a file; shapes of inputs as [`ImportOptions`] has them.
    pub fn read(path: &Path, input_shapes: Vec<(Option<String>, Shape)>) -> Result<Self> {
        let options = ImportOptions {
            input_shapes,
            ..ImportOptions::default()
        };
        let imported = skimjit_onnx::import(&Model::read(path)?, &options)?;
        let network = Self::of_graph(imported.graph, imported.warnings);
        network.map_err(|error: Error| error.file(path))
    }

    fn of_graph(mut graph: Graph, warnings: Vec<Warning>) -> Result<Self> {
        let net = Net::of_graph(graph.clone(), Training::default(), false);
        let layers = LayerSpec::all(&net)?;
        let has_parameters = |index: usize| layers[index].kind.has_parameters();
        let names = names(&graph.nodes, &has_parameters);
        let parameters = parameters(&mut graph, &names);
        Ok(Self {
            graph,
            parameters,
            names,
            warnings,
        })
    }

    /// The network as its file has it.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// True when statistics can be gathered anew.
    pub fn has_batch_norm(&self) -> bool {
        let nodes = self.graph.nodes.iter();
        nodes
            .map(|node| &node.op)
            .any(|op| matches!(op, Op::BatchNorm(_)))
    }

    /// How many of so many images are computed together: all runs have the same number, so it divides them.
    pub fn batch_for(&self, images: u32) -> Result<u32> {
        let values = self
            .graph
            .values
            .iter()
            .map(|value| value.shape.count() as u64);
        let own = self
            .graph
            .inputs
            .first()
            .map_or(1, |&id| self.graph.shape(id).dim(0));
        let of_image = 4 * values.sum::<u64>() / u64::from(own.max(1));
        let fits = |batch: u32| batch == 1 || of_image.saturating_mul(batch.into()) <= MOST_BYTES;
        let takes = |batch: u32| self.graph.with_batch(batch).is_ok();
        let mut batches = (1..=images.min(MOST_IMAGES)).rev();
        let found =
            batches.find(|&batch| images.is_multiple_of(batch) && fits(batch) && takes(batch));
        let found = found.or_else(|| images.is_multiple_of(own).then_some(own));
        found.ok_or_else(|| {
            Error::new(format!("{images} images"))
                .expected(format!(
                    "a multiple of {own}, the batch that the network is for"
                ))
                .hint("give other numbers of inputs, or export the network with an open batch")
        })
    }

    /// The network for so many images.
    pub fn net(&self, batch: u32, purpose: Purpose) -> Result<Net> {
        let mut graph = self.graph.with_batch(batch)?;
        for (&index, name) in &self.names {
            let node = &mut graph.nodes[index];
            node.name.clone_from(name);
            node.part_of = None;
        }
        let gathers = purpose == Purpose::Statistics;
        for node in graph.nodes.iter_mut().filter(|_| gathers) {
            match &mut node.op {
                Op::BatchNorm(norm) => norm.running = false,
                // As in use: only the normalisations are those of training.
                Op::Dropout { .. } => node.op = Op::Identity,
                _ => {}
            }
        }
        let training = Training {
            parameters: self.parameters.clone(),
            ..Training::default()
        };
        Ok(Net::of_graph(graph, training, gathers))
    }

    /// Refuses a network that could not be written, before anything is computed for it.
    pub fn check_writable(&self) -> Result<()> {
        skimjit_onnx::exported(&self.graph, ExportOptions::default()).map(|_| ())
    }

    /// The network with the parameters that an engine has, whose first network is one of this.
    pub fn changed(&self, engine: &mut dyn Engine) -> Result<Graph> {
        let mut graph = self.graph.clone();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let weight = &mut graph.weights[parameter.weight.0 as usize];
            engine.read(index, &mut |_, state| {
                if weight.data() != state.data {
                    *weight = Arc::new(Weight::dense(weight.shape().clone(), state.data.clone()));
                }
            });
        }
        engine.check()?;
        Ok(graph)
    }

    /// Writes the network with the parameters that an engine has.
    pub fn write(&self, engine: &mut dyn Engine, path: &Path) -> Result<()> {
        skimjit_onnx::write(&self.changed(engine)?, ExportOptions::default(), path).map(|_| ())
    }
}

/// Names for nodes with parameters: that of the file's node, that of its part, or with a number.
fn names(nodes: &[Node], has_parameters: &dyn Fn(usize) -> bool) -> HashMap<usize, String> {
    let mut taken = HashSet::new();
    let mut names = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        if !has_parameters(index) || node.op.weights().is_empty() {
            continue;
        }
        let plain = [node.layer(), &node.name].map(str::to_owned).into_iter();
        let numbered = (index..).map(|number| format!("{}#{number}", node.name));
        let name = plain.chain(numbered).find(|name| !taken.contains(name));
        let name = name.unwrap_or_default();
        taken.insert(name.clone());
        names.insert(index, name);
    }
    names
}

/// Lists the parameters of the nodes that have names. A weight stays shared where the nodes share all that comes
/// before it: an offset that two layers use, each behind weights of its own, becomes two, as pruning one of them
/// changes it; and so does what a node uses too that has no parameters.
fn parameters(graph: &mut Graph, names: &HashMap<usize, String>) -> Vec<Parameter> {
    let others = graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| !names.contains_key(index));
    let mut used: HashSet<WeightId> = others.flat_map(|(_, node)| node.op.weights()).collect();
    let mut known: HashMap<(WeightId, usize, WeightId), usize> = HashMap::new();
    let mut parameters: Vec<Parameter> = Vec::new();
    for index in 0..graph.nodes.len() {
        let Some(name) = names.get(&index) else {
            continue;
        };
        let ids = graph.nodes[index].op.weights();
        let mut own = Vec::new();
        for (at, &id) in ids.iter().enumerate() {
            let number = *known.entry((ids[0], at, id)).or_insert_with(|| {
                parameters.push(parameter(separate(graph, &mut used, id)));
                parameters.len() - 1
            });
            parameters[number].places.push(Place {
                layer: name.clone(),
                layer_index: index,
                index: at,
            });
            own.push(parameters[number].weight);
        }
        let places = graph.nodes[index].op.weights_mut().into_iter();
        places.zip(own).for_each(|(place, id)| *place = id);
    }
    parameters
}

/// A weight that nobody uses yet, with the values of another.
fn separate(graph: &mut Graph, used: &mut HashSet<WeightId>, id: WeightId) -> WeightId {
    if used.insert(id) {
        return id;
    }
    graph.weights.push(Arc::clone(graph.weight(id)));
    let new = WeightId(graph.weights.len() as u32 - 1);
    used.insert(new);
    new
}

/// Of which an ONNX file says nothing more.
fn parameter(weight: WeightId) -> Parameter {
    Parameter {
        weight,
        places: Vec::new(),
        lr_mult: None,
        decay_mult: None,
        regularization: None,
        breadth_decay_mult: 1.0,
        kernel_shape_decay_mult: 1.0,
        block_group_lasso: Vec::new(),
        connectivity: Connectivity::Free,
    }
}
