//! `skimjit run`.

mod reshape;

use super::args::{self, AskedTuneArguments, EngineArguments, ModelArguments, NamedFile};
use super::inputs::{self, Item, PictureArguments};
use super::output::Output;
use super::table::{Table, left, right};
use super::{detections, labels, progress, time};
use labels::Labels;
use serde::Serialize;
use skimjit::models::{Shape, Tensor};
use skimjit::picture::Preprocess;
use skimjit::runtime::Port;
use skimjit::{CompileOptions, Engine, Keep, Model, Result, Session, array};
use std::path::PathBuf;

/// Classifies pictures, or runs arrays.
///
/// Pictures (JPEG, PNG) are prepared as the options say; arrays (.npy, N,C,H,W, any N) are used as
/// they are. Prints the best classes of each image (of detectors: the objects), or writes the arrays
/// asked for.
///
/// With --reshape, every file keeps its own size: fully convolutional networks, and those that end in
/// a global pooling, take any. The kernels for a size are generated when it first appears.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit run net.skim --input cat.jpg --resize 256x256 --crop 227 --mean-value 104,117,123 \\
      --labels labels.txt
  skimjit run net.caffemodel --input in.npy --output prob.npy --dump-blob conv1=conv1.npy
  skimjit run det1.skim --input a.jpg b.jpg --reshape --output prob1=faces.npy")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Pictures or .npy arrays; NAME=FILE where the network has several inputs
    #[arg(long, short, value_name = "[NAME=]FILE", num_args = 1.., required = true)]
    #[arg(value_parser = NamedFile::parse)]
    input: Vec<NamedFile>,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Names of the classes: one per line, or number, tab and name
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Classes to print for each image [default: 5, or none when arrays are written]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top: Option<usize>,
    /// Write an output; NAME=FILE where the network has several
    #[arg(long, short, value_name = "[NAME=]FILE", value_parser = NamedFile::parse)]
    output: Vec<NamedFile>,
    /// Write any blob
    #[arg(long, value_name = "NAME=FILE", value_parser = NamedFile::parse_named)]
    dump_blob: Vec<NamedFile>,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    tune: AskedTuneArguments,
    /// Let every picture and array keep its own size; the outputs of several files are written to one
    /// file each, FILE with a number: out.0.npy, out.1.npy, …
    #[arg(long)]
    reshape: bool,
    /// Print the time of each step
    #[arg(long, conflicts_with = "reshape")]
    profile: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const USUAL_TOP: usize = 5;

#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    batch: usize,
    threads: usize,
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detections: Vec<detections::Detections>,
    written: Vec<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<time::Report>,
}

/// Best classes of one image.
#[derive(Serialize)]
struct Image {
    input: String,
    output: String,
    classes: Vec<Class>,
}

#[derive(Serialize)]
struct Class {
    class: usize,
    label: Option<String>,
    score: f32,
}

/// An array that was written.
#[derive(Serialize)]
struct Written {
    blob: String,
    shape: String,
    file: PathBuf,
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    let labels = arguments.labels.as_deref().map(Labels::read).transpose()?;
    let mut options = arguments.engine.options()?;
    let model = arguments.model.load()?;
    check_names(arguments, &model)?;
    let names = arguments
        .dump_blob
        .iter()
        .filter_map(|named| named.name.clone())
        .collect();
    options.keep = Keep::Named(names);
    options.tuning = arguments.tune.tuning();
    if arguments.reshape {
        return reshape::run(arguments, &model, &options, labels.as_ref(), out);
    }
    let (engine, outputs, images, profile) = compute(arguments, &model, options)?;
    let ports = &engine.plan().outputs;
    let own = model.graph().outputs.len().min(ports.len());
    let written = write(arguments, ports, own, &outputs)?;
    let wanted = arguments.top.or(labels.as_ref().map(|_| USUAL_TOP));
    let top = wanted.unwrap_or(if written.is_empty() { USUAL_TOP } else { 0 });
    let report = Report {
        model: arguments.model.name(),
        isa: engine.plan().isa.to_string(),
        batch: engine.plan().batch,
        threads: engine.threads(),
        images: classify(&ports[..own], &outputs, &images, labels.as_ref(), top),
        detections: detections::gather(&model, &engine, &outputs, &images, labels.as_ref()),
        written,
        profile,
    };
    if arguments.json {
        return out.json(&report);
    }
    let described = ports[..own]
        .iter()
        .zip(&outputs)
        .filter(|(port, _)| !is_classes(port) && !detections::are_made_by(&model, &port.name));
    described.for_each(|(port, output)| describe(port, output, out));
    print(&report, images.len(), out);
    Ok(())
}

/// Refuses unknown outputs before anything is computed; blobs are looked up when the network is
/// compiled.
fn check_names(arguments: &Arguments, model: &Model) -> Result<()> {
    let graph = model.graph();
    let names: Vec<&str> = graph
        .outputs
        .iter()
        .map(|&id| graph.value(id).name.as_str())
        .collect();
    arguments
        .output
        .iter()
        .try_for_each(|named| named.port("--output", &names).map(|_| ()))
}

