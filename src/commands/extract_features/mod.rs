//! `skimjit extract-features`.

mod sink;
mod source;

use crate::support::args::{self, CareArguments, MOST_IMAGES, MachineArguments, iterations_parser};
use crate::support::inputs::PictureArguments;
use crate::support::output::Output;
use skimjit_program::progress;
use serde::Serialize;
use sink::{Format, Sinks, Written};
use skimjit::picture::FORMATS;
use skimjit::{CompileOptions, Engine, Keep, LoadOptions, Model, Result};
use skimjit_models::Error as InputError;
use source::Source;
use std::path::PathBuf;

/// Runs a network and keeps the values of some of its blobs for every image.
///
/// Images are pictures or arrays, or what the data layers of the network's test phase read. In a data
/// base, a record is a Datum of floats whose key is the number of the image; HDF5 files have a dataset per
/// blob.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit extract-features --prototxt deploy.prototxt --weights net.caffemodel fc7 prob \\
      --input a.jpg b.jpg --resize 227x227 --mean-value 104,117,123 --output features.h5
  skimjit extract-features --prototxt train_val.prototxt --weights net.caffemodel fc7 label \\
      --iterations 100 --output {blob}_lmdb")]
pub struct Arguments {
    /// Blobs to keep
    #[arg(value_name = "BLOB", required = true)]
    blobs: Vec<String>,
    /// Definition of the network
    #[arg(long = "prototxt", alias = "model", value_name = "FILE")]
    model: PathBuf,
    /// Weights; of several files, later ones win
    #[arg(
        long,
        value_name = "CAFFEMODEL,...",
        value_delimiter = ',',
        required = true
    )]
    weights: Vec<PathBuf>,
    #[command(flatten)]
    care: CareArguments,
    #[arg(long, short, value_name = "FILE", num_args = 1.., help = what())]
    input: Vec<PathBuf>,
    /// Runs, each of a batch of the data layers
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true, conflicts_with = "input", value_parser = iterations_parser())]
    iterations: u32,
    #[command(flatten)]
    pictures: PictureArguments,
    /// File or folder to write; {blob} stands for the blob's name, which several blobs need
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Form of what is written [default: as the ending says: .h5, .hdf5, .npy, .leveldb, .lmdb; none: lmdb]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Images computed together [default: up to 16; with data layers theirs]
    #[arg(long, value_name = "N", allow_negative_numbers = true, requires = "input", value_parser = clap::value_parser!(u32).range(1..=MOST_IMAGES))]
    batch: Option<u32>,
    #[command(flatten)]
    machine: MachineArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The help of --input.
fn what() -> String {
    format!(
        "Inputs: pictures ({FORMATS}) or .npy arrays of images [default: what the data layers read]"
    )
}

#[derive(Serialize)]
struct Report {
    images: u64,
    written: Vec<Written>,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let mut source = if arguments.input.is_empty() {
        Source::layers(&arguments.model, arguments.care, arguments.iterations)?
    } else {
        Source::files(&arguments.input, &arguments.pictures)?
    };
    let model = load(arguments, &source)?;
    source.prepare(&model, &arguments.pictures)?;
    let inputs: Vec<&str> = model
        .graph()
        .inputs
        .iter()
        .map(|&id| model.graph().value(id).name.as_str())
        .collect();
    let computed = arguments.blobs.iter();
    let computed = computed.filter(|blob| !inputs.contains(&blob.as_str()));
    let options = CompileOptions {
        batch: arguments.batch.or_else(|| source.usual_batch(&model)),
        keep: Keep::Named(computed.cloned().collect()),
        ..arguments.machine.options()?
    };
    let engine = args::compile(&model, &options)?;
    let places = places(&engine, &arguments.blobs)?;
    let mut sinks = open(arguments, &engine, &places)?;
    let images = stream(&engine, &mut source, &places, &mut sinks)?;
    let written = sinks.finish()?;
    if arguments.json {
        return out.json(&Report { images, written });
    }
    for written in written {
        let (file, blob) = (written.file.display(), &written.blob);
        out.line(format!("{file}: {blob} {}", written.shape));
    }
    Ok(())
}

fn load(arguments: &Arguments, source: &Source) -> Result<Model> {
    let options = LoadOptions {
        prototxt: Some(arguments.model.clone()),
        data_shapes: source.shapes(),
        ignore_unknown_fields: arguments.care.ignore_unknown_fields,
        ..LoadOptions::default()
    };
    let model = progress::spin("reading", || {
        Model::from_caffe(&arguments.weights, &options)
    })?;
    let model = args::warned(model)?;
    source.check(&model, &arguments.model)?;
    Ok(model)
}

/// Where the values of a blob are found after a run.
#[derive(Clone, Copy)]
enum Place {
    Input(usize),
    Output(usize),
}

/// Places of blobs; each must have a row per image.
fn places(engine: &Engine, blobs: &[String]) -> Result<Vec<Place>> {
    let plan = engine.plan();
    let place = |blob: &String| {
        let input = plan.inputs.iter().position(|port| port.name == *blob);
        let output = plan.outputs.iter().position(|port| port.name == *blob);
        match (input, output) {
            (Some(input), _) => Ok(Place::Input(input)),
            (None, Some(output)) if plan.outputs[output].per_image => Ok(Place::Output(output)),
            (None, Some(output)) => {
                let shape = &plan.outputs[output].shape;
                let error = InputError::new(format!("a shape of {shape}"));
                let error = error.field(format!("blob \"{blob}\""));
                Err(error.expected("one row for each image of the batch").into())
            }
            (None, None) => Err(InputError::new(format!("no blob \"{blob}\"")).into()),
        }
    };
    blobs.iter().map(place).collect()
}

fn open(arguments: &Arguments, engine: &Engine, places: &[Place]) -> Result<Sinks> {
    let plan = engine.plan();
    let port = |&place: &Place| match place {
        Place::Input(input) => &plan.inputs[input],
        Place::Output(output) => &plan.outputs[output],
    };
    let ports = places.iter().map(port);
    let blobs: Vec<_> = ports
        .map(|port| (port.name.as_str(), &port.shape))
        .collect();
    let format = match arguments.format {
        Some(format) => format,
        None => Format::of(&arguments.output)?,
    };
    Sinks::open(format, &arguments.output, &blobs)
}

/// Runs batch by batch and keeps the blobs of each; returns the number of images.
fn stream(
    engine: &Engine,
    source: &mut Source,
    places: &[Place],
    sinks: &mut Sinks,
) -> Result<u64> {
    let plan = engine.plan();
    let mut session = engine.session();
    let bar = progress::bar("images", source.images(plan.batch));
    while let Some(inputs) = source.next(&plan.inputs, plan.batch)? {
        let outputs = engine.run(&mut session, &inputs)?;
        for (sink, &place) in places.iter().enumerate() {
            let values = match place {
                Place::Input(input) => inputs[input].data(),
                Place::Output(output) => outputs[output].data(),
            };
            sinks.put(sink, values)?;
        }
        bar.inc(
            inputs
                .first()
                .map_or(0, |input| input.shape().dim(0))
                .into(),
        );
    }
    bar.finish_and_clear();
    Ok(bar.position())
}
