//! The layers of a network with their blobs, from whatever file it is in.

use crate::support::args::ModelArguments;
use skimjit::Result;
use skimjit_caffe as caffe;
use skimjit_caffe::proto::{BlobProto, LayerParameter, NetParameter};
use skimjit_caffe::{blob, unknown, upgrade::upgrade_net};
use skimjit_models::artifact::container::MAGIC;
use skimjit_models::{Error as InputError, Graph, Node, Op, Shape, Tensor};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What is exported.
pub struct Network {
    pub net: NetParameter,
    /// The layers say what they take and make.
    pub wired: bool,
    /// What could not be taken over.
    pub notes: Vec<String>,
}

/// Reads a network. A caffemodel alone is taken as it is, whatever its layers are; a prototxt gets the
/// weights that import checked.
pub fn read(arguments: &ModelArguments) -> Result<Network> {
    let file = &arguments.model;
    let mut notes = Vec::new();
    let mut net = if is_graph(file)? {
        let model = arguments.load()?;
        weights_of(model.graph(), &mut notes)
    } else {
        let mut stored = stored(file)?;
        if arguments.reading.care.ignore_unknown_fields {
            unknown::forget_moved(&mut stored);
        }
        match &arguments.reading.prototxt {
            None => stored,
            Some(prototxt) => {
                let model = arguments.load()?;
                // Its warnings have been printed.
                let care = arguments.reading.care.care();
                let mut net = caffe::read_definition(prototxt, care, &mut |_| ())?;
                unknown::refuse_in_text(&net).map_err(|error| error.file(prototxt))?;
                put_weights(&mut net, model.graph())?;
                put_stored(&mut net, &stored);
                net
            }
        }
    };
    if let Some(limit) = arguments.reading.zero_below {
        zero_below(&mut net, limit).map_err(|error| error.file(file))?;
    }
    let wired = net.layer.iter().any(|layer| !layer.bottom.is_empty());
    Ok(Network { net, wired, notes })
}

/// The network as Caffe can read it: every layer has all its blobs.
pub fn complete(net: &NetParameter) -> std::result::Result<&NetParameter, InputError> {
    let lacks = |layer: &&LayerParameter| layer.blobs.iter().any(blob::is_absent);
    match net.layer.iter().find(lacks) {
        None => Ok(net),
        Some(layer) => Err(InputError::new("a parameter that another layer owns")
            .layer(layer.name())
            .expected("all blobs of the layer")
            .hint("pass --prototxt, which says whose it is")),
    }
}

/// True for files of which there is only a graph: artifacts and ONNX models.
fn is_graph(path: &Path) -> Result<bool> {
    let unreadable = |error: std::io::Error| InputError::new(error.to_string()).file(path);
    let mut start = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(1 << 16).read_to_end(&mut start).map_err(unreadable)?;
    Ok(start.starts_with(&MAGIC) || skimjit_onnx::is_model(&start))
}

/// A caffemodel in today's form: layers, shapes and single-precision values.
fn stored(file: &Path) -> Result<NetParameter> {
    let net = upgrade_net(caffe::read_caffemodel(file)?);
    let mut net = net.map_err(|error| error.file(file))?;
    for layer in &mut net.layer {
        let kind = Kind::of(layer);
        for (index, blob) in layer.blobs.iter_mut().enumerate() {
            let upgraded = upgrade_blob(blob, kind, index);
            upgraded.map_err(|error| {
                error
                    .layer(layer.name.clone().unwrap_or_default())
                    .file(file)
            })?;
        }
    }
    Ok(net)
}

/// What the shape of a layer's first blob, and pruning, depend on.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Convolution,
    InnerProduct,
    Other,
    /// HDF5 files do not tell.
    Unknown,
}

impl Kind {
    fn of(layer: &LayerParameter) -> Self {
        let name = layer.r#type().to_ascii_lowercase();
        let holds = |word| name.contains(word);
        match () {
            () if name.is_empty() => Self::Unknown,
            () if holds("convolution") || holds("winograd") => Self::Convolution,
            () if holds("innerproduct") => Self::InnerProduct,
            () => Self::Other,
        }
    }

    /// Axes of a blob; old files have four of every one, with ones in front.
    fn rank(self, index: usize) -> Option<usize> {
        match (self, index) {
            (Self::Unknown, _) => None,
            (Self::Convolution, 0) => Some(4),
            (Self::InnerProduct, 0) => Some(2),
            _ => Some(1),
        }
    }
}

/// Gives a blob the shape and the number format that Caffe writes today.
fn upgrade_blob(
    old: &mut BlobProto,
    kind: Kind,
    index: usize,
) -> std::result::Result<(), InputError> {
    if blob::is_absent(old) {
        return Ok(());
    }
    let legacy = blob::has_legacy_shape(old);
    let at = |mut error: InputError| {
        let part = error.field.take().unwrap_or_default();
        error.field(format!("blobs[{index}].{part}"))
    };
    let tensor = blob::take_tensor(old).map_err(at)?;
    let mut dims = tensor.shape().dims();
    match kind.rank(index) {
        Some(rank) if legacy => {
            while let [1, rest @ ..] = dims
                && dims.len() > rank
            {
                dims = rest;
            }
        }
        // Only with its four numbers does Caffe allow the ones in front.
        None if legacy => {
            old.data = tensor.into_data();
            (old.shape, old.raw_data_type) = (None, None);
            return Ok(());
        }
        _ => {}
    }
    let shape = Shape::new(dims).map_err(at)?;
    let unknown_fields = std::mem::take(&mut old.unknown_fields);
    *old = BlobProto {
        unknown_fields,
        ..blob::from_tensor(Tensor::new(shape, tensor.into_data()))
    };
    Ok(())
}