/// Engine, its outputs for all images, a name for each image, and the profile.
type Computed = (Engine, Vec<Tensor>, Vec<String>, Option<time::Report>);

fn compute(arguments: &Arguments, model: &Model, mut options: CompileOptions) -> Result<Computed> {
    let coupled = model.combines_images();
    let mut usual_batch = |images: u32| {
        if options.batch.is_none() && !coupled {
            options.batch = Some(images.clamp(1, inputs::USUAL_BATCH));
        }
        options.clone()
    };
    let [_] = model.graph().inputs[..] else {
        arguments.pictures.refuse_without_pictures()?;
        let arrays = inputs::arrays(model, &arguments.input, inputs::Sizes::Network)?;
        let images = arrays.first().map_or(1, |array| array.shape().dim(0));
        let engine = args::compile(model, &usual_batch(images))?;
        let mut session = session(&engine, arguments.profile);
        let outputs = engine.run(&mut session, &arrays)?;
        let names = (0..images).map(|image| format!("image {image}")).collect();
        let profile = session
            .profile()
            .map(|_| time::Report::of(&engine, &session));
        return Ok((engine, outputs, names, profile));
    };
    let items = open(arguments, model)?;
    let names = items.iter().flat_map(names_of).collect();
    let images: u32 = items.iter().map(Item::images).sum();
    let preprocess = arguments.pictures.preprocess()?;
    let engine = args::compile(model, &usual_batch(images))?;
    let mut session = session(&engine, arguments.profile);
    let outputs = stream(&engine, &mut session, items, images, &preprocess)?;
    let profile = session
        .profile()
        .map(|_| time::Report::of(&engine, &session));
    Ok((engine, outputs, names, profile))
}

fn session(engine: &Engine, profile: bool) -> Session {
    let mut session = engine.session();
    if profile {
        session.start_profile();
    }
    session
}

/// The files given for the only input.
fn open(arguments: &Arguments, model: &Model) -> Result<Vec<Item>> {
    let graph = model.graph();
    let names: Vec<&str> = graph
        .inputs
        .iter()
        .map(|&id| graph.value(id).name.as_str())
        .collect();
    let item = |named: &NamedFile| {
        named.port("--input", &names)?;
        Item::open(&named.file)
    };
    let items = arguments
        .input
        .iter()
        .map(item)
        .collect::<Result<Vec<Item>>>()?;
    if !items.iter().any(Item::is_picture) {
        arguments.pictures.refuse_without_pictures()?;
    }
    Ok(items)
}

fn names_of(item: &Item) -> Vec<String> {
    let file = item.file.display();
    if item.is_picture() {
        return vec![file.to_string()];
    }
    (0..item.images())
        .map(|image| format!("{file}[{image}]"))
        .collect()
}

/// Runs batch by batch, so that only one batch of pictures is in memory; everything at once where
/// images are combined.
fn stream(
    engine: &Engine,
    session: &mut Session,
    items: Vec<Item>,
    images: u32,
    preprocess: &Preprocess,
) -> Result<Vec<Tensor>> {
    let plan = engine.plan();
    let port = &plan.inputs[0].shape;
    let row = port.count() / plan.batch;
    let enough = if plan.coupled {
        usize::MAX
    } else {
        plan.batch * row
    };
    let bar = progress::bar("images", images.into());
    let mut waiting: Vec<f32> = Vec::new();
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    let mut flush = |waiting: &mut Vec<f32>| -> Result<()> {
        let count = waiting.len() / row;
        let shape = Shape::new(port.with_batch(count as u32).dims())?;
        parts.push(engine.run(session, &[Tensor::new(shape, std::mem::take(waiting))])?);
        bar.inc(count as u64);
        Ok(())
    };
    for item in items {
        waiting.extend(item.elements(port, preprocess)?);
        if waiting.len() >= enough {
            let rest = waiting.split_off(waiting.len() / enough * enough);
            flush(&mut waiting)?;
            waiting = rest;
        }
    }
    if !waiting.is_empty() {
        flush(&mut waiting)?;
    }
    bar.finish_and_clear();
    join(parts)
}

/// Outputs of several runs, one after the other along the first axis.
fn join(parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    if parts.len() == 1 {
        return Ok(parts.into_iter().flatten().collect());
    }
    let count = parts.first().map_or(0, Vec::len);
    let joined = |output: usize| -> Result<Tensor> {
        let tensors = || parts.iter().map(move |part| &part[output]);
        let images = tensors().map(|tensor| tensor.shape().dim(0)).sum();
        let shape = parts[0][output].shape().with_batch(images);
        let data = tensors()
            .flat_map(|tensor| tensor.data().iter().copied())
            .collect();
        Ok(Tensor::new(Shape::new(shape.dims())?, data))
    };
    (0..count).map(joined).collect()
}

