//! `skimjit inspect`.

use crate::support::args::{ModelArguments, parse_magnitude};
use crate::support::inputs::Shown;
use crate::support::output::Output;
use crate::support::table::{Table, left, millions, percent, right};
use serde::Serialize;
use skimjit::{Model, Result};
use skimjit_models::{Graph, Node, Op, Pattern, PatternStats, Shape};

/// Lists layers, shapes, parameters, zeros, patterns and multiply-adds of a network.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit inspect net.caffemodel --zero-below 1e-4
  skimjit inspect net.onnx --support")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Weights other than zero of this magnitude and below count as near zero
    #[arg(long, value_name = "T", allow_negative_numbers = true, default_value = "1e-4", value_parser = parse_magnitude)]
    near: f32,
    /// List the nodes of an ONNX model that cannot be read, instead of the layers: operator, field and why; the
    /// exit code is that of a failed check if there are any
    #[arg(long)]
    support: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    network: String,
    inputs: Vec<Blob>,
    outputs: Vec<Blob>,
    layers: Vec<Layer>,
    total: Numbers,
    /// Weights that `--zero-below` made zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    zeroed: Option<u64>,
    /// How pictures become inputs, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    preprocessing: Option<String>,
    /// Names of the classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
}

#[derive(Serialize)]
struct Blob {
    name: String,
    shape: String,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    kind: &'static str,
    shape: String,
    #[serde(flatten)]
    numbers: Numbers,
    /// Of the weight matrix of a convolution or inner product.
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<PatternStats>,
}

/// Parameters and work.
#[derive(Clone, Copy, Default, Serialize)]
struct Numbers {
    /// Weights and biases.
    parameters: u64,
    /// Elements of the weight matrix.
    weights: u64,
    /// Of these, zero.
    zeros: u64,
    /// Of these, not zero but near.
    near_zeros: u64,
    /// Multiply-adds of one image.
    macs: u64,
    /// Multiply-adds of one image with weights other than zero.
    macs_nonzero: u64,
}

impl Numbers {
    fn add(self, other: Self) -> Self {
        Self {
            parameters: self.parameters + other.parameters,
            weights: self.weights + other.weights,
            zeros: self.zeros + other.zeros,
            near_zeros: self.near_zeros + other.near_zeros,
            macs: self.macs + other.macs,
            macs_nonzero: self.macs_nonzero + other.macs_nonzero,
        }
    }
}

/// A node that cannot be read.
#[derive(Serialize)]
struct Refused {
    node: String,
    operator: String,
    field: String,
    why: String,
}

/// Prints the nodes of an ONNX model that cannot be read.
fn support(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let path = &arguments.model.model;
    let options = skimjit_onnx::ImportOptions {
        input_shapes: arguments.model.reading.input_shape.clone(),
        ..skimjit_onnx::ImportOptions::default()
    };
    let refused = skimjit_onnx::refused(&skimjit_onnx::Model::read(path)?, &options)?;
    let refused: Vec<Refused> = refused
        .into_iter()
        .map(|one| Refused {
            node: one.node,
            operator: one.op,
            field: one.field,
            why: one.why,
        })
        .collect();
    if arguments.json {
        out.json(&refused)?;
    } else if refused.is_empty() {
        out.line("all nodes can be read");
    } else {
        let mut table = Table::new([left("node"), left("operator"), left("field"), left("why")]);
        for one in &refused {
            table.row([&one.node, &one.operator, &one.field, &one.why].map(String::clone));
        }
        out.table(&table);
    }
    match refused.len() {
        0 => Ok(()),
        count => Err(skimjit::Error::Check(format!("{count} nodes cannot be read"))),
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    if arguments.support {
        return support(arguments, out);
    }
    let model = arguments.model.load()?;
    let graph = model.graph();
    let blobs = |ids: &[skimjit_models::ValueId]| {
        let values = ids.iter().map(|&id| graph.value(id));
        values
            .map(|v| Blob {
                name: v.name.clone(),
                shape: v.shape.to_string(),
            })
            .collect()
    };
    let images = u64::from(model.batch().max(1));
    let layers: Vec<Layer> = graph
        .nodes
        .iter()
        .map(|node| layer(graph, node, images, arguments.near))
        .collect();
    let report = Report {
        model: arguments.model.name(),
        network: graph.name.clone(),
        inputs: blobs(&graph.inputs),
        outputs: blobs(&graph.outputs),
        total: layers
            .iter()
            .map(|layer| layer.numbers)
            .fold(Numbers::default(), Numbers::add),
        zeroed: zeroed(arguments, &model)?,
        preprocessing: model.preprocess().map(|own| Shown(own, &model).to_string()),
        labels: model.labels().to_vec(),
        layers,
    };
    if arguments.json {
        return out.json(&report);
    }
    print(&report, arguments, out);
    if let Some(preprocessing) = &report.preprocessing {
        out.line(format!("pictures: {preprocessing}"));
    }
    if !report.labels.is_empty() {
        out.line(format!("labels: {}", report.labels.len()));
    }
    Ok(())
}

fn layer(graph: &Graph, node: &Node, images: u64, near: f32) -> Layer {
    let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
    let count = |id: skimjit_models::WeightId| graph.weight(id).shape().count() as u64;
    let macs = node.op.macs(&shapes, &graph.weights) / images;
    let mut numbers = Numbers {
        parameters: node.op.weights().into_iter().map(count).sum(),
        macs,
        macs_nonzero: macs,
        ..Numbers::default()
    };
    let mut pattern = None;
    if let Some((rows, cols, weights)) = matrix(graph, &node.op) {
        let stats = Pattern::from_weights(rows, cols, weights).stats();
        numbers.weights = weights.len() as u64;
        numbers.zeros = numbers.weights - u64::from(stats.nnz);
        numbers.near_zeros = weights
            .iter()
            .filter(|w| **w != 0.0 && w.abs() <= near)
            .count() as u64;
        numbers.macs_nonzero = (macs as f64 * stats.density).round() as u64;
        pattern = Some(stats);
    }
    let (name, shape) = (node.name.clone(), graph.shape(node.output).to_string());
    Layer {
        name,
        kind: node.op.name(),
        shape,
        numbers,
        pattern,
    }
}

/// Rows, columns and elements of the weights that can be pruned.
fn matrix<'g>(graph: &'g Graph, op: &Op) -> Option<(u32, u32, &'g [f32])> {
    let id = match op {
        Op::Convolution(op) | Op::Deconvolution(op) => op.weights,
        Op::InnerProduct(op) => op.weights,
        _ => return None,
    };
    let tensor = graph.weight(id);
    let rows = tensor.shape().dim(0).max(1);
    let cols = tensor.data().len() as u32 / rows;
    Some((rows, cols, tensor.data()))
}