/// Small weights of convolutions and inner products become 0.
fn zero_below(net: &mut NetParameter, limit: f32) -> std::result::Result<(), InputError> {
    for layer in &mut net.layer {
        let kind = Kind::of(layer);
        let Some(blob) = layer.blobs.first_mut().filter(|_| kind != Kind::Other) else {
            continue;
        };
        if kind == Kind::Unknown {
            return Err(InputError::new("a threshold for weights of unknown layers")
                .field("--zero-below")
                .expected("layers with types")
                .hint("pass --prototxt: only convolutions and inner products are pruned"));
        }
        let small = blob.data.iter_mut().filter(|weight| weight.abs() <= limit);
        small.for_each(|weight| *weight = 0.0);
    }
    Ok(())
}

/// Layer that the weights of a node belong to. The convolution of a fused layer and the steps of a
/// recurrent one are named `layer/part`, nodes of further tops `layer[1]`; but layers can have such names
/// too.
fn layer_of<'n>(node: &'n Node, graph: &Graph, net: &NetParameter) -> &'n str {
    let name = node.name.as_str();
    if net.layer.iter().any(|layer| layer.name() == name) {
        return name;
    }
    let pooled = |layer: &str| {
        graph.nodes.iter().any(|other| {
            let named = other.name == layer || other.name.strip_suffix("/pool") == Some(layer);
            let takes = other.inputs.contains(&node.output);
            named && takes && matches!(&other.op, Op::Pooling(pooling) if pooling.relu)
        })
    };
    let part = match &node.op {
        Op::Recurrent(_) => name.strip_suffix("/steps"),
        Op::Convolution(_) => name.strip_suffix("/conv").filter(|layer| pooled(layer)),
        _ => None,
    };
    part.or_else(|| first_top(node, graph)).unwrap_or(name)
}

/// Name of the node of the layer's first top, with the same weights.
fn first_top<'n>(node: &'n Node, graph: &Graph) -> Option<&'n str> {
    let (layer, index) = node.name.strip_suffix(']')?.rsplit_once('[')?;
    index.parse::<usize>().ok()?;
    let weights = node.op.weights();
    let mut nodes = graph.nodes.iter();
    let first = |other: &Node| other.name == layer && other.op.weights() == weights;
    nodes.any(first).then_some(layer)
}

/// Nodes with weights that files hold, and their layers, each layer once.
fn owners<'g>(graph: &'g Graph, net: &NetParameter) -> Vec<(&'g str, &'g Node)> {
    let mut found: Vec<(&str, &Node)> = Vec::new();
    for node in &graph.nodes {
        // The matrix of an InfogainLoss has a file of its own.
        let is_learned = !matches!(node.op, Op::Loss(_)) && !node.op.weights().is_empty();
        let layer = layer_of(node, graph, net);
        if is_learned && !found.iter().any(|(known, _)| *known == layer) {
            found.push((layer, node));
        }
    }
    found
}

fn blobs(graph: &Graph, node: &Node) -> Vec<BlobProto> {
    let tensors = node.op.weights().into_iter().map(|id| graph.weight(id));
    tensors
        .map(|weight| blob::from_tensor(weight.to_tensor()))
        .collect()
}

/// Layers of names and blobs.
fn weights_of(graph: &Graph, notes: &mut Vec<String>) -> NetParameter {
    let mut net = NetParameter {
        name: Some(graph.name.clone()),
        ..NetParameter::default()
    };
    for (layer, node) in owners(graph, &NetParameter::default()) {
        if matches!(node.op, Op::Constant(_)) {
            notes.push(format!(
                "layer \"{layer}\": a constant is left out, as an artifact does not tell a Parameter layer \
                 from a DummyData layer; export the caffemodel"
            ));
            continue;
        }
        net.layer.push(LayerParameter {
            name: Some(layer.to_owned()),
            r#type: Some(node.op.name().to_owned()),
            blobs: blobs(graph, node),
            ..LayerParameter::default()
        });
    }
    net
}

/// Puts the graph's weights into the layers of a definition.
fn put_weights(net: &mut NetParameter, graph: &Graph) -> Result<()> {
    for (layer, node) in owners(graph, net) {
        let is_constant = matches!(node.op, Op::Constant(_));
        let mut known = false;
        for target in net.layer.iter_mut().filter(|target| target.name() == layer) {
            known = true;
            if !is_constant || target.r#type() == "Parameter" {
                target.blobs = blobs(graph, node);
            }
        }
        if !known {
            let error = InputError::new("weights of a layer that the definition does not have");
            let hint = "export to .safetensors or .npz without --prototxt";
            return Err(error.layer(layer).hint(hint).into());
        }
    }
    Ok(())
}

/// Layers that the network of the test phase does not use keep what the file has.
fn put_stored(net: &mut NetParameter, stored: &NetParameter) {
    for layer in stored.layer.iter().filter(|layer| !layer.blobs.is_empty()) {
        let same = |target: &&mut LayerParameter| target.name() == layer.name();
        for target in net.layer.iter_mut().filter(same) {
            if target.blobs.is_empty() {
                target.blobs.clone_from(&layer.blobs);
            }
        }
    }
}
