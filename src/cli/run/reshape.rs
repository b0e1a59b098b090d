//! `skimjit run --reshape`: every file keeps its own size.

use super::{Arguments, Image, USUAL_TOP, Written, classify, is_classes, names_of, open};
use crate::cli::args::{self, NamedFile};
use crate::cli::inputs::{self, Item};
use crate::cli::labels::Labels;
use crate::cli::output::Output;
use crate::cli::progress;
use crate::cli::table::milliseconds;
use serde::Serialize;
use skimjit::models::{Shape, Tensor};
use skimjit::picture::Preprocess;
use skimjit::runtime::Port;
use skimjit::{AnyShape, AnyShapeSession, CompileOptions, Engine, Error, Model, Result, array};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    threads: usize,
    /// Sizes that kernels were generated for, one that came again after it was given up counted again.
    sizes: usize,
    files: Vec<File>,
}

/// What became of one picture or array (of all arrays, where the network has several inputs).
#[derive(Serialize)]
struct File {
    input: String,
    /// Of the first input.
    shape: String,
    /// Time of generating the kernels; `None` when there were kernels for this size.
    generated_ms: Option<f64>,
    run_ms: f64,
    outputs: Vec<Described>,
    images: Vec<Image>,
    written: Vec<Written>,
}

/// An output that is no list of classes.
#[derive(Serialize)]
struct Described {
    blob: String,
    shape: String,
    low: f32,
    high: f32,
    mean: f64,
}

/// Inputs of one run.
struct Feed {
    name: String,
    images: Vec<String>,
    source: Source,
}

enum Source {
    Item(Item),
    Arrays(Vec<Tensor>),
}

