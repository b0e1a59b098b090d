//! Loss layers.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape, TensorRef, WeightId};
use serde::{Deserialize, Serialize};

/// What a loss is divided by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Normalization {
    /// outer·inner.
    Full,
    /// Positions that are not ignored.
    Valid,
    /// outer.
    BatchSize,
    /// 1.
    None,
}

impl Normalization {
    /// The divisor, at least 1.
    fn divisor(self, outer: usize, inner: usize, valid: usize) -> f64 {
        let divisor = match self {
            Self::Full => outer * inner,
            Self::Valid => valid,
            Self::BatchSize => outer,
            Self::None => 1,
        };
        divisor.max(1) as f64
    }
}

/// Loss layers; the output is a scalar. `loss_weight` is not applied to the value.
///
/// A label that is no class makes the loss NaN.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Loss {
    /// Operands: probabilities (a Softmax node before it), labels.
    SoftmaxWithLoss {
        /// Class axis (not negative).
        axis: u32,
        /// Skipped label.
        ignore_label: Option<i32>,
        /// Divisor.
        normalization: Normalization,
    },
    /// ½N⁻¹Σ(a−b)².
    Euclidean,
    /// Operands: scores, targets.
    SigmoidCrossEntropy {
        /// Skipped target.
        ignore_label: Option<i32>,
        /// Divisor.
        normalization: Normalization,
    },
    /// Operands: scores, labels.
    Hinge {
        /// L2 instead of L1.
        l2: bool,
    },
    /// Operands: probabilities, labels.
    MultinomialLogistic,
    /// Operands: probabilities, labels, and the matrix as third operand unless `matrix`.
    Infogain {
        /// Infogain matrix H.
        matrix: Option<WeightId>,
        /// Class axis (not negative).
        axis: u32,
        /// Skipped label.
        ignore_label: Option<i32>,
        /// Divisor.
        normalization: Normalization,
    },
    /// Operands: a, b, similarity.
    Contrastive {
        /// Margin.
        margin: f32,
        /// margin − d² instead of (margin − d)².
        legacy: bool,
    },
}

/// Caffe's lower bound of probabilities in MultinomialLogistic and Infogain.
const LOG_THRESHOLD: f32 = 1e-20;

impl Loss {
    /// See [`Op::name`](super::Op::name).
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::SoftmaxWithLoss { .. } => "SoftmaxWithLoss",
            Self::Euclidean => "EuclideanLoss",
            Self::SigmoidCrossEntropy { .. } => "SigmoidCrossEntropyLoss",
            Self::Hinge { .. } => "HingeLoss",
            Self::MultinomialLogistic => "MultinomialLogisticLoss",
            Self::Infogain { .. } => "InfogainLoss",
            Self::Contrastive { .. } => "ContrastiveLoss",
        }
    }

    /// Checks the operands of losses that compare one class per position.
    fn check_labels(inputs: &[&Shape], axis: u32, field: &str) -> Result<()> {
        let [scores, labels] = operands::exactly(inputs)?;
        let [outer, _, inner] = axes::split(scores, operands::axis(scores, axis, field)?);
        operands::count(labels, 1, outer * inner)
    }

    /// Checks the operands of losses with one label per image.
    fn check_image_labels(inputs: &[&Shape]) -> Result<()> {
        let [scores, labels] = operands::exactly(inputs)?;
        operands::at_least_rank(scores, 0, 1)?;
        operands::count(labels, 1, scores.dim(0) as usize)
    }

    fn check_infogain(
        inputs: &[&Shape],
        weights: &Weights,
        matrix: Option<WeightId>,
        axis: u32,
    ) -> Result<()> {
        let field = "axis";
        let [scores, ..] = inputs else {
            return Err(operands::wrong_number(0, "2 or 3"));
        };
        let classes = scores.dim(operands::axis(scores, axis, field)?) as usize;
        let Some(cells) = classes.checked_mul(classes) else {
            return Err(operands::wrong_number(classes, "fewer classes"));
        };
        match matrix {
            Some(id) => {
                operands::weight_count(weights, id, 0, cells)?;
                Self::check_labels(inputs, axis, field)
            }
            None => {
                let [scores, labels, matrix] = operands::exactly(inputs)?;
                operands::count(matrix, 2, cells)?;
                Self::check_labels(&[scores, labels], axis, field)
            }
        }
    }

    fn check_pair(inputs: &[&Shape]) -> Result<()> {
        let [a, b] = operands::exactly(inputs)?;
        operands::at_least_rank(a, 0, 1)?;
        operands::count(b, 1, a.count())
    }

    fn check_contrastive(inputs: &[&Shape]) -> Result<()> {
        let [a, b, similarity] = operands::exactly(inputs)?;
        Self::check_pair(&[a, b])?;
        operands::count(similarity, 2, a.dim(0) as usize)
    }
}

