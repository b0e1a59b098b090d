//! `skimjit export`.

use super::args::ModelArguments;
use super::output::Output;
use clap::ValueEnum;
use safetensors::tensor::{Dtype, View};
use serde::Serialize;
use skimjit::models::artifact::container::MAGIC;
use skimjit::models::caffe::proto::{BlobProto, LayerParameter, NetParameter};
use skimjit::models::caffe::{self, blob, upgrade::upgrade_net};
use skimjit::models::{Error as InputError, Graph, Op, Tensor};
use skimjit::{Error, Result, array};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Writes the weights of a network, pruned or not, for other programs.
///
/// A .caffemodel keeps the layers of the network it is made from. Made from a .skim file it holds names
/// and blobs, which Caffe and skimjit take together with the prototxt. In .safetensors and .npz files
/// blob 0 of layer conv1 is conv1.0, in Caffe's shapes. Weights that are zero stay zero.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit export net.skim net.caffemodel
  skimjit export net.caffemodel net.safetensors")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Format of the file, when its name does not say
    #[arg(long)]
    format: Option<Format>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Formats of weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Caffe's binary network
    Caffemodel,
    /// Named tensors
    Safetensors,
    /// NumPy's archive
    Npz,
}

#[derive(Serialize)]
struct Report {
    output: PathBuf,
    format: Format,
    tensors: usize,
    elements: u64,
    zeros: u64,
    /// A caffemodel without wiring, for use with the prototxt.
    weights_only: bool,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let format = arguments.format()?;
    let net = arguments.network()?;
    let wired = net.layer.iter().any(|layer| !layer.bottom.is_empty());
    let tensors = named(&net).map_err(|error| error.file(&arguments.model.model))?;
    match format {
        Format::Safetensors => write_safetensors(&tensors, &arguments.output)?,
        Format::Npz => write_npz(&tensors, &arguments.output)?,
        Format::Caffemodel => caffe::write_caffemodel(&net, &arguments.output)?,
    }
    let data = || tensors.values().flat_map(Tensor::data);
    let report = Report {
        output: arguments.output.clone(),
        format,
        tensors: tensors.len(),
        elements: data().count() as u64,
        zeros: data().filter(|&&w| w == 0.0).count() as u64,
        weights_only: format == Format::Caffemodel && !wired,
    };
    if arguments.json {
        return out.json(&report);
    }
    let note = if report.weights_only {
        "; names and blobs only: use it with the prototxt"
    } else {
        ""
    };
    out.line(format!(
        "{}: {} tensors, {} elements, {:.2} % zeros{note}",
        report.output.display(),
        report.tensors,
        report.elements,
        100.0 * report.zeros as f64 / report.elements.max(1) as f64
    ));
    Ok(())
}

impl Arguments {
    fn format(&self) -> Result<Format> {
        let extension = self
            .output
            .extension()
            .and_then(|extension| extension.to_str());
        let named = extension.and_then(|extension| Format::from_str(extension, true).ok());
        self.format.or(named).ok_or_else(|| {
            Error::Usage(format!(
                "OUT: found {}, expected a name that ends in .caffemodel, .safetensors or .npz, or --format",
                self.output.display()
            ))
        })
    }

    /// Layers with their blobs. A caffemodel alone is taken as it is, wired or not.
    fn network(&self) -> Result<NetParameter> {
        let file = &self.model.model;
        let prototxt = &self.model.reading.prototxt;
        if prototxt.is_none() && !starts_with(file, &MAGIC)? {
            let net = upgrade_net(caffe::read_caffemodel(file)?);
            let mut net = net.map_err(|error| error.file(file))?;
            let limit = self.model.reading.zero_below;
            limit.iter().for_each(|&limit| zero_below(&mut net, limit));
            return Ok(net);
        }
        let model = self.model.load()?;
        let definition = match prototxt {
            None => NetParameter::default(),
            Some(prototxt) => {
                let (net, _) = caffe::read_prototxt(prototxt)?;
                upgrade_net(net).map_err(|error| error.file(prototxt))?
            }
        };
        with_weights(definition, model.graph())
    }
}

fn starts_with(path: &Path, magic: &[u8]) -> Result<bool> {
    let unreadable = |error: std::io::Error| InputError::new(error.to_string()).file(path);
    let mut start = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    let read = file.take(magic.len() as u64).read_to_end(&mut start);
    read.map_err(unreadable)?;
    Ok(start == magic)
}

