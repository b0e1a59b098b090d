//! What a DetectionOutput layer found, picture by picture.

use crate::support::labels::Labels;
use crate::support::output::Output;
use crate::support::table::{Table, left, right};
use serde::Serialize;
use skimjit::{Engine, Model};
use skimjit_models::{Op, Tensor};

/// Elements of a detection: image, class, score, corners.
const ROW: usize = 7;

/// What was found in one image.
#[derive(Serialize)]
pub struct Detections {
    input: String,
    output: String,
    objects: Vec<Object>,
}

/// One object.
#[derive(Serialize)]
struct Object {
    class: usize,
    label: Option<String>,
    score: f32,
    /// xmin, ymin, xmax, ymax in shares of the picture's width and height.
    corners: [f32; 4],
}

/// True for the network's outputs that are detections.
pub fn are_made_by(model: &Model, output: &str) -> bool {
    let graph = model.graph();
    graph.nodes.iter().any(|node| {
        matches!(node.op, Op::DetectionOutput(_))
            && graph.outputs.contains(&node.output)
            && graph.value(node.output).name == output
    })
}

/// Detections of each image, by output, the rows behind the last one left out; none for images without name.
pub fn gather(
    model: &Model,
    engine: &Engine,
    outputs: &[Tensor],
    images: &[Option<String>],
    labels: Labels<'_>,
) -> Vec<Vec<Detections>> {
    let plan = engine.plan();
    let ports = plan.outputs.iter().zip(outputs);
    let mut found: Vec<Vec<Detections>> = images.iter().map(|_| Vec::new()).collect();
    for (port, output) in ports.filter(|(port, _)| are_made_by(model, &port.name)) {
        for (image, found) in images.iter().zip(&mut found) {
            found.extend(image.iter().map(|input| Detections {
                input: input.clone(),
                output: port.name.clone(),
                objects: Vec::new(),
            }));
        }
        let classes = classes_of(model, &port.name);
        // Each run of the network numbers its images from 0.
        for (run, rows) in output.data().chunks(port.shape.count()).enumerate() {
            for row in rows.chunks_exact(ROW).filter(|row| row[0] >= 0.0) {
                let image = found.get_mut(run * plan.batch + row[0] as usize);
                if let Some(detections) = image.and_then(|found| found.last_mut()) {
                    detections.objects.push(object(row, classes, labels));
                }
            }
        }
    }
    found
}

/// Classes that the layer of an output tells apart, the background included.
fn classes_of(model: &Model, output: &str) -> usize {
    let classes = skimjit_models::preprocess::classes(model.graph());
    let mut classes = classes.iter().filter(|classes| classes.output == output);
    classes.next().map_or(0, |classes| classes.count)
}

fn object(row: &[f32], classes: usize, labels: Labels<'_>) -> Object {
    let class = row[1].max(0.0) as usize;
    Object {
        class,
        label: labels.of(classes, class).map(str::to_owned),
        score: row[2],
        corners: [row[3], row[4], row[5], row[6]],
    }
}

impl Detections {
    /// A line of CSV for each object.
    pub fn csv_lines(&self, cell: fn(&str) -> String) -> impl Iterator<Item = String> {
        let (input, output) = (cell(&self.input), cell(&self.output));
        self.objects.iter().map(move |object| {
            let label = object.label.as_deref().map(cell).unwrap_or_default();
            let corners = object.corners.map(|corner| format!(",{corner}")).concat();
            format!(
                "{input},{output},{},{label},{}{corners}",
                object.class, object.score
            )
        })
    }
}

/// Prints a table for each image.
pub fn print(detections: &[Detections], out: &mut Output) {
    for image in detections {
        let count = image.objects.len();
        out.line(format!("{}: {count} objects", image.input));
        if count == 0 {
            continue;
        }
        let corners = ["xmin", "ymin", "xmax", "ymax"].map(right);
        let [xmin, ymin, xmax, ymax] = corners;
        let mut table = Table::new([
            left(" "),
            right("class"),
            right("score"),
            xmin,
            ymin,
            xmax,
            ymax,
            left("label"),
        ]);
        for object in &image.objects {
            let [xmin, ymin, xmax, ymax] = object.corners.map(|corner| format!("{corner:.4}"));
            table.row([
                String::new(),
                object.class.to_string(),
                format!("{:.6}", object.score),
                xmin,
                ymin,
                xmax,
                ymax,
                object.label.clone().unwrap_or_default(),
            ]);
        }
        out.table(&table);
    }
}
