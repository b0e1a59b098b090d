//! `skimjit dump`.

mod patterns;

use crate::support::args::{ModelArguments, parse_magnitude};
use crate::support::matrix_market;
use crate::support::output::Output;
use skimjit_program::progress;
use crate::support::table::{Table, left, right};
use patterns::{Histogram, Matrix, Zeros};
use serde::Serialize;
use skimjit::{Result, array};
use skimjit_models::{Error as InputError, Graph, Op, Shape, Tensor, Weight, WeightId};
use std::path::{Path, PathBuf};

/// Writes the weights of convolutions and inner products as MatrixMarket files, and tells how their zeros
/// lie.
///
/// Rows are output channels (of a deconvolution: input channels); columns are (ic·kh + y)·kw + x, with
/// the input channels of the row's own group. Biases go beside them as .npy. `bench --mtx` reads the
/// matrices. Fibers and slices are SkimCaffe's: an oc fiber is one input channel and position over all
/// filters, an ic fiber one filter and position over all input channels, a kernel fiber one kernel; an
/// oc slice is a filter, an ic slice an input channel, a kernel slice a position. Input channels are
/// those of one group, and count for all groups together; columns are told for each group.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit dump net.caffemodel --output weights
  skimjit dump net.skim --histogram 8")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Folder to write the matrices to; without it only the tables are printed
    #[arg(long = "output", short = 'o', alias = "folder", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The old name of --zero-below
    #[arg(long, hide = true, allow_negative_numbers = true, value_parser = parse_magnitude)]
    #[arg(conflicts_with = "zero_below")]
    threshold: Option<f32>,
    /// Only these layers
    #[arg(long, value_name = "LAYER,...", value_delimiter = ',')]
    layers: Vec<String>,
    /// Print the N most frequent zero patterns of the kernels of each layer (up to 5×5); with --json,
    /// all
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "10")]
    histogram: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Layer {
    layer: String,
    shape: String,
    groups: u32,
    rows: usize,
    columns: usize,
    nonzeros: usize,
    zeros: Zeros,
    #[serde(skip_serializing_if = "Option::is_none")]
    patterns: Option<Histogram>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bias_file: Option<PathBuf>,
}