/// Zeros that only the threshold made: those that the network without it does not have.
fn zeroed(arguments: &Arguments, model: &Model) -> Result<Option<u64>> {
    if arguments.model.reading.zero_below.is_none() {
        return Ok(None);
    }
    let original = arguments.model.load_unchanged()?;
    let zeros = |model: &Model| {
        let weights = model
            .graph()
            .weights
            .iter()
            .flat_map(|weight| weight.data());
        weights.filter(|&&w| w == 0.0).count() as u64
    };
    Ok(Some(zeros(model).saturating_sub(zeros(&original))))
}

fn print(report: &Report, arguments: &Arguments, out: &mut Output) {
    for (what, blobs) in [("input", &report.inputs), ("output", &report.outputs)] {
        let line = |blob: &Blob| out.line(format!("{what} {}: {}", blob.name, blob.shape));
        blobs.iter().for_each(line);
    }
    out.table(&table(report));
    let near = arguments.near;
    out.line(format!(
        "near zeros: not zero, magnitude at most {near:e}; MACs: of one image"
    ));
    if let (Some(zeroed), Some(threshold)) = (report.zeroed, arguments.model.reading.zero_below) {
        out.line(format!(
            "{zeroed} weights of magnitude {threshold:e} and below became zero"
        ));
    }
}

fn table(report: &Report) -> Table {
    let mut table = Table::new([
        left("layer"),
        left("type"),
        left("shape"),
        right("parameters"),
        right("zeros"),
        right("near zeros").extra(),
        right("10^6 MACs"),
        right("not with zero"),
        right("empty rows").extra(),
        right("duplicate rows").extra(),
    ]);
    for layer in &report.layers {
        let names = [&layer.name, layer.kind, &layer.shape].map(str::to_owned);
        // Where nothing is pruned, all rows are alike.
        let pattern = layer.pattern.filter(|_| layer.numbers.zeros > 0);
        let rows = pattern.map(|p| [p.empty_rows, p.duplicate_rows].map(|rows| rows.to_string()));
        table.row(
            [
                &names[..],
                &cells(&layer.numbers),
                &rows.unwrap_or_default(),
            ]
            .concat(),
        );
    }
    let names = ["total", "", ""].map(str::to_owned);
    table.row([&names[..], &cells(&report.total)].concat());
    table
}

fn cells(numbers: &Numbers) -> [String; 5] {
    let share = |part: u64| match numbers.weights {
        0 => String::new(),
        weights => percent(part as f64 / weights as f64),
    };
    let parameters = match numbers.parameters {
        0 => String::new(),
        count => count.to_string(),
    };
    [
        parameters,
        share(numbers.zeros),
        share(numbers.near_zeros),
        millions(numbers.macs),
        millions(numbers.macs_nonzero),
    ]
}
