//! `skimjit export`.

mod formats;
mod network;

use crate::support::args::{CareArguments, ModelArguments};
use crate::support::output::{self, Output};
use skimjit_program::progress;
use clap::ValueEnum;
use network::Network;
use serde::Serialize;
use skimjit::{Error, Result};
use skimjit_caffe as caffe;
use skimjit_caffe::{proto::NetParameter, text, unknown};
use skimjit_models::{Error as InputError, Tensor};
use std::path::{Path, PathBuf};

/// Writes the weights of a network, pruned or not, for other programs.
///
/// An .onnx model is the whole network, of whatever file it is read from: layers that ONNX has no operator for are
/// refused by name. A .caffemodel keeps the layers of the network it is made from, in Caffe's current format. Made from
/// a .skim file, or from HDF5 without a prototxt, it holds names and blobs, which Caffe and skimjit
/// take together with the prototxt. In .safetensors and .npz files blob 0 of layer conv1 is conv1.0, in
/// Caffe's shapes. Weights that are zero stay zero.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit export net.caffemodel net.onnx
  skimjit export net.skim net.caffemodel
  skimjit export old.caffemodel net.caffemodel --zero-below 1e-4 --prototxt-out net.prototxt
  skimjit export net.caffemodel net.safetensors")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Form of what is written, when its name does not say
    #[arg(long)]
    format: Option<Format>,
    /// Write the layers without their weights to this file too, as text
    #[arg(long, value_name = "FILE")]
    prototxt_out: Option<PathBuf>,
    /// Write weights with more zeros than others by their non-zeros (ONNX's sparse_initializer), which not
    /// every engine reads
    #[arg(long)]
    sparse: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Formats of weights.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// An ONNX model: layers and weights
    Onnx,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    prototxt: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let format = arguments.format()?;
    if format == Format::Onnx {
        return write_onnx(arguments, out);
    }
    if arguments.sparse {
        return Err(Error::Usage(
            "--sparse: found another format than ONNX, expected a name that ends in .onnx".to_owned(),
        ));
    }
    let Network { net, wired, notes } = network::read(&arguments.model)?;
    notes.iter().for_each(output::warn);
    output::WARNINGS.check()?;
    let in_model = |error: InputError| error.file(&arguments.model.model);
    let tensors = formats::named(&net).map_err(in_model)?;
    if let Some(file) = &arguments.prototxt_out {
        if !wired {
            return Err(no_definition(&arguments.model.model));
        }
        write_definition(&net, file, arguments.model.reading.care)?;
    }
    progress::spin("writing", || {
        let file = &arguments.output;
        match format {
            Format::Safetensors => formats::write_safetensors(&tensors, file),
            Format::Npz => formats::write_npz(&tensors, file),
            Format::Caffemodel | Format::Onnx => {
                network::complete(&net).and_then(|net| caffe::write_caffemodel(net, file))
            }
        }
    })?;
    let data = || tensors.values().flat_map(Tensor::data);
    let report = Report {
        output: arguments.output.clone(),
        format,
        tensors: tensors.len(),
        elements: data().count() as u64,
        zeros: data().filter(|&&w| w == 0.0).count() as u64,
        weights_only: format == Format::Caffemodel && !wired,
        prototxt: arguments.prototxt_out.clone(),
    };
    finish(arguments, &report, out)
}

/// The network, whatever it is read from, as an ONNX model.
fn write_onnx(arguments: &Arguments, out: &mut Output) -> Result<()> {
    if arguments.prototxt_out.is_some() {
        return Err(Error::Usage(
            "--prototxt-out: found an ONNX model to write, expected a caffemodel".to_owned(),
        ));
    }
    let model = arguments.model.load()?;
    let options = skimjit_onnx::ExportOptions {
        sparse: arguments.sparse,
    };
    let file = &arguments.output;
    let in_model = |error: InputError| error.file(&arguments.model.model);
    let written = progress::spin("writing", || skimjit_onnx::write(model.graph(), options, file));
    let written = written.map_err(in_model)?;
    let report = Report {
        output: file.clone(),
        format: Format::Onnx,
        tensors: written.tensors,
        elements: written.elements,
        zeros: written.zeros,
        weights_only: false,
        prototxt: None,
    };
    finish(arguments, &report, out)
}

fn finish(arguments: &Arguments, report: &Report, out: &mut Output) -> Result<()> {
    if arguments.json {
        return out.json(report);
    }
    print(report, out);
    Ok(())
}

fn print(report: &Report, out: &mut Output) {
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
    if let Some(file) = &report.prototxt {
        out.line(format!("{}: the layers", file.display()));
    }
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
                "OUT: found {}, expected a name that ends in .onnx, .caffemodel, .safetensors or .npz, or --format",
                self.output.display()
            ))
        })
    }
}

fn no_definition(model: &Path) -> Error {
    let error = InputError::new("a network without Caffe's definition of its layers");
    let error = error.file(model).field("--prototxt-out");
    let hint = "export the caffemodel that it was made from, or pass --prototxt";
    error.expected("a caffemodel with layers").hint(hint).into()
}

/// The layers as text, without blobs.
fn write_definition(net: &NetParameter, file: &Path, care: CareArguments) -> Result<()> {
    let mut net = net.clone();
    net.layer.iter_mut().for_each(|layer| layer.blobs.clear());
    if !care.ignore_unknown_fields {
        // A text has names only.
        unknown::refuse_in_text(&net)?;
    }
    output::write_file(file, text::net_text(&net))
}
