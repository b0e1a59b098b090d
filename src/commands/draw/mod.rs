//! `skimjit draw`.

mod dot;
mod layout;
mod picture;
mod svg;

use crate::support::args::{CareArguments, parse_shape, warned};
use crate::support::output::{self, Output};
use clap::ValueEnum;
use picture::Picture;
use skimjit::{LoadOptions, Model, Result};
use skimjit_caffe::import::{ImportOptions, load};
use skimjit_caffe::proto::NetParameter;
use skimjit_models::{Error as InputError, Graph, Shape};
use std::path::{Path, PathBuf};

/// Draws a network: a box per layer with type, kernel, shape and density, from the input at the top to the
/// results at the bottom.
///
/// MODEL is a prototxt, with or without weights, a caffemodel, an ONNX model, or a .skim file. Layers that only change the
/// elements of one blob (ReLU, BatchNorm, Dropout) are lines in the box of the layer that makes it. The name
/// of the file decides what is written: .svg for any browser, .dot for Graphviz.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit draw net.caffemodel -o net.svg
  skimjit draw train_val.prototxt --phase train -o net.dot")]
pub struct Arguments {
    /// Network: a prototxt, .caffemodel, .caffemodel.h5, .onnx or .skim file
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Weights for a prototxt, so that densities can be shown
    #[arg(long, value_name = "CAFFEMODEL,...", value_delimiter = ',')]
    weights: Vec<PathBuf>,
    /// Phase of a prototxt
    #[arg(long, default_value = "test", ignore_case = true)]
    phase: PhaseArgument,
    /// Shape of the input, for data layers that do not tell it
    #[arg(long, value_name = "N,C,H,W", value_parser = parse_shape)]
    input_shape: Option<Shape>,
    #[command(flatten)]
    care: CareArguments,
    /// Picture to write
    #[arg(short, long, value_name = "FILE", default_value = "net.svg")]
    output: PathBuf,
}

/// Phase of a definition.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PhaseArgument {
    /// As it is trained
    Train,
    /// As it is tested or deployed
    Test,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let is_dot = match arguments
        .output
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("svg") => false,
        Some("dot" | "gv") => true,
        _ => {
            return Err(skimjit::Error::Usage(format!(
                "--output: found {}, expected a name that ends in .svg or .dot",
                arguments.output.display()
            )));
        }
    };
    let (graph, has_weights) = read(arguments)?;
    let picture = Picture::of(&graph, has_weights);
    let text = if is_dot {
        dot::text(&picture)
    } else {
        svg::text(&picture)
    };
    let path = &arguments.output;
    output::write_file(path, &text)?;
    out.line(format!(
        "{}: {} layers in {} boxes",
        path.display(),
        graph.nodes.len(),
        picture.boxes.len()
    ));
    Ok(())
}

/// The picture of a network with weights, as SVG.
pub fn svg(graph: &Graph) -> String {
    svg::text(&Picture::of(graph, true))
}

/// The network, and whether it has weights of its own.
fn read(arguments: &Arguments) -> Result<(Graph, bool)> {
    if !is_text(&arguments.model)? {
        let load = LoadOptions {
            input_shape: arguments.input_shape.clone(),
            ignore_unknown_fields: arguments.care.ignore_unknown_fields,
            ..LoadOptions::default()
        };
        let model = warned(Model::load(&arguments.model, &load)?)?;
        return Ok((model.graph().clone(), true));
    }
    let options = ImportOptions {
        input_shape: arguments.input_shape.clone(),
        allow_missing_weights: arguments.weights.is_empty(),
        data_to_input: true,
        training: arguments.phase == PhaseArgument::Train,
        ignore_unknown_fields: arguments.care.ignore_unknown_fields,
        ..ImportOptions::default()
    };
    let imported = load(Some(&arguments.model), &arguments.weights, &options);
    let imported = imported.map_err(|error| labelled(error, arguments))?;
    imported.warnings.iter().for_each(output::warn);
    output::WARNINGS.check()?;
    Ok((
        imported.graph,
        !arguments.weights.is_empty() || stored_weights(&arguments.model),
    ))
}

/// Losses without labels cannot be drawn: what to do about it.
fn labelled(error: InputError, arguments: &Arguments) -> InputError {
    let data = error.found.contains("data") || error.found.contains("shape");
    match data && arguments.weights.is_empty() {
        true => error.hint(
            "give --input-shape, a deploy prototxt, or transform_param.crop_size in the data layer",
        ),
        false => error,
    }
}

/// True for text definitions that hold blobs. Their warnings have been printed.
fn stored_weights(path: &Path) -> bool {
    let net: std::result::Result<NetParameter, _> =
        skimjit_caffe::read_prototxt(path).map(|(net, _)| net);
    net.is_ok_and(|net| net.layer.iter().any(|layer| !layer.blobs.is_empty()))
}

/// True for text definitions.
fn is_text(path: &Path) -> Result<bool> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| InputError::new(error.to_string()).file(path);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut start = Vec::new();
    file.take(1 << 12)
        .read_to_end(&mut start)
        .map_err(unreadable)?;
    Ok(skimjit_caffe::is_text(&start))
}
