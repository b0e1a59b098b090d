//! Share of correct predictions.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape, TensorRef};
use serde::{Deserialize, Serialize};

/// Share of correct predictions. Operands: scores, labels.
///
/// A prediction is correct when fewer than `top_k` other classes score as much as the label's class
/// or more: ties count against it, as in BVLC's Caffe, so that a network that gives all classes the
/// same score is never right. (SkimCaffe lets the larger of two classes of equal score win.) A label
/// that is no class and a NaN score of the label's class count as wrong; NaN scores of other classes
/// are not better than any. The result is 0 where nothing is counted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    /// Correct when the label is among the k best.
    pub top_k: u32,
    /// Class axis (not negative).
    pub axis: u32,
    /// Skipped label.
    pub ignore_label: Option<i32>,
    /// Output is the accuracy of each class instead of the overall one.
    pub per_class: bool,
}

impl Operation for Accuracy {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [scores, labels] = operands::exactly(inputs)?;
        let axis = operands::axis(scores, self.axis, "axis")?;
        let [outer, classes, inner] = axes::split(scores, axis);
        operands::count(labels, 1, outer * inner)?;
        operands::positive(self.top_k, "top_k")?;
        if self.top_k as usize > classes {
            return Err(Error::new(self.top_k.to_string())
                .field("top_k")
                .expected(format!("at most {classes}, the number of classes")));
        }
        if self.per_class {
            Shape::new([scores.dim(axis)])
        } else {
            Shape::new([])
        }
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        for (class, value) in output.iter_mut().enumerate() {
            let only = self.per_class.then_some(class as i32);
            *value = self.share(inputs[0], inputs[1], only) as f32;
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}

impl Accuracy {
    /// Share of correct predictions among the positions whose label is `only`, or all.
    fn share(&self, scores: TensorRef<'_>, labels: TensorRef<'_>, only: Option<i32>) -> f64 {
        let (mut counted, mut correct) = (0u32, 0u32);
        for (position, &label) in labels.data.iter().enumerate() {
            let label = class(label);
            let ignored = Some(label) == self.ignore_label;
            if !ignored && only.is_none_or(|only| only == label) {
                counted += 1;
                correct += u32::from(self.is_correct(scores, position, label));
            }
        }
        f64::from(correct) / f64::from(counted.max(1))
    }

    fn is_correct(&self, scores: TensorRef<'_>, position: usize, label: i32) -> bool {
        let [_, classes, inner] = axes::split(scores.shape, self.axis as usize);
        let Some(label) = usize::try_from(label).ok().filter(|&label| label < classes) else {
            return false;
        };
        let score = |class: usize| {
            scores.data[(position / inner * classes + class) * inner + position % inner]
        };
        let own = score(label);
        let rival = |&class: &usize| class != label && score(class) >= own;
        !own.is_nan() && (0..classes).filter(rival).count() < self.top_k as usize
    }
}

/// The class that a label names, by the integer part as in Caffe; none for NaN.
fn class(label: f32) -> i32 {
    if label.is_nan() {
        i32::MIN
    } else {
        label as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &Accuracy, scores: &[f32], labels: &[f32], classes: u32) -> Vec<f32> {
        let n = labels.len() as u32;
        let (s, l) = (Shape::new([n, classes]).unwrap(), Shape::new([n]).unwrap());
        let out = op.infer_shape(&[&s, &l], &[]).unwrap();
        let mut dst = vec![f32::NAN; out.count()];
        let inputs = [
            TensorRef {
                shape: &s,
                data: scores,
            },
            TensorRef {
                shape: &l,
                data: labels,
            },
        ];
        op.evaluate(&inputs, &[], &out, &mut dst);
        dst
    }

    #[test]
    fn ties_count_against() {
        let op = Accuracy {
            top_k: 1,
            axis: 1,
            ignore_label: None,
            per_class: false,
        };
        assert_eq!(run(&op, &[1., 1., 1., 1.], &[0., 1.], 2), [0.0]);
        let top_2 = Accuracy {
            top_k: 2,
            ..op.clone()
        };
        assert_eq!(run(&top_2, &[1., 1., 0., 1., 1., 1.], &[0., 1.], 3), [0.5]);
        assert_eq!(run(&op, &[f32::NAN, 0., 0., 1.], &[0., 7.], 2), [0.0]);
        assert_eq!(run(&op, &[f32::NAN, 0., 0., 1.], &[1., 1.], 2), [1.0]);
        assert_eq!(run(&op, &[1., 0.], &[f32::NAN], 2), [0.0]);
    }

    #[test]
    fn ignores_and_counts_per_class() {
        let op = Accuracy {
            top_k: 1,
            axis: 1,
            ignore_label: Some(1),
            per_class: false,
        };
        let scores = [1., 0., 0., 0., 9., 0., 0., 9., 0.];
        assert_eq!(run(&op, &scores, &[0., 1., 2.], 3), [0.5]);
        let each = Accuracy {
            per_class: true,
            ..op.clone()
        };
        assert_eq!(run(&each, &scores, &[0., 1., 2.], 3), [1.0, 0.0, 0.0]);
        assert_eq!(run(&op, &scores, &[1., 1., 1.], 3), [0.0]);
    }
}
