//! How much the outputs of a network have changed: what can be said of it where nothing tells what is right.

use crate::engine::Engine;
use crate::trial::Stream;
use serde::Serialize;
use skimjit_models::{Error, Result, Shape, ValueId};

/// Bytes of outputs that are kept at most.
const MOST_BYTES: u64 = 4 << 30;

/// The outputs of a network for the inputs of a stream.
pub struct Outputs {
    /// Per batch and output.
    values: Vec<Vec<Vec<f32>>>,
}

/// How an output has changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputChange {
    /// Name of the output.
    pub output: String,
    /// ‖after − before‖ / ‖before‖ of an input, the mean over all inputs.
    pub mean: f64,
    /// The same of the input for which it is largest.
    pub largest: f64,
    /// Share of inputs whose greatest element is the same; of outputs that look like classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_class: Option<f64>,
}

/// How all outputs have changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// In the order of the network.
    pub changes: Vec<OutputChange>,
}

/// Sums over inputs.
#[derive(Clone, Default)]
struct Sums {
    inputs: f64,
    difference: f64,
    largest: f64,
    same: f64,
}

impl Outputs {
    /// Runs a network.
    pub fn of(engine: &mut dyn Engine, stream: &Stream) -> Result<Self> {
        let mut values = Vec::new();
        let mut bytes = 0;
        stream.run(engine, &mut |engine| {
            let outputs = read(engine, stream);
            bytes += outputs
                .iter()
                .map(|output| 4 * output.len() as u64)
                .sum::<u64>();
            if bytes > MOST_BYTES {
                return Err(Error::new("outputs of more than 4 GiB")
                    .expected("outputs that fit into 4 GiB")
                    .hint("give fewer inputs"));
            }
            values.push(outputs);
            Ok(())
        })?;
        Ok(Self { values })
    }

    /// Runs the network again, and compares.
    pub fn change(&self, engine: &mut dyn Engine, stream: &Stream) -> Result<Change> {
        let graph = &engine.net(stream.id()).graph;
        let output = |&id: &ValueId| (graph.value(id).name.clone(), graph.shape(id).clone());
        let outputs: Vec<(String, Shape)> = graph.outputs.iter().map(output).collect();
        let mut sums = vec![Sums::default(); outputs.len()];
        let mut before = self.values.iter();
        stream.run(engine, &mut |engine| {
            let after = read(engine, stream);
            let before = before.next().into_iter().flatten();
            let images = stream.images(engine);
            for (((sums, (_, shape)), before), after) in
                sums.iter_mut().zip(&outputs).zip(before).zip(&after)
            {
                // An output that is not one of each image counts as one.
                let parts = if shape.dims().first() == Some(&images) {
                    images
                } else {
                    1
                };
                let part = (before.len() / parts as usize).max(1);
                let pairs = before.chunks_exact(part).zip(after.chunks_exact(part));
                pairs.for_each(|(before, after)| sums.add(before, after));
            }
            Ok(())
        })?;
        let change = |(sums, (name, shape)): (Sums, (String, Shape))| sums.change(name, &shape);
        let changes = sums.into_iter().zip(outputs).map(change).collect();
        Ok(Change { changes })
    }
}

/// The outputs of the last run.
fn read(engine: &dyn Engine, stream: &Stream) -> Vec<Vec<f32>> {
    let ids = engine.net(stream.id()).graph.outputs.iter();
    ids.map(|&id| engine.value(stream.id(), id)).collect()
}

impl Sums {
    fn add(&mut self, before: &[f32], after: &[f32]) {
        let squares = |of: &dyn Fn(f32, f32) -> f64| -> f64 {
            let pairs = before.iter().zip(after);
            pairs.map(|(a, b)| of(*a, *b).powi(2)).sum()
        };
        let difference = squares(&|a, b| f64::from(b) - f64::from(a)).sqrt();
        let norm = squares(&|a, _| f64::from(a)).sqrt();
        let relative = match difference == 0.0 {
            true => 0.0,
            // What was nothing has become all that it is.
            false if norm == 0.0 => 1.0,
            false => difference / norm,
        };
        self.inputs += 1.0;
        self.difference += relative;
        self.largest = if relative > self.largest || relative.is_nan() {
            relative
        } else {
            self.largest
        };
        self.same += f64::from(u8::from(best(before) == best(after)));
    }

    fn change(self, output: String, shape: &Shape) -> OutputChange {
        let inputs = self.inputs.max(1.0);
        OutputChange {
            output,
            mean: self.difference / inputs,
            largest: self.largest,
            same_class: looks_like_classes(shape).then(|| self.same / inputs),
        }
    }
}

/// N × C, perhaps with axes of one element behind: scores of classes.
fn looks_like_classes(shape: &Shape) -> bool {
    match shape.dims() {
        [_, classes, rest @ ..] => *classes > 1 && rest.iter().all(|&dim| dim == 1),
        _ => false,
    }
}

/// The first of the greatest elements.
fn best(scores: &[f32]) -> Option<usize> {
    let indices = 0..scores.len();
    indices.reduce(|best, index| {
        if scores[index] > scores[best] {
            index
        } else {
            best
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_classes_are_compared() {
        let mut sums = Sums::default();
        sums.add(&[3.0, 4.0], &[3.0, 4.0]);
        sums.add(&[3.0, 4.0], &[6.0, 4.0]);
        sums.add(&[0.0, 0.0], &[0.0, 1.0]);
        let change = sums.change("y".to_owned(), &Shape::new([3, 2, 1, 1]).unwrap());
        assert!(
            (change.mean - 1.6 / 3.0).abs() < 1e-12 && change.largest == 1.0,
            "{change:?}"
        );
        assert_eq!(change.same_class, Some(1.0 / 3.0));
        let mut sums = Sums::default();
        sums.add(&[1.0], &[f32::NAN]);
        let map = Shape::new([1, 2, 3]).unwrap();
        let change = sums.change("y".to_owned(), &map);
        assert!(change.largest.is_nan() && change.mean.is_nan() && change.same_class.is_none());
    }
}
