//! Pictures of known classes.

use super::Arguments;
use crate::commands::run::{Failed, is_classes};
use crate::support::args;
use crate::support::entries::Listed;
use crate::support::inputs::{Item, Preparation, Sizes, USUAL_BATCH};
use crate::support::output::Output;
use serde::Serialize;
use skimjit::{Engine, LoadOptions, Model, Result, Session};
use skimjit_models::{Error as InputError, Shape, Tensor};
use skimjit_program::progress;
use skimjit_runtime::Port;
use std::path::Path;
use std::time::Instant;

/// Classes among which the right one may be.
const TOPS: [usize; 2] = [1, 5];

/// How often a network is right.
#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    threads: usize,
    batch: usize,
    output: String,
    images: usize,
    /// Shares of the images whose class is the best one, and among the best five.
    top1: f64,
    top5: f64,
    /// Without reading pictures.
    images_per_second: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Failed>,
}

pub fn run(arguments: &Arguments, file: &Path, list: &Path, out: &mut Output) -> Result<()> {
    let shape = arguments.input_shape.clone();
    let (named, unnamed) = match shape {
        Some((Some(name), shape)) => (vec![(name, shape)], None),
        Some((None, shape)) => (vec![], Some(shape)),
        None => (vec![], None),
    };
    let options = LoadOptions {
        input_shape: unnamed,
        input_shapes: named,
        zero_below: arguments.zero_below,
        ignore_unknown_fields: arguments.care.ignore_unknown_fields,
        ..LoadOptions::default()
    };
    let model = progress::spin("reading", || Model::load(file, &options))?;
    let model = args::warned(model)?;
    let listed = Listed::read(list)?;
    let mut options = arguments.machine.options()?;
    options.tuning = arguments.tune.tuning()?;
    if !model.combines_images() {
        options.batch = Some((listed.len() as u32).clamp(1, USUAL_BATCH));
    }
    let engine = args::compile(&model, &options)?;
    let output = judged(file, &model, &engine)?;
    let preparation = arguments.pictures.prepare(&model, Sizes::Network)?;
    let mut judge = Judge {
        engine: &engine,
        session: engine.session(),
        output,
        preparation,
        right: [0; 2],
        images: 0,
        seconds: 0.0,
        failed: Vec::new(),
    };
    let bar = progress::bar("pictures", listed.len() as u64);
    for some in listed.chunks(engine.plan().batch) {
        judge.add(list, some)?;
        bar.inc(some.len() as u64);
    }
    bar.finish_and_clear();
    judge.report(file, arguments.json, listed.len(), out)
}

/// The one output that has a score for each class.
fn judged(file: &Path, model: &Model, engine: &Engine) -> Result<usize> {
    let ports = &engine.plan().outputs;
    let own = &ports[..model.graph().outputs.len().min(ports.len())];
    let classes: Vec<usize> = (0..own.len()).filter(|&i| is_classes(&own[i])).collect();
    match classes[..] {
        [only] if engine.plan().inputs.len() == 1 => Ok(only),
        _ => Err(InputError::new(format!(
            "{} inputs, and {} outputs with a score for each class",
            engine.plan().inputs.len(),
            classes.len()
        ))
        .file(file)
        .expected("one input and one such output")
        .hint("write the outputs with skimjit run --output, and compare them yourself")
        .into()),
    }
}

struct Judge<'a> {
    engine: &'a Engine,
    session: Session,
    output: usize,
    preparation: Preparation,
    /// For each of [`TOPS`].
    right: [usize; 2],
    images: usize,
    seconds: f64,
    failed: Vec<Failed>,
}