/// Writes what `--output` and `--dump-blob` ask for; the first `own` ports are the network's outputs.
fn write(
    arguments: &Arguments,
    ports: &[Port],
    own: usize,
    outputs: &[Tensor],
) -> Result<Vec<Written>> {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let asked = arguments
        .output
        .iter()
        .map(|named| ("--output", named, &names[..own]));
    let dumped = arguments
        .dump_blob
        .iter()
        .map(|named| ("--dump-blob", named, &names[..]));
    let places = asked
        .chain(dumped)
        .map(|(what, named, names)| Ok((named, named.port(what, names)?)));
    let places = places.collect::<Result<Vec<_>>>()?;
    let written = places.into_iter().map(|(named, port)| {
        array::write_npy(&named.file, &outputs[port])?;
        let shape = outputs[port].shape().to_string();
        Ok(Written {
            blob: names[port].to_owned(),
            shape,
            file: named.file.clone(),
        })
    });
    written.collect()
}

/// One score per class for each image.
fn is_classes(port: &Port) -> bool {
    port.per_image && port.shape.rank() >= 2 && port.elems == port.shape.dim(1) as usize
}

fn classify(
    ports: &[Port],
    outputs: &[Tensor],
    images: &[String],
    labels: Option<&Labels>,
    top: usize,
) -> Vec<Image> {
    let mut results = Vec::new();
    if top == 0 {
        return results;
    }
    for (index, input) in images.iter().enumerate() {
        for (port, output) in ports
            .iter()
            .zip(outputs)
            .filter(|(port, _)| is_classes(port))
        {
            let Some(scores) = output.data().chunks_exact(port.elems).nth(index) else {
                continue;
            };
            let classes = best(scores, top).into_iter().map(|class| {
                let label = labels
                    .and_then(|labels| labels.of(class))
                    .map(str::to_owned);
                Class {
                    class,
                    label,
                    score: scores[class],
                }
            });
            let (input, output) = (input.clone(), port.name.clone());
            results.push(Image {
                input,
                output,
                classes: classes.collect(),
            });
        }
    }
    results
}

/// Classes of the highest scores, of equal ones the first.
fn best(scores: &[f32], count: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..scores.len()).collect();
    classes.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    classes.truncate(count);
    classes
}

/// A line about an output that is no list of classes.
fn describe(port: &Port, output: &Tensor, out: &mut Output) {
    let [low, high, mean] = extent(output.data());
    let shape = output.shape();
    out.line(format!(
        "{}: {shape}, values {low:.6} to {high:.6}, mean {mean:.6}",
        port.name
    ));
}

/// Lowest, highest and mean value.
fn extent(data: &[f32]) -> [f64; 3] {
    let low = data.iter().copied().fold(f32::INFINITY, f32::min);
    let high = data.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mean = data.iter().map(|&x| f64::from(x)).sum::<f64>() / data.len() as f64;
    [low.into(), high.into(), mean]
}

/// The best classes of an image.
fn table_of(image: &Image) -> Table {
    let mut table = Table::new([left(" "), right("class"), right("score"), left("label")]);
    for class in &image.classes {
        let label = class.label.clone().unwrap_or_default();
        table.row([
            String::new(),
            class.class.to_string(),
            format!("{:.6}", class.score),
            label,
        ]);
    }
    table
}

impl Written {
    fn print(&self, out: &mut Output) {
        let (file, blob, shape) = (self.file.display(), &self.blob, &self.shape);
        out.line(format!("{file}: {blob} {shape}"));
    }
}

fn print(report: &Report, images: usize, out: &mut Output) {
    let several = report.images.len() > images;
    for image in &report.images {
        let output = if several {
            format!(" {}", image.output)
        } else {
            String::new()
        };
        out.line(format!("{}{output}", image.input));
        out.table(&table_of(image));
    }
    detections::print(&report.detections, out);
    report.written.iter().for_each(|written| written.print(out));
    if let Some(profile) = &report.profile {
        profile.print(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_classes_are_sorted_and_ties_keep_their_order() {
        assert_eq!(best(&[0.1, 0.7, 0.1, 0.1], 3), [1, 0, 2]);
        assert_eq!(best(&[1.0], 5), [0]);
        assert_eq!(best(&[0.5, f32::NAN], 1), [1]);
    }

    #[test]
    fn parts_are_joined_along_the_batch() {
        let part = |n: u32, x: f32| {
            vec![Tensor::new(
                Shape::new([n, 2]).unwrap(),
                vec![x; n as usize * 2],
            )]
        };
        let joined = join(vec![part(2, 1.0), part(1, 2.0)]).unwrap();
        assert_eq!(joined[0].shape().dims(), [3, 2]);
        assert_eq!(joined[0].data(), [1.0, 1.0, 1.0, 1.0, 2.0, 2.0]);
    }
}