pub(super) fn run(
    arguments: &Arguments,
    model: &Model,
    options: &CompileOptions,
    labels: Option<&Labels>,
    out: &mut Output,
) -> Result<()> {
    let feeds = feeds(arguments, model)?;
    let preprocess = arguments.pictures.preprocess()?;
    let engines = AnyShape::new(model, options, AnyShape::USUAL_SHAPES)?;
    let mut session = engines.session();
    let several = feeds.len() > 1;
    let bar = progress::bar("files", feeds.len() as u64);
    let mut files = Vec::new();
    for (number, feed) in feeds.into_iter().enumerate() {
        let number = several.then_some(number);
        let file = feed.run(
            arguments,
            &mut session,
            &engines,
            &preprocess,
            labels,
            number,
        );
        files.push(file?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    options.tuning.iter().for_each(args::keep);
    let report = Report {
        model: arguments.model.name(),
        isa: options.isa.map_or(String::new(), |isa| isa.to_string()),
        threads: engines.threads(),
        sizes: engines.generated(),
        files,
    };
    if arguments.json {
        return out.json(&report);
    }
    report.files.iter().for_each(|file| file.print(out));
    Ok(())
}

/// One run for each file, or one of all arrays where the network has several inputs.
fn feeds(arguments: &Arguments, model: &Model) -> Result<Vec<Feed>> {
    let [_] = model.graph().inputs[..] else {
        arguments.pictures.refuse_without_pictures()?;
        let arrays = inputs::arrays(model, &arguments.input, inputs::Sizes::Any)?;
        let images = arrays.first().map_or(1, |array| array.shape().dim(0));
        return Ok(vec![Feed {
            name: "arrays".to_owned(),
            images: (0..images).map(|image| format!("image {image}")).collect(),
            source: Source::Arrays(arrays),
        }]);
    };
    let items = open(arguments, model)?.into_iter();
    let feed = |item: Item| Feed {
        name: item.file.display().to_string(),
        images: names_of(&item),
        source: Source::Item(item),
    };
    Ok(items.map(feed).collect())
}

impl Feed {
    fn run(
        self,
        arguments: &Arguments,
        session: &mut AnyShapeSession,
        engines: &AnyShape,
        preprocess: &Preprocess,
        labels: Option<&Labels>,
        number: Option<usize>,
    ) -> Result<File> {
        let inputs = match self.source {
            Source::Arrays(arrays) => arrays,
            Source::Item(item) => {
                let graph = engines.model().graph();
                vec![item.whole(graph.shape(graph.inputs[0]), preprocess)?]
            }
        };
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape().clone()).collect();
        let name = self.name;
        let named = |error: Error| match error {
            Error::Input(error) => error.file(&name).into(),
            other => other,
        };
        let known = engines.generated();
        let started = Instant::now();
        let engine = session.prepare(&shapes).map_err(named)?;
        let generated = (engines.generated() > known).then(|| started.elapsed());
        let started = Instant::now();
        let outputs = session.run(&inputs).map_err(named)?;
        let run_ms = in_milliseconds(started.elapsed());
        let own = engines.model().graph().outputs.len();
        let ports = &engine.plan().outputs[..own.min(engine.plan().outputs.len())];
        let written = write(arguments, &engine, ports.len(), &outputs, number)?;
        let usual = labels.is_some() || written.is_empty();
        let top = arguments.top.unwrap_or(if usual { USUAL_TOP } else { 0 });
        let described = ports.iter().zip(&outputs);
        let described = described.filter(|(port, _)| !is_classes(port));
        Ok(File {
            shape: shapes.first().map_or(String::new(), ToString::to_string),
            generated_ms: generated.map(in_milliseconds),
            run_ms,
            outputs: described
                .map(|(port, output)| Described::of(port, output))
                .collect(),
            images: classify(ports, &outputs, &self.images, labels, top),
            written,
            input: name,
        })
    }
}

fn in_milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Writes what `--output` and `--dump-blob` ask for.
fn write(
    arguments: &Arguments,
    engine: &Engine,
    own: usize,
    outputs: &[Tensor],
    number: Option<usize>,
) -> Result<Vec<Written>> {
    let ports = &engine.plan().outputs;
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let one = |what: &str, named: &NamedFile, names: &[&str]| {
        let port = named.port(what, names)?;
        let file = number.map_or(named.file.clone(), |number| numbered(&named.file, number));
        array::write_npy(&file, &outputs[port])?;
        Ok(Written {
            blob: names[port].to_owned(),
            shape: outputs[port].shape().to_string(),
            file,
        })
    };
    let asked = arguments.output.iter();
    let asked = asked.map(|named| one("--output", named, &names[..own]));
    let dumped = arguments.dump_blob.iter();
    asked
        .chain(dumped.map(|named| one("--dump-blob", named, &names)))
        .collect()
}

/// The file for input `number`: `maps.npy` becomes `maps.3.npy`.
fn numbered(file: &Path, number: usize) -> PathBuf {
    match file.extension() {
        Some(extension) => {
            let mut ending = std::ffi::OsString::from(format!("{number}."));
            ending.push(extension);
            file.with_extension(ending)
        }
        None => file.with_extension(number.to_string()),
    }
}

impl Described {
    fn of(port: &Port, output: &Tensor) -> Self {
        let [low, high, mean] = super::extent(output.data());
        Self {
            blob: port.name.clone(),
            shape: output.shape().to_string(),
            low: low as f32,
            high: high as f32,
            mean,
        }
    }
}

impl File {
    fn print(&self, out: &mut Output) {
        let (input, shape, run) = (&self.input, &self.shape, milliseconds(self.run_ms));
        let generated = match self.generated_ms {
            Some(ms) => format!("kernels generated in {} ms, ", milliseconds(ms)),
            None => String::new(),
        };
        out.line(format!("{input}: {shape}, {generated}run in {run} ms"));
        for output in &self.outputs {
            let Described {
                blob,
                shape,
                low,
                high,
                mean,
            } = output;
            out.line(format!(
                "  {blob}: {shape}, values {low:.6} to {high:.6}, mean {mean:.6}"
            ));
        }
        let several = self.images.len() > 1;
        for image in &self.images {
            if several {
                out.line(format!("{} {}", image.input, image.output));
            }
            out.table(&super::table_of(image));
        }
        self.written.iter().for_each(|written| written.print(out));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_before_the_extension() {
        let file = |text: &str| numbered(Path::new(text), 3).display().to_string();
        assert_eq!(file("a/maps.npy"), "a/maps.3.npy");
        assert_eq!(file("a.b/maps"), "a.b/maps.3");
        assert_eq!(file("x.y.npy"), "x.y.3.npy");
    }
}