impl Operation for Loss {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        match *self {
            Self::SoftmaxWithLoss { axis, .. } => Self::check_labels(inputs, axis, "axis")?,
            Self::Euclidean | Self::SigmoidCrossEntropy { .. } => Self::check_pair(inputs)?,
            Self::Hinge { .. } | Self::MultinomialLogistic => Self::check_image_labels(inputs)?,
            Self::Infogain { matrix, axis, .. } => {
                Self::check_infogain(inputs, weights, matrix, axis)?
            }
            Self::Contrastive { .. } => Self::check_contrastive(inputs)?,
        }
        Shape::new([])
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let (first, second) = (inputs[0], inputs[1]);
        let images = first.shape.dim(0) as usize;
        let loss = match *self {
            Self::SoftmaxWithLoss {
                axis,
                ignore_label,
                normalization,
            } => {
                let classes = Classes::new(first, second, axis, ignore_label);
                classes.mean(normalization, |at, label| {
                    -log(at(label), f32::MIN_POSITIVE)
                })
            }
            Self::Euclidean => squared_distance(first.data, second.data) / (2 * images) as f64,
            Self::SigmoidCrossEntropy {
                ignore_label,
                normalization,
            } => sigmoid_cross_entropy(first, second, ignore_label, normalization),
            Self::Hinge { l2 } => hinge(first, second, l2),
            Self::MultinomialLogistic => {
                let classes = Classes::per_image(first, second);
                classes.mean(Normalization::BatchSize, |at, label| {
                    -log(at(label), LOG_THRESHOLD)
                })
            }
            Self::Infogain {
                matrix,
                axis,
                ignore_label,
                normalization,
            } => {
                let matrix = match matrix {
                    Some(id) => weights[id.0 as usize].data(),
                    None => inputs[2].data,
                };
                let classes = Classes::new(first, second, axis, ignore_label);
                classes.mean(normalization, |at, label| {
                    let gain = |k: usize| f64::from(matrix[label * classes.classes + k]);
                    (0..classes.classes)
                        .map(|k| -gain(k) * log(at(k), LOG_THRESHOLD))
                        .sum()
                })
            }
            Self::Contrastive { margin, legacy } => {
                contrastive(first, second, inputs[2], margin.into(), legacy)
            }
        };
        output[0] = loss as f32;
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}

/// log max(p, least), which lets NaN through.
fn log(p: f32, least: f32) -> f64 {
    f64::from(if p < least { least } else { p }).ln()
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum()
}

/// Scores of several classes and one label per position.
struct Classes<'a> {
    scores: &'a [f32],
    labels: &'a [f32],
    outer: usize,
    classes: usize,
    inner: usize,
    ignore_label: Option<i32>,
}

impl<'a> Classes<'a> {
    fn new(
        scores: TensorRef<'a>,
        labels: TensorRef<'a>,
        axis: u32,
        ignore_label: Option<i32>,
    ) -> Self {
        let [outer, classes, inner] = axes::split(scores.shape, axis as usize);
        Self {
            scores: scores.data,
            labels: labels.data,
            outer,
            classes,
            inner,
            ignore_label,
        }
    }

    /// All elements of an image are classes.
    fn per_image(scores: TensorRef<'a>, labels: TensorRef<'a>) -> Self {
        let outer = scores.shape.dim(0) as usize;
        let classes = scores.data.len() / outer;
        let (scores, labels) = (scores.data, labels.data);
        Self {
            scores,
            labels,
            outer,
            classes,
            inner: 1,
            ignore_label: None,
        }
    }

    /// Sum of `term(score of class k, label)` over the positions that count, divided.
    fn mean(
        &self,
        normalization: Normalization,
        term: impl Fn(&dyn Fn(usize) -> f32, usize) -> f64,
    ) -> f64 {
        let (mut sum, mut valid) = (0.0, 0);
        for (position, &label) in self.labels.iter().enumerate() {
            let label = label as i32;
            if Some(label) == self.ignore_label {
                continue;
            }
            valid += 1;
            let (outer, inner) = (position / self.inner, position % self.inner);
            let at = |k: usize| self.scores[(outer * self.classes + k) * self.inner + inner];
            sum += match usize::try_from(label) {
                Ok(label) if label < self.classes => term(&at, label),
                _ => f64::NAN,
            };
        }
        sum / normalization.divisor(self.outer, self.inner, valid)
    }
}

fn sigmoid_cross_entropy(
    scores: TensorRef<'_>,
    targets: TensorRef<'_>,
    ignore_label: Option<i32>,
    normalization: Normalization,
) -> f64 {
    let (mut sum, mut valid) = (0.0, 0);
    for (&x, &target) in scores.data.iter().zip(targets.data) {
        if Some(target as i32) == ignore_label {
            continue;
        }
        valid += 1;
        let (x, target) = (f64::from(x), f64::from(target));
        // −t·log σ(x) − (1−t)·log(1−σ(x)), with the exponential of −|x| only.
        sum += x.max(0.0) - x * target + (-x.abs()).exp().ln_1p();
    }
    let outer = scores.shape.dim(0) as usize;
    sum / normalization.divisor(outer, scores.data.len() / outer, valid)
}

/// Σ max(0, 1 ± score), minus for the label's class, or of the squares; divided by the images.
fn hinge(scores: TensorRef<'_>, labels: TensorRef<'_>, l2: bool) -> f64 {
    let classes = Classes::per_image(scores, labels);
    classes.mean(Normalization::BatchSize, |at, label| {
        let margin = |k: usize| {
            let score = f64::from(at(k));
            (1.0 + if k == label { -score } else { score }).max(0.0)
        };
        (0..classes.classes)
            .map(|k| if l2 { margin(k).powi(2) } else { margin(k) })
            .sum()
    })
}

fn contrastive(
    a: TensorRef<'_>,
    b: TensorRef<'_>,
    similarity: TensorRef<'_>,
    margin: f64,
    legacy: bool,
) -> f64 {
    let images = a.shape.dim(0) as usize;
    let features = a.data.len() / images;
    let pairs = a
        .data
        .chunks_exact(features)
        .zip(b.data.chunks_exact(features));
    let mut sum = 0.0;
    for ((a, b), &similar) in pairs.zip(similarity.data) {
        let square = squared_distance(a, b);
        sum += match (similar as i32 != 0, legacy) {
            (true, _) => square,
            (false, true) => (margin - square).max(0.0),
            (false, false) => (margin - square.sqrt()).max(0.0).powi(2),
        };
    }
    sum / (2 * images) as f64
}