impl Judge<'_> {
    /// Runs the pictures of a batch; those that cannot be used are told.
    fn add(&mut self, list: &Path, some: &[Listed]) -> Result<()> {
        let (mut elements, mut classes) = (Vec::new(), Vec::new());
        for listed in some {
            let most = self.port().elems;
            if listed.class >= most {
                let error = InputError::new(format!("class {} of {}", listed.class, listed.path.display()));
                let error = error.file(list).expected(format!("0 to {}", most - 1));
                return Err(error.hint("classes are counted from 0").into());
            }
            match self.read(&listed.path) {
                Ok(picture) => {
                    elements.extend(picture);
                    classes.push(listed.class);
                }
                Err(error) => {
                    let error = error.to_string();
                    skimjit_program::error(&error);
                    let input = listed.path.display().to_string();
                    self.failed.push(Failed { input, error });
                }
            }
        }
        match classes.is_empty() {
            true => Ok(()),
            false => self.judge(elements, &classes),
        }
    }

    fn port(&self) -> &Port {
        &self.engine.plan().outputs[self.output]
    }

    fn read(&mut self, path: &Path) -> Result<Vec<f32>> {
        let item = Item::open(path)?;
        if item.images() != 1 {
            let error = InputError::new(format!("{} images", item.images())).file(path);
            return Err(error.expected("one, for one class").into());
        }
        let (port, is_picture) = (&self.engine.plan().inputs[0].shape, item.is_picture());
        let elements = item.elements(port, &self.preparation.preprocess)?;
        if is_picture {
            self.preparation.announce();
        }
        Ok(elements)
    }

    fn judge(&mut self, elements: Vec<f32>, classes: &[usize]) -> Result<()> {
        let port = &self.engine.plan().inputs[0].shape;
        let shape = Shape::new(port.with_batch(classes.len() as u32).dims())?;
        let started = Instant::now();
        let outputs = self.engine.run(&mut self.session, &[Tensor::new(shape, elements)])?;
        self.seconds += started.elapsed().as_secs_f64();
        let rows = outputs[self.output].data().chunks(self.port().elems);
        for (row, &class) in rows.zip(classes) {
            let before = place(row, class);
            for (right, top) in self.right.iter_mut().zip(TOPS) {
                *right += usize::from(before < top);
            }
        }
        self.images += classes.len();
        Ok(())
    }

    fn report(self, file: &Path, json: bool, tried: usize, out: &mut Output) -> Result<()> {
        let share = |right: usize| right as f64 / self.images.max(1) as f64;
        let plan = self.engine.plan();
        let failed = self.failed.len();
        let report = Report {
            model: file.display().to_string(),
            isa: plan.isa.to_string(),
            threads: self.engine.threads(),
            batch: plan.batch,
            output: self.port().name.clone(),
            images: self.images,
            top1: share(self.right[0]),
            top5: share(self.right[1]),
            images_per_second: self.images as f64 / self.seconds.max(f64::MIN_POSITIVE),
            failed: self.failed,
        };
        if json {
            out.json(&report)?;
        } else {
            report.print(out);
        }
        crate::commands::run::failures(failed, tried)
    }
}

impl Report {
    fn print(&self, out: &mut Output) {
        let Self { isa, threads, batch, images, output, .. } = self;
        out.line(format!("{isa}, batch {batch}, {threads} threads"));
        out.line(format!("{images} images, output {output}"));
        for (top, share) in TOPS.iter().zip([self.top1, self.top5]) {
            out.line(format!("top {top}: {:.2} %", 100.0 * share));
        }
        out.line(format!("{:.1} images per second without reading them", self.images_per_second));
    }
}

/// Classes that are before one; of equal scores the lower number comes first, a NaN is behind all.
fn place(scores: &[f32], class: usize) -> usize {
    let own = scores[class];
    if own.is_nan() {
        return scores.len();
    }
    let is_before = |&(other, &score): &(usize, &f32)| score > own || score == own && other < class;
    scores.iter().enumerate().filter(is_before).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_places() {
        let scores = [0.5, 2.0, f32::NAN, 0.5, -1.0];
        let places = [0, 1, 2, 3, 4].map(|class| place(&scores, class));
        assert_eq!(places, [1, 0, 5, 2, 3]);
    }
}