impl Arguments {
    fn threshold(&self) -> f32 {
        let given = self.threshold.or(self.model.reading.zero_below);
        given.unwrap_or(0.0)
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    // Artifacts are dumped with a threshold too: what it makes zero is decided here.
    let model = arguments.model.load_but_threshold()?;
    let graph = model.graph();
    let chosen = chosen(arguments, graph)?;
    if let Some(folder) = &arguments.folder {
        std::fs::create_dir_all(folder).map_err(|error| InputError::unwritable(folder, &error))?;
    }
    let bar = progress::bar("layers", chosen.len() as u64);
    let layers: Vec<Layer> = chosen
        .iter()
        .inspect(|_| bar.inc(1))
        .map(|prunable| layer(arguments, graph, prunable))
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    if arguments.json {
        return out.json(&layers);
    }
    out.table(&table(&layers));
    out.line(format!(
        "zeros in %; magnitude at most {:e} is zero",
        arguments.threshold()
    ));
    let most = arguments.histogram.unwrap_or_default();
    for layer in &layers {
        let histogram = layer.patterns.iter();
        histogram.for_each(|histogram| out.text(&histogram.text(&layer.layer, most)));
    }
    if let Some(folder) = &arguments.folder {
        out.line(format!("{} matrices in {}", layers.len(), folder.display()));
    }
    Ok(())
}

/// A layer whose weights can be pruned.
struct Prunable {
    name: String,
    /// Beginning of the names of its files, unlike those of all others.
    stem: String,
    weights: WeightId,
    bias: Option<WeightId>,
    groups: u32,
}

/// The layers asked for, each once.
fn chosen(arguments: &Arguments, graph: &Graph) -> Result<Vec<Prunable>> {
    let mut all: Vec<Prunable> = Vec::new();
    for node in &graph.nodes {
        let (weights, bias, groups) = match &node.op {
            Op::Convolution(op) | Op::Deconvolution(op) => (op.weights, op.bias, op.groups),
            Op::InnerProduct(op) => (op.weights, op.bias, 1),
            _ => continue,
        };
        if !all.iter().any(|known| known.weights == weights) {
            let name = node.name.clone();
            let stem = unique_stem(&name, &all);
            all.push(Prunable {
                name,
                stem,
                weights,
                bias,
                groups,
            });
        }
    }
    if let Some(missing) = arguments
        .layers
        .iter()
        .find(|name| !all.iter().any(|known| known.name == **name))
    {
        let names: Vec<&str> = all.iter().map(|known| known.name.as_str()).collect();
        return Err(
            InputError::new(format!("no convolution or inner product {missing:?}"))
                .field("--layers")
                .expected(format!("some of: {}", names.join(", ")))
                .into(),
        );
    }
    if !arguments.layers.is_empty() {
        all.retain(|known| arguments.layers.contains(&known.name));
    }
    Ok(all)
}

/// Names that differ in slashes only get numbers.
fn unique_stem(layer: &str, others: &[Prunable]) -> String {
    let stem = matrix_market::file_stem(layer);
    // File systems may not tell large letters from small ones.
    let taken = |stem: &String| {
        let same = |other: &Prunable| other.stem.to_lowercase() == stem.to_lowercase();
        others.iter().any(same)
    };
    let numbered = (2u32..).map(|number| format!("{stem}.{number}"));
    let mut stems = std::iter::once(stem.clone()).chain(numbered);
    stems.find(|stem| !taken(stem)).unwrap_or(stem)
}

fn layer(arguments: &Arguments, graph: &Graph, prunable: &Prunable) -> Result<Layer> {
    let tensor = graph.weight(prunable.weights);
    let threshold = arguments.threshold();
    let matrix = Matrix::new(tensor.shape(), tensor.data(), prunable.groups, threshold);
    let size = matrix.size();
    let (file, bias_file) = match &arguments.folder {
        Some(folder) => write_files(folder, graph, prunable, size, threshold)?,
        None => (None, None),
    };
    Ok(Layer {
        layer: prunable.name.clone(),
        shape: tensor.shape().to_string(),
        groups: prunable.groups,
        rows: size[0],
        columns: size[1],
        nonzeros: matrix.nonzeros(),
        zeros: matrix.zeros(),
        patterns: arguments.histogram.and_then(|_| matrix.histogram()),
        file,
        bias_file,
    })
}

/// Writes the matrix, and the biases if there are any.
fn write_files(
    folder: &Path,
    graph: &Graph,
    prunable: &Prunable,
    size: [usize; 2],
    threshold: f32,
) -> Result<(Option<PathBuf>, Option<PathBuf>)> {
    let tensor = graph.weight(prunable.weights);
    let (name, stem) = (&prunable.name, &prunable.stem);
    let (shape, groups) = (tensor.shape(), prunable.groups);
    let file = folder.join(format!("{stem}.mtx"));
    let note = format!("layer {name}, {shape}, {groups} group(s); column = (ic*kh + y)*kw + x");
    matrix_market::write(&file, size, tensor.data(), threshold, &note)?;
    let Some(bias) = prunable.bias else {
        return Ok((Some(file), None));
    };
    let bias_file = folder.join(format!("{stem}.bias.npy"));
    write_bias(&bias_file, graph.weight(bias))?;
    Ok((Some(file), Some(bias_file)))
}

fn write_bias(path: &Path, bias: &Weight) -> Result<()> {
    let flat = Shape::new([bias.data().len() as u32])?;
    Ok(array::write_npy(
        path,
        &Tensor::new(flat, bias.data().to_vec()),
    )?)
}

fn table(layers: &[Layer]) -> Table {
    let mut table = Table::new([
        left("layer"),
        left("shape"),
        right("non-zeros").extra(),
        right("zeros"),
        right("oc fibers"),
        right("ic fibers"),
        right("kernels"),
        right("oc slices"),
        right("ic slices").extra(),
        right("positions").extra(),
        right("columns"),
    ]);
    for layer in layers {
        let zeros = &layer.zeros;
        let shares = [
            zeros.element,
            zeros.oc_fiber,
            zeros.ic_fiber,
            zeros.kernel_fiber,
            zeros.oc_slice,
            zeros.ic_slice,
            zeros.kernel_slice,
            zeros.column,
        ];
        let mut row = vec![
            layer.layer.clone(),
            layer.shape.clone(),
            layer.nonzeros.to_string(),
        ];
        row.extend(shares.iter().map(|share| format!("{share:.2}")));
        table.row(row);
    }
    table
}
