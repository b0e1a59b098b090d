//! What a network says about each image, and how it is printed.

use crate::commands::run::detections::{self, Detections};
use crate::support::labels::Labels;
use crate::support::output::Output;
use crate::support::table::{Table, left, right};
use clap::ValueEnum;
use serde::Serialize;
use skimjit::{Engine, Error, Model, Result};
use skimjit_models::{Shape, Tensor};
use skimjit_runtime::Port;

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// Tables
    Text,
    /// One line for each picture, with a line of titles; of detectors one line for each object
    Csv,
    /// One JSON object on a line for each picture
    Jsonl,
}

/// Best classes of one image.
#[derive(Serialize)]
pub struct Image {
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

/// An output that is no list of classes.
#[derive(Serialize)]
pub struct Described {
    blob: String,
    shape: String,
    #[serde(flatten)]
    extent: Extent,
}

impl Described {
    pub fn new(blob: &str, shape: &Shape, values: &[f32]) -> Self {
        Self {
            blob: blob.to_owned(),
            shape: shape.to_string(),
            extent: Extent::of(values),
        }
    }
}

/// Everything about one image.
pub struct Found {
    pub input: String,
    pub classes: Vec<Image>,
    pub detections: Vec<Detections>,
    pub maps: Vec<Described>,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    outputs: Vec<LineOutput<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum LineOutput<'a> {
    Classes {
        output: &'a str,
        classes: &'a [Class],
    },
    Objects(&'a Detections),
    Map {
        output: &'a str,
        shape: &'a str,
        #[serde(flatten)]
        extent: Extent,
    },
}

/// What the results of a network are made of.
pub struct Reading<'a> {
    pub model: &'a Model,
    pub labels: Labels<'a>,
    /// Classes to keep of each list.
    pub top: usize,
}

/// One score per class for each image.
pub fn is_classes(port: &Port) -> bool {
    port.per_image && port.shape.rank() >= 2 && port.elems == port.shape.dim(1) as usize
}

impl Reading<'_> {
    /// Ports of the network's outputs, without blobs that are kept besides.
    pub fn own<'p>(&self, engine: &'p Engine) -> &'p [Port] {
        let ports = &engine.plan().outputs;
        &ports[..self.model.graph().outputs.len().min(ports.len())]
    }
    /// An output that is neither a list of classes nor one of objects.
    pub fn is_map(&self, port: &Port) -> bool {
        !is_classes(port) && !detections::are_made_by(self.model, &port.name)
    }
    /// Results of the images of a run; those without a name are left out.
    pub fn gather(
        &self,
        engine: &Engine,
        outputs: &[Tensor],
        names: &[Option<String>],
    ) -> Vec<Found> {
        let ports = self.own(engine);
        let mut objects = detections::gather(self.model, engine, outputs, names, self.labels);
        let found = |(index, name): (usize, &Option<String>)| {
            let input = name.clone()?;
            Some(Found {
                classes: self.classify(ports, outputs, index, &input),
                detections: objects
                    .get_mut(index)
                    .map(std::mem::take)
                    .unwrap_or_default(),
                maps: self.maps(ports, outputs, index),
                input,
            })
        };
        names.iter().enumerate().filter_map(found).collect()
    }
    fn classify(
        &self,
        ports: &[Port],
        outputs: &[Tensor],
        index: usize,
        input: &str,
    ) -> Vec<Image> {
        let with_classes = ports
            .iter()
            .zip(outputs)
            .filter(|(port, _)| is_classes(port));
        let image = |(port, output): (&Port, &Tensor)| {
            let scores = output.data().chunks_exact(port.elems).nth(index)?;
            let classes = best(scores, self.top).into_iter().map(|class| Class {
                class,
                label: self.labels.of(scores.len(), class).map(str::to_owned),
                score: scores[class],
            });
            Some(Image {
                input: input.to_owned(),
                output: port.name.clone(),
                classes: classes.collect(),
            })
        };
        match self.top {
            0 => Vec::new(),
            _ => with_classes.filter_map(image).collect(),
        }
    }
    fn maps(&self, ports: &[Port], outputs: &[Tensor], index: usize) -> Vec<Described> {
        let maps = ports.iter().zip(outputs);
        let maps = maps.filter(|(port, _)| port.per_image && self.is_map(port));
        let described = |(port, output): (&Port, &Tensor)| {
            let values = output.data().chunks_exact(port.elems).nth(index)?;
            let shape = output.shape().with_batch(1);
            Some(Described::new(&port.name, &shape, values))
        };
        maps.filter_map(described).collect()
    }
}

/// Classes of the highest scores, of equal ones the first.
fn best(scores: &[f32], count: usize) -> Vec<usize> {
    let mut classes: Vec<usize> = (0..scores.len()).collect();
    classes.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    classes.truncate(count);
    classes
}

/// Lowest, highest and mean of values that come bit by bit.
#[derive(Clone, Copy, Serialize)]
pub struct Extent {
    low: f32,
    high: f32,
    mean: f64,
    #[serde(skip)]
    count: usize,
}

impl Extent {
    pub fn new() -> Self {
        Self {
            low: f32::INFINITY,
            high: f32::NEG_INFINITY,
            mean: 0.0,
            count: 0,
        }
    }
    pub fn of(values: &[f32]) -> Self {
        let mut extent = Self::new();
        extent.add(values);
        extent
    }
    pub fn add(&mut self, values: &[f32]) {
        self.low = values.iter().copied().fold(self.low, f32::min);
        self.high = values.iter().copied().fold(self.high, f32::max);
        let sum: f64 = values.iter().map(|&x| f64::from(x)).sum();
        let count = self.count + values.len();
        if count > 0 {
            self.mean += (sum - self.mean * values.len() as f64) / count as f64;
        }
        self.count = count;
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            low, high, mean, ..
        } = self;
        write!(f, "values {low:.6} to {high:.6}, mean {mean:.6}")
    }
}

