//! `skimjit test`.

mod layers;
mod measure;
mod pictures;
mod print;
mod tally;

use crate::support::args::{
    self, AskedTuneArguments, CareArguments, MachineArguments, iterations_parser, parse_magnitude,
    parse_named_shape,
};
use crate::support::inputs::PictureArguments;
use crate::support::output::Output;
use skimjit_program::progress;
use layers::{Layer, Work};
use measure::Test;
use serde::Serialize;
use skimjit::{Keep, LoadOptions, Model, Result};
use skimjit_caffe::{Definition, Phase, unknown};
use skimjit_data::{Feed, FeedOptions};
use skimjit_models::{Error as InputError, Shape};
use std::path::{Path, PathBuf};
use tally::Mean;

/// Runs the test phase of a network on the data that its data layers name: loss, accuracy, the mean of
/// every output, and the time of every layer. Or tells for how many pictures of a list a network finds the
/// right class.
///
/// Data are read and decoded ahead on their own threads; the time that the network waited for them is
/// printed. K-cycles per image are elapsed cycles of the thread that took longest, divided by the images
/// of all threads, at the clock measured after the test. Dense GFLOP/s count every multiply-add of a layer
/// as if no weight were zero, real GFLOP/s those with weights that are not; what is fused into a layer
/// (ReLU, BatchNorm, sums) is in its time.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit test --prototxt train_val.prototxt --weights net.caffemodel --iterations 100 --threads 2
  skimjit test net.onnx --class-list val.txt --resize 256x256 --crop 227")]
pub struct Arguments {
    /// Network that is judged by pictures: a .skim, .onnx, .caffemodel or .caffemodel.h5 file
    #[arg(value_name = "MODEL", requires = "class_list", conflicts_with_all = ["model", "weights"])]
    network: Option<PathBuf>,
    /// File with the name of a picture and the number of its class on each line, as ImageData's lists
    #[arg(long, value_name = "FILE", requires = "network")]
    class_list: Option<PathBuf>,
    /// Shape of the input, instead of the network's or where that leaves it open; NAME=N,C,H,W where the
    /// network has several inputs
    #[arg(long, value_name = "[NAME=]N,C,H,W", requires = "network", value_parser = parse_named_shape)]
    input_shape: Option<(Option<String>, Shape)>,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Definition with data layers and what judges the network: Accuracy, losses
    #[arg(
        long = "prototxt",
        alias = "model",
        value_name = "FILE",
        required_unless_present = "network"
    )]
    model: Option<PathBuf>,
    /// Weights; of several files, later ones win
    #[arg(
        long,
        value_name = "CAFFEMODEL,...",
        value_delimiter = ',',
        required_unless_present = "network"
    )]
    weights: Vec<PathBuf>,
    /// Runs, each of a batch of the data layers
    #[arg(long, value_name = "N", default_value_t = 50, conflicts_with = "network", allow_negative_numbers = true, value_parser = iterations_parser())]
    iterations: u32,
    /// Level for include and exclude rules
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        conflicts_with = "network",
        allow_negative_numbers = true
    )]
    level: i32,
    /// Stages for include and exclude rules
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', conflicts_with = "network")]
    stage: Vec<String>,
    /// Weights of this magnitude and below become zero
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = parse_magnitude)]
    zero_below: Option<f32>,
    #[command(flatten)]
    care: CareArguments,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    tune: AskedTuneArguments,
    /// Report every batch as well
    #[arg(long, conflicts_with = "network")]
    each_batch: bool,
    /// Then run the last batch as often without reading data, and print what reading costs
    #[arg(long, conflicts_with = "network")]
    data_cost: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a test found. Times without another unit in their name are of one batch on average.
#[derive(Serialize)]
struct Report {
    isa: String,
    threads: usize,
    batch: usize,
    iterations: u32,
    images: u64,
    /// Cycles per second that K-cycles are counted with.
    frequency_hz: f64,
    loss: Option<f64>,
    outputs: Vec<Mean>,
    layers: Vec<Layer>,
    /// All layers, in the forwarding time.
    total: Work,
    copies_ms: f64,
    outside_ms: f64,
    forward_ms: f64,
    /// Of all batches.
    waiting_ms: f64,
    /// Of the elapsed time.
    waiting_share: f64,
    /// Of all batches.
    elapsed_ms: f64,
    images_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    alone: Option<Alone>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    batches: Vec<Batch>,
}

/// The network without data being read.
#[derive(Serialize)]
struct Alone {
    ms_per_batch: f64,
    /// What the time of a batch grows by, as a share, when its data are read beside it.
    data_cost: f64,
}

