//! `skimjit run --reshape`: every file keeps its own size.

use super::results::{Described, is_classes};
use super::{Arguments, Failed, Failures, Found, Image, Printer, Reading, Written};
use super::{names_of, preparation, stream, written};
use crate::support::args::{self, NamedFile};
use crate::commands::run::detections::Detections;
use crate::support::inputs::{self, Item, Preparation, Sizes};
use crate::support::table::milliseconds;
use serde::Serialize;
use skimjit::{AnyShape, AnyShapeSession, CompileOptions, Engine, Error, Result};
use skimjit_models::{Shape, Tensor};
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Failed>,
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detections: Vec<Detections>,
    written: Vec<Written>,
}

/// Inputs of one run.
struct Feed {
    name: String,
    images: Vec<String>,
    inputs: Vec<Tensor>,
}

/// Files through engines of their sizes.
struct Runs<'a> {
    arguments: &'a Arguments,
    reading: &'a Reading<'a>,
    engines: &'a AnyShape,
    session: AnyShapeSession,
    /// For a report at the end.
    files: Vec<File>,
}

pub(super) fn run(
    arguments: &Arguments,
    options: &CompileOptions,
    reading: &Reading<'_>,
    mut printer: Printer<'_>,
) -> Result<()> {
    let engines = AnyShape::new(reading.model, options, AnyShape::USUAL_SHAPES)?;
    let mut runs = Runs {
        session: engines.session(),
        engines: &engines,
        arguments,
        reading,
        files: Vec::new(),
    };
    printer.begin();
    let failures = match reading.model.graph().inputs[..] {
        [input] => {
            let name = &reading.model.graph().value(input).name;
            runs.all_files(name, &mut printer)?
        }
        _ => {
            let feed = arrays(arguments, reading)?;
            runs.one(feed, None, None, &mut printer)?;
            Failures::new(true)
        }
    };
    options.tuning.iter().for_each(args::keep);
    let (failed, tried) = (failures.failed.len(), failures.tried);
    if arguments.json {
        printer.out.json(&Report {
            model: arguments.model.name(),
            isa: options.isa.map_or(String::new(), |isa| isa.to_string()),
            threads: engines.threads(),
            sizes: engines.generated(),
            files: runs.files,
            failed: failures.failed,
        })?;
    }
    super::failures(failed, tried)
}

/// All arrays, where the network has several inputs.
fn arrays(arguments: &Arguments, reading: &Reading<'_>) -> Result<Feed> {
    arguments.pictures.refuse_without_pictures()?;
    let arrays = inputs::arrays(reading.model, &arguments.input.named()?, Sizes::Any)?;
    let images = arrays.first().map_or(1, |array| array.shape().dim(0));
    Ok(Feed {
        name: "arrays".to_owned(),
        images: (0..images).map(|image| format!("image {image}")).collect(),
        inputs: arrays,
    })
}