/// Small weights of convolutions and inner products become 0.
fn zero_below(net: &mut NetParameter, limit: f32) {
    let kinds = ["Convolution", "Deconvolution", "InnerProduct"];
    let prunable =
        |layer: &&mut LayerParameter| kinds.iter().any(|kind| layer.r#type().starts_with(kind));
    for blob in net
        .layer
        .iter_mut()
        .filter(prunable)
        .filter_map(|layer| layer.blobs.first_mut())
    {
        let small = blob.data.iter_mut().filter(|weight| weight.abs() <= limit);
        small.for_each(|weight| *weight = 0.0);
    }
}

/// Layer of a node: nodes of further tops and of parts are named `layer[1]` and `layer/part`.
fn layer_name<'a>(node: &'a str, graph: &Graph, layers: &[LayerParameter]) -> &'a str {
    if layers.iter().any(|layer| layer.name() == node) {
        return node;
    }
    let known = |name: &str| {
        layers.iter().any(|layer| layer.name() == name)
            || graph.nodes.iter().any(|other| other.name == name)
    };
    match node.rsplit_once(['[', '/']) {
        Some((layer, _)) if known(layer) => layer,
        _ => node,
    }
}

/// Weights of the layers, in the order of the graph; shared ones with each of their layers.
fn by_layer<'g>(
    graph: &'g Graph,
    layers: &[LayerParameter],
) -> Vec<(String, Vec<&'g Arc<Tensor>>)> {
    let mut found: Vec<(String, Vec<&Arc<Tensor>>)> = Vec::new();
    for node in &graph.nodes {
        let weights = node.op.weights();
        let name = layer_name(&node.name, graph, layers);
        let is_constant = matches!(node.op, Op::Constant(_) | Op::Loss(_));
        if weights.is_empty() || is_constant || found.iter().any(|(known, _)| known == name) {
            continue;
        }
        let tensors = weights.into_iter().map(|id| graph.weight(id)).collect();
        found.push((name.to_owned(), tensors));
    }
    found
}

/// Blobs by layer and index.
fn named(net: &NetParameter) -> std::result::Result<BTreeMap<String, Tensor>, InputError> {
    let mut all = BTreeMap::new();
    for layer in &net.layer {
        for (index, blob) in layer.blobs.iter().enumerate() {
            let tensor = blob::take_tensor(&mut blob.clone());
            let at = |error: InputError| error.layer(layer.name()).field(format!("blobs[{index}]"));
            all.insert(format!("{}.{index}", layer.name()), tensor.map_err(at)?);
        }
    }
    Ok(all)
}

/// Puts the graph's weights into the layers of a definition, or makes layers of them.
fn with_weights(mut net: NetParameter, graph: &Graph) -> Result<NetParameter> {
    let wired = !net.layer.is_empty();
    for (name, tensors) in by_layer(graph, &net.layer) {
        let blobs: Vec<BlobProto> = tensors
            .into_iter()
            .map(|tensor| blob::from_tensor((**tensor).clone()))
            .collect();
        match net.layer.iter_mut().find(|layer| layer.name() == name) {
            Some(layer) => layer.blobs = blobs,
            None if wired => {
                let error = InputError::new("weights of a layer that the definition does not have");
                return Err(error
                    .layer(name)
                    .hint("export to .safetensors or .npz")
                    .into());
            }
            None => net.layer.push(LayerParameter {
                name: Some(name),
                blobs,
                ..LayerParameter::default()
            }),
        }
    }
    Ok(net)
}

/// A tensor as the library takes it.
struct Named<'a> {
    tensor: &'a Tensor,
    shape: Vec<usize>,
}

impl View for Named<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(
            self.tensor
                .data()
                .iter()
                .flat_map(|x| x.to_le_bytes())
                .collect(),
        )
    }
    fn data_len(&self) -> usize {
        4 * self.tensor.data().len()
    }
}

fn failed(path: &Path) -> impl Fn(String) -> InputError {
    move |text: String| {
        InputError::new(format!("an error when writing: {text}"))
            .file(path)
            .hint("check the path and the free space")
    }
}

fn write_safetensors(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let views = tensors.iter().map(|(name, tensor)| {
        let shape = tensor
            .shape()
            .dims()
            .iter()
            .map(|&dim| dim as usize)
            .collect();
        (name.clone(), Named { tensor, shape })
    });
    let written = safetensors::serialize_to_file(views, None, path);
    Ok(written.map_err(|error| failed(path)(error.to_string()))?)
}

fn write_npz(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let failed = failed(path);
    let file = File::create(path).map_err(|error| failed(error.to_string()))?;
    let mut archive = zip::ZipWriter::new(BufWriter::new(file));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for (name, tensor) in tensors {
        archive
            .start_file(format!("{name}.npy"), options)
            .map_err(|error| failed(error.to_string()))?;
        let mut elements = BufWriter::new(&mut archive);
        let written = array::write_npy_to(&mut elements, tensor).and_then(|()| elements.flush());
        written.map_err(|error| failed(error.to_string()))?;
    }
    let sink = archive
        .finish()
        .map_err(|error| failed(error.to_string()))?;
    sink.into_inner()
        .map_err(|error| failed(error.to_string()))?;
    Ok(())
}