impl std::fmt::Display for Described {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}, {}", self.blob, self.shape, self.extent)
    }
}

/// Prints results as they come.
pub struct Printer<'a> {
    pub out: &'a mut Output,
    format: Format,
    /// Nothing is printed yet: the whole is printed at the end, or standard output has an array.
    is_silent: bool,
    columns: Columns,
    top: usize,
}

/// What a line of CSV is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    Classes,
    Objects,
}

impl<'a> Printer<'a> {
    pub fn new(
        format: Format,
        is_silent: bool,
        reading: &Reading<'_>,
        out: &'a mut Output,
    ) -> Result<Self> {
        let graph = reading.model.graph();
        let names = graph
            .outputs
            .iter()
            .map(|&id| (id, graph.value(id).name.as_str()));
        let (objects, others): (Vec<_>, Vec<_>) =
            names.partition(|(_, name)| detections::are_made_by(reading.model, name));
        let with_classes = others.iter().any(|&(id, _)| {
            let shape = graph.shape(id);
            shape.rank() >= 2 && shape.count_of(2, shape.rank()) == 1
        });
        let columns = match (with_classes, objects.is_empty()) {
            (true, true) => Columns::Classes,
            (false, false) => Columns::Objects,
            _ if format == Format::Csv => {
                return Err(Error::Usage(
                    "--format csv: found a network whose outputs are not all of one kind, classes or objects, \
                     expected one kind; use --format jsonl, or --output NAME=FILE.npy"
                        .into(),
                ));
            }
            _ => Columns::Classes,
        };
        let top = reading.top.min(with_most_classes(reading.model));
        let printer = Self {
            out,
            format,
            is_silent,
            columns,
            top,
        };
        Ok(printer)
    }

    /// What comes before the first image.
    pub fn begin(&mut self) {
        if self.format != Format::Csv || self.is_silent {
            return;
        }
        let titles = match self.columns {
            Columns::Classes => {
                let best = (1..=self.top).map(|n| format!(",class{n},label{n},score{n}"));
                format!("input,output{}", best.collect::<String>())
            }
            Columns::Objects => "input,output,class,label,score,xmin,ymin,xmax,ymax".to_owned(),
        };
        self.out.line(titles);
    }

    /// Prints the results of some images, and brings them out: whatever happens later, they are not lost.
    pub fn print(&mut self, images: &[Found]) -> Result<()> {
        if self.is_silent {
            return Ok(());
        }
        for image in images {
            match self.format {
                Format::Text => self.text(image),
                Format::Csv => self.csv(image),
                Format::Jsonl => self.jsonl(image)?,
            }
        }
        self.out.flush();
        Ok(())
    }

    /// A picture without results, where each has a line.
    pub fn failed(&mut self, input: &str, error: &str) -> Result<()> {
        if self.format == Format::Jsonl && !self.is_silent {
            self.out
                .json_line(&serde_json::json!({ "input": input, "error": error }))?;
            self.out.flush();
        }
        Ok(())
    }

    /// Nothing is printed until the end.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Whether lines about something else than images can be printed.
    pub fn is_text(&self) -> bool {
        self.format == Format::Text && !self.is_silent
    }

    fn text(&mut self, image: &Found) {
        let several = image.classes.len() > 1;
        for list in &image.classes {
            let output = if several {
                format!(" {}", list.output)
            } else {
                String::new()
            };
            self.out.line(format!("{}{output}", list.input));
            self.out.table(&list.table());
        }
        detections::print(&image.detections, self.out);
    }

    fn csv(&mut self, image: &Found) {
        for Image {
            input,
            output,
            classes,
        } in &image.classes
        {
            let mut line = format!("{},{}", cell(input), cell(output));
            for class in classes {
                let label = class.label.as_deref().map(cell).unwrap_or_default();
                line += &format!(",{},{label},{}", class.class, class.score);
            }
            self.out.line(line);
        }
        for detections in &image.detections {
            detections
                .csv_lines(cell)
                .for_each(|line| self.out.line(line));
        }
    }

    fn jsonl(&mut self, image: &Found) -> Result<()> {
        let classes = image.classes.iter().map(|image| LineOutput::Classes {
            output: &image.output,
            classes: &image.classes,
        });
        let objects = image.detections.iter().map(LineOutput::Objects);
        let maps = image.maps.iter().map(|map| LineOutput::Map {
            output: &map.blob,
            shape: &map.shape,
            extent: map.extent,
        });
        self.out.json_line(&Line {
            input: &image.input,
            outputs: classes.chain(objects).chain(maps).collect(),
        })
    }
}

fn with_most_classes(model: &Model) -> usize {
    let classes = skimjit_models::preprocess::classes(model.graph());
    classes
        .iter()
        .map(|classes| classes.count)
        .max()
        .unwrap_or(0)
}

/// A cell of a CSV file, in quotes where it needs them.
fn cell(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

impl Image {
    fn table(&self) -> Table {
        let mut table = Table::new([left(" "), right("class"), right("score"), left("label")]);
        for class in &self.classes {
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
    fn extents_come_bit_by_bit() {
        let mut extent = Extent::of(&[1.0, 3.0]);
        extent.add(&[]);
        extent.add(&[-4.0]);
        assert_eq!((extent.low, extent.high, extent.mean), (-4.0, 3.0, 0.0));
    }

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        assert_eq!(cell("cat"), "cat");
        assert_eq!(cell("dog, \"hound\""), "\"dog, \"\"hound\"\"\"");
    }
}