impl Runs<'_> {
    /// One run for each file.
    fn all_files(&mut self, input: &str, printer: &mut Printer<'_>) -> Result<Failures> {
        let mut entries = self.arguments.input.entries(input)?;
        let mut preparation =
            preparation(self.arguments, self.reading.model, &entries, Sizes::Any)?;
        let several = !entries.are_known() || entries.known().len() > 1;
        let mut failures = Failures::new(!several);
        let bar = stream::bar(&entries, printer);
        while let Some(path) = entries.next()? {
            let number = several.then_some(failures.tried);
            failures.tried += 1;
            let told = self
                .feed(&path, &preparation)
                .and_then(|feed| self.one(feed, number, Some(&mut preparation), printer));
            if let Err(error) = told {
                failures.note(path.display().to_string(), error, printer)?;
            }
            bar.inc(1);
            if printer.out.is_closed() {
                break;
            }
        }
        bar.finish_and_clear();
        Ok(failures)
    }

    fn feed(&self, path: &Path, preparation: &Preparation) -> Result<Feed> {
        let item = Item::open(path)?;
        let graph = self.engines.model().graph();
        Ok(Feed {
            name: path.display().to_string(),
            images: names_of(&item),
            inputs: vec![item.whole(graph.shape(graph.inputs[0]), &preparation.preprocess)?],
        })
    }

    /// Runs the inputs, writes what is asked for, and tells what is known.
    fn one(
        &mut self,
        feed: Feed,
        number: Option<usize>,
        preparation: Option<&mut Preparation>,
        printer: &mut Printer<'_>,
    ) -> Result<()> {
        let Feed {
            name,
            images,
            inputs,
        } = feed;
        let shapes: Vec<Shape> = inputs.iter().map(|input| input.shape().clone()).collect();
        let named = |error: Error| match error {
            Error::Input(error) => error.file(&name).into(),
            other => other,
        };
        let known = self.engines.generated();
        let started = Instant::now();
        let engine = self.session.prepare(&shapes).map_err(named)?;
        let generated = (self.engines.generated() > known).then(|| started.elapsed());
        let started = Instant::now();
        let outputs = self.session.run(&inputs).map_err(named)?;
        let run_ms = in_milliseconds(started.elapsed());
        if let Some(preparation) = preparation.filter(|_| !args::is_npy(Path::new(&name))) {
            preparation.announce();
        }
        let ports = self.reading.own(&engine);
        let written = write(
            self.arguments,
            &engine,
            ports.len(),
            &outputs,
            number,
            printer,
        )?;
        let described = ports.iter().zip(&outputs);
        let described = described.filter(|(port, _)| !is_classes(port));
        let names: Vec<Option<String>> = images.into_iter().map(Some).collect();
        stream::warn_of_infinities(&engine.plan().outputs, &outputs, &names);
        let found = self.reading.gather(&engine, &outputs, &names);
        let mut file = File {
            input: name,
            shape: shapes.first().map_or(String::new(), ToString::to_string),
            generated_ms: generated.map(in_milliseconds),
            run_ms,
            outputs: described
                .map(|(port, output)| Described::new(&port.name, output.shape(), output.data()))
                .collect(),
            images: Vec::new(),
            detections: Vec::new(),
            written,
        };
        if printer.is_silent() {
            for Found {
                classes,
                detections,
                ..
            } in found
            {
                file.images.extend(classes);
                file.detections.extend(detections);
            }
            self.files.push(file);
            return Ok(());
        }
        if printer.is_text() {
            file.print(printer);
        }
        printer.print(&found)
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
    printer: &mut Printer<'_>,
) -> Result<Vec<Written>> {
    let ports = &engine.plan().outputs;
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    let mut one = |what: &str, named: &NamedFile, names: &[&str]| -> Result<Written> {
        let port = named.port(what, names)?;
        let mut target = named.clone();
        if let Some(number) = number {
            target.file = numbered(&named.file, number);
        }
        written::write(&target, &outputs[port], printer.out)?;
        Ok(Written {
            blob: names[port].to_owned(),
            shape: outputs[port].shape().to_string(),
            file: target.file,
        })
    };
    let mut written = Vec::new();
    for named in &arguments.output {
        written.push(one("--output", named, &names[..own])?);
    }
    for named in &arguments.dump_blob {
        written.push(one("--dump-blob", named, &names)?);
    }
    Ok(written)
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

impl File {
    fn print(&self, printer: &mut Printer<'_>) {
        let (input, shape, run) = (&self.input, &self.shape, milliseconds(self.run_ms));
        let generated = match self.generated_ms {
            Some(ms) => format!("kernels generated in {} ms, ", milliseconds(ms)),
            None => String::new(),
        };
        let line = format!("{input}: {shape}, {generated}run in {run} ms");
        printer.out.line(line);
        let outputs = self.outputs.iter();
        outputs.for_each(|output| printer.out.line(format!("  {output}")));
        self.written
            .iter()
            .for_each(|written| written.print(printer.out));
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
