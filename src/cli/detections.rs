//! What a DetectionOutput layer found, picture by picture.

use super::labels::Labels;
use super::output::Output;
use super::table::{Table, left, right};
use serde::Serialize;
use skimjit::models::{Op, Tensor};
use skimjit::{Engine, Model};

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

/// Detections of each image, the rows behind the last one left out.
pub fn gather(
    model: &Model,
    engine: &Engine,
    outputs: &[Tensor],
    images: &[String],
    labels: Option<&Labels>,
) -> Vec<Detections> {
    let plan = engine.plan();
    let ports = plan.outputs.iter().zip(outputs);
    let mut found = Vec::new();
    for (port, output) in ports.filter(|(port, _)| are_made_by(model, &port.name)) {
        let mut of_images: Vec<Vec<Object>> = images.iter().map(|_| Vec::new()).collect();
        // Each run of the network numbers its images from 0.
        for (run, rows) in output.data().chunks(port.shape.count()).enumerate() {
            for row in rows.chunks_exact(ROW).filter(|row| row[0] >= 0.0) {
                if let Some(objects) = of_images.get_mut(run * plan.batch + row[0] as usize) {
                    objects.push(object(row, labels));
                }
            }
        }
        let named = images.iter().zip(of_images);
        found.extend(named.map(|(input, objects)| Detections {
            input: input.clone(),
            output: port.name.clone(),
            objects,
        }));
    }
    found
}

fn object(row: &[f32], labels: Option<&Labels>) -> Object {
    let class = row[1].max(0.0) as usize;
    Object {
        class,
        label: labels
            .and_then(|labels| labels.of(class))
            .map(str::to_owned),
        score: row[2],
        corners: [row[3], row[4], row[5], row[6]],
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