/// One batch.
#[derive(Serialize)]
struct Batch {
    batch: u32,
    loss: Option<f64>,
    outputs: Vec<Mean>,
    layers: Vec<Layer>,
    copies_ms: f64,
    outside_ms: f64,
    forward_ms: f64,
    waiting_ms: f64,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    if let (Some(network), Some(list)) = (&arguments.network, &arguments.class_list) {
        return pictures::run(arguments, network, list, out);
    }
    arguments.pictures.refuse_without_pictures()?;
    let mut options = arguments.machine.options()?;
    let data = arguments.data()?;
    let blobs: Vec<(String, Shape)> = data
        .blobs()
        .iter()
        .map(|blob| (blob.name.clone(), blob.shape.clone()))
        .collect();
    arguments.check_data(&blobs)?;
    let model = arguments.load(&blobs)?;
    arguments.check_inputs(&model, &blobs)?;
    options.keep = losses_inside(&model);
    // They are counted: what was computed, and what for zeros.
    options.keep_weights = true;
    options.tuning = arguments.tune.tuning()?;
    let engine = args::compile(&model, &options)?;
    let report = Test::new(&model, &engine, arguments).run(data, out)?;
    if arguments.json {
        return out.json(&report);
    }
    print::report(&report, out);
    Ok(())
}

impl Arguments {
    /// Where the test phase is written: asked for, where no network is given.
    fn definition(&self) -> &Path {
        self.model.as_deref().unwrap_or(Path::new(""))
    }
    /// Opens the data of the test phase. What is odd about its layers is printed when the network is read.
    fn data(&self) -> Result<Feed> {
        let net = Definition::read(self.definition(), self.care.care(), &mut |_| ())?;
        let net = net.with_rules(Phase::Test, Some(self.level), &self.stage);
        let feed = net.layers().and_then(|layers| {
            unknown::refuse_in_layers(&layers)?;
            Feed::of(&net, FeedOptions::default())
        });
        Ok(feed.map_err(|error| error.file(self.definition()))?)
    }
    /// Reads the network and prints its warnings.
    fn load(&self, data: &[(String, Shape)]) -> Result<Model> {
        let options = LoadOptions {
            prototxt: self.model.clone(),
            zero_below: self.zero_below,
            data_shapes: data.to_vec(),
            level: self.level,
            stages: self.stage.clone(),
            ignore_unknown_fields: self.care.ignore_unknown_fields,
            ..LoadOptions::default()
        };
        let model = progress::spin("reading", || Model::from_caffe(&self.weights, &options))?;
        args::warned(model)
    }
}

impl Arguments {
    fn fault(&self, found: String) -> InputError {
        InputError::new(found).file(self.definition())
    }

    /// There must be data, with one number of images everywhere.
    fn check_data(&self, data: &[(String, Shape)]) -> Result<()> {
        let images = |shape: &Shape| shape.dims().first().copied();
        let Some((first, shape)) = data.first() else {
            let error = self.fault("no data layer in the test phase".to_owned());
            let error = error.expected("a layer that reads data, like Data or ImageData");
            return Err(error.hint(REPLACE_INPUT).into());
        };
        match data
            .iter()
            .find(|(_, other)| images(other) != images(shape))
        {
            None => Ok(()),
            Some((blob, other)) => {
                let found = format!("shape {other} of blob {blob:?} beside {shape} of {first:?}");
                let error = self.fault(found).field("batch_size");
                Err(error
                    .expected("one number of images in all data layers")
                    .into())
            }
        }
    }

    /// Every input must be fed.
    fn check_inputs(&self, model: &Model, data: &[(String, Shape)]) -> Result<()> {
        let graph = model.graph();
        let mut names = graph.inputs.iter().map(|&id| &graph.value(id).name);
        let fed = |name: &String| data.iter().any(|(blob, _)| blob == name);
        match names.find(|name| !fed(name)) {
            None => Ok(()),
            Some(name) => {
                let error = self.fault(format!("input {name:?}, which no data layer fills"));
                let error = error.expected("data layers for all inputs");
                Err(error.hint(REPLACE_INPUT).into())
            }
        }
    }
}

/// What to do about inputs that nothing fills.
const REPLACE_INPUT: &str = "let a data layer make what an Input layer leaves open, check the include \
rules, --level and --stage, or pass arrays to `skimjit run --input`";

/// Losses that another layer takes are no outputs, and still count.
fn losses_inside(model: &Model) -> Keep {
    let graph = model.graph();
    let losses = model.losses().iter().map(|&(value, _)| value);
    let inside = losses.filter(|value| !graph.outputs.contains(value));
    let names: Vec<String> = inside.map(|id| graph.value(id).name.clone()).collect();
    match names.is_empty() {
        true => Keep::Outputs,
        false => Keep::Named(names),
    }
}
