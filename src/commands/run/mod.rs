//! `skimjit run`.

mod detections;
mod reshape;
mod results;
mod stream;
mod written;

use crate::support::args::{self, AskedTuneArguments, EngineArguments, ModelArguments, NamedFile};
use crate::support::entries::{Entries, InputArguments};
use crate::support::inputs::{self, Item, PictureArguments, Preparation, Sizes};
use crate::support::labels::{self, Labels};
use crate::support::output::Output;
use crate::commands::time;
pub use results::is_classes;
use results::{Extent, Format, Found, Image, Printer, Reading};
use serde::Serialize;
use skimjit::{CompileOptions, Engine, Error, Keep, Model, Result, Session};
use skimjit_models::Error as InputError;
use std::path::{Path, PathBuf};
use stream::Stream;
use written::{Kept, Written};

/// Classifies pictures, or runs arrays.
///
/// Pictures are prepared as the network says (its data layer, or what it was compiled with) and the options
/// change; arrays (.npy, N,C,H,W, any N) are used as they are. As by Caffe's data layers, networks of one
/// channel get the brightness of colour pictures, networks of three get gray pictures three times, transparency
/// is left out, and cameras' orientation marks are obeyed. Prints the best classes of each image (of detectors:
/// the objects), or writes the arrays asked for.
///
/// Results come batch by batch. A picture that cannot be used is one line on standard error, the others are
/// done, and the exit code is 3; in arrays that are written its row is NaN.
///
/// With --reshape, every file keeps its own size: fully convolutional networks, and those that end in
/// a global pooling, take any. The kernels for a size are generated when it first appears.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  skimjit run net.skim cat.jpg --resize 256x256 --crop 227 --mean-value 104,117,123
  skimjit run net.skim photos/ more/*.jpg --labels labels.txt --format csv --top 1
  skimjit run net.caffemodel --input in.npy --output prob.npy --dump-blob conv1=conv1.npy
  skimjit run det1.skim --input a.jpg b.jpg --reshape --output prob1=faces.npy")]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    input: InputArguments,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Names of the classes, as many as there are: one per line, number and name, CSV, JSON, or a label map
    /// [default: those that the network was compiled with]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Classes to print for each image [default: 5, or none when arrays are written]
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top: Option<usize>,
    /// Form of what is printed
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        conflicts_with = "json"
    )]
    format: Format,
    /// Write an output (.npy, or - for standard output); NAME=FILE where the network has several
    #[arg(long, short, value_name = "[NAME=]FILE", value_parser = NamedFile::parse)]
    output: Vec<NamedFile>,
    /// Write any blob (.npy)
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
    /// Print JSON, one document at the end
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
    #[serde(skip_serializing_if = "Option::is_none")]
    preprocessing: Option<String>,
    images: Vec<Image>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detections: Vec<detections::Detections>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Failed>,
    written: Vec<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<time::Report>,
}

/// An input without result.
#[derive(Serialize)]
pub struct Failed {
    pub input: String,
    pub error: String,
}

/// Tells at the end that some of the inputs could not be used.
pub fn failures(count: usize, tried: usize) -> Result<()> {
    match count {
        0 => Ok(()),
        _ => Err(
            InputError::new(format!("{count} of {tried} inputs that cannot be used"))
                .expected("pictures and arrays for this network")
                .hint("each is named above; the others are done")
                .into(),
        ),
    }
}

/// Inputs without result: each is told when it is met, the exit code tells at the end.
struct Failures {
    failed: Vec<Failed>,
    tried: usize,
    /// The only input: its error ends the command.
    is_only_one: bool,
}

impl Failures {
    fn new(is_only_one: bool) -> Self {
        Self {
            failed: Vec::new(),
            tried: 0,
            is_only_one,
        }
    }
    fn note(&mut self, input: String, error: Error, printer: &mut Printer<'_>) -> Result<()> {
        if self.is_only_one {
            return Err(error);
        }
        let error = error.to_string();
        skimjit_program::error(&error);
        printer.failed(&input, &error)?;
        self.failed.push(Failed { input, error });
        Ok(())
    }
}

pub fn run(arguments: &Arguments, out: &mut Output) -> Result<()> {
    check_files(arguments)?;
    let mut options = arguments.engine.options()?;
    let mut model = arguments.model.load()?;
    labels::set(&mut model, arguments.labels.as_deref())?;
    check_names(arguments, &model)?;
    let names = arguments.dump_blob.iter();
    options.keep = Keep::Named(names.filter_map(|named| named.name.clone()).collect());
    options.tuning = arguments.tune.tuning()?;
    let labels = Labels::of_model(&model);
    let asks_for_results = labels.are_known() && arguments.labels.is_some();
    let asks_for_results = asks_for_results || arguments.format != Format::Text;
    let writes = !arguments.output.is_empty() || !arguments.dump_blob.is_empty();
    let usual = if asks_for_results || !writes {
        USUAL_TOP
    } else {
        0
    };
    let top = arguments.top.unwrap_or(usual);
    let reading = Reading {
        model: &model,
        labels,
        top,
    };
    let is_silent = arguments.json || writes_to_stdout(arguments);
    let printer = Printer::new(arguments.format, is_silent, &reading, out)?;
    if arguments.reshape {
        return reshape::run(arguments, &options, &reading, printer);
    }
    match model.graph().inputs[..] {
        [input] => {
            let name = &model.graph().value(input).name;
            let entries = arguments.input.entries(name)?;
            run_files(arguments, options, &reading, entries, printer)
        }
        _ => run_arrays(arguments, options, &reading, printer),
    }
}

fn writes_to_stdout(arguments: &Arguments) -> bool {
    let files = arguments.output.iter().chain(&arguments.dump_blob);
    files.filter(|named| written::is_stdout(named)).count() > 0
}

/// Refuses files that could not be what their names say, and two things on standard output.
fn check_files(arguments: &Arguments) -> Result<()> {
    written::check_names("--output", arguments.output.iter())?;
    written::check_names("--dump-blob", arguments.dump_blob.iter())?;
    let files = arguments.output.iter().chain(&arguments.dump_blob);
    let arrays = files.filter(|named| written::is_stdout(named)).count();
    let prints = arguments.json || arguments.profile || arguments.format != Format::Text;
    let prints = prints || arguments.top.is_some_and(|top| top > 0);
    if arrays > 1 || arrays == 1 && (prints || arguments.reshape) {
        return Err(Error::Usage(
            "--output: found - beside something else for standard output, expected one array alone"
                .into(),
        ));
    }
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

/// Options for a number of images, where nothing else says how many are computed together.
fn for_images(mut options: CompileOptions, model: &Model, images: u32) -> CompileOptions {
    if options.batch.is_none() && !model.combines_images() {
        options.batch = Some(images.clamp(1, inputs::USUAL_BATCH));
    }
    options
}

/// What pictures need; arrays need nothing.
fn preparation(
    arguments: &Arguments,
    model: &Model,
    entries: &Entries,
    sizes: Sizes,
) -> Result<Preparation> {
    if entries.are_known() && entries.known().all(args::is_npy) {
        arguments.pictures.refuse_without_pictures()?;
    }
    arguments.pictures.prepare(model, sizes)
}

/// Networks of one input: files, one after the other.
fn run_files(
    arguments: &Arguments,
    options: CompileOptions,
    reading: &Reading<'_>,
    mut entries: Entries,
    mut printer: Printer<'_>,
) -> Result<()> {
    let model = reading.model;
    let mut preparation = preparation(arguments, model, &entries, Sizes::Network)?;
    let images = inputs::images_of(&entries);
    let engine = args::compile(model, &for_images(options, model, images))?;
    let own = reading.own(&engine).len();
    let ports = &engine.plan().outputs;
    let kept = Kept::new(&arguments.output, &arguments.dump_blob, ports, own)?;
    let is_only_one = entries.are_known() && entries.known().len() == 1;
    let mut failures = Failures::new(is_only_one || engine.plan().coupled);
    let mut session = session(&engine, arguments.profile);
    let bar = stream::bar(&entries, &printer);
    let mut stream = Stream::new(&engine, &mut session, reading, kept);
    printer.begin();
    while let Some(path) = entries.next()? {
        failures.tried += 1;
        match read(&path, &engine, &mut preparation) {
            Ok((names, elements)) => stream.add(names, elements, &mut printer)?,
            Err(error) if stream.needs_rows() => {
                let error = stream.add_bad(&path, error, &mut printer)?;
                failures.note(path.display().to_string(), error, &mut printer)?;
            }
            Err(error) => failures.note(path.display().to_string(), error, &mut printer)?,
        }
        bar.inc(1);
        if printer.out.is_closed() {
            break;
        }
    }
    stream.finish(&mut printer)?;
    bar.finish_and_clear();
    let results = stream.into_results(&mut printer)?;
    let preprocessing = inputs::Shown(&preparation.preprocess, model).to_string();
    finish(
        arguments,
        &engine,
        &session,
        results,
        failures,
        Some(preprocessing),
        printer,
    )
}

/// Names and elements of the images of a file.
fn read(
    path: &Path,
    engine: &Engine,
    preparation: &mut Preparation,
) -> Result<(Vec<String>, Vec<f32>)> {
    let item = Item::open(path)?;
    let (names, is_picture) = (names_of(&item), item.is_picture());
    let elements = item.elements(&engine.plan().inputs[0].shape, &preparation.preprocess)?;
    if is_picture {
        preparation.announce();
    }
    Ok((names, elements))
}

/// Networks of several inputs: an array for each.
fn run_arrays(
    arguments: &Arguments,
    options: CompileOptions,
    reading: &Reading<'_>,
    mut printer: Printer<'_>,
) -> Result<()> {
    arguments.pictures.refuse_without_pictures()?;
    let model = reading.model;
    let arrays = inputs::arrays(model, &arguments.input.named()?, Sizes::Network)?;
    let images = arrays.first().map_or(1, |array| array.shape().dim(0));
    let engine = args::compile(model, &for_images(options, model, images))?;
    let own = reading.own(&engine).len();
    let ports = &engine.plan().outputs;
    let kept = Kept::new(&arguments.output, &arguments.dump_blob, ports, own)?;
    let mut session = session(&engine, arguments.profile);
    let mut stream = Stream::new(&engine, &mut session, reading, kept);
    printer.begin();
    let names = (0..images)
        .map(|image| Some(format!("image {image}")))
        .collect();
    stream.run(&arrays, names, &mut printer)?;
    let results = stream.into_results(&mut printer)?;
    finish(
        arguments,
        &engine,
        &session,
        results,
        Failures::new(true),
        None,
        printer,
    )
}

fn session(engine: &Engine, profile: bool) -> Session {
    let mut session = engine.session();
    if profile {
        session.start_profile();
    }
    session
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

/// What is printed at the end.
fn finish(
    arguments: &Arguments,
    engine: &Engine,
    session: &Session,
    results: stream::Results,
    failures: Failures,
    preprocessing: Option<String>,
    printer: Printer<'_>,
) -> Result<()> {
    let profile = session.profile().map(|_| time::Report::of(engine, session));
    let (failed, tried) = (failures.failed.len(), failures.tried);
    if arguments.json {
        let mut report = Report {
            model: arguments.model.name(),
            isa: engine.plan().isa.to_string(),
            batch: engine.plan().batch,
            threads: engine.threads(),
            preprocessing,
            images: Vec::new(),
            detections: Vec::new(),
            failed: failures.failed,
            written: results.written,
            profile,
        };
        for found in results.found {
            report.images.extend(found.classes);
            report.detections.extend(found.detections);
        }
        printer.out.json(&report)?;
    } else if printer.is_text() {
        for (port, shape, extent) in &results.maps {
            printer.out.line(format!("{port}: {shape}, {extent}"));
        }
        results
            .written
            .iter()
            .for_each(|written| written.print(printer.out));
        if let Some(profile) = &profile {
            profile.print(printer.out);
        }
    }
    self::failures(failed, tried)
}
