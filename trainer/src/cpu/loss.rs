//! Losses: their values are those of the reference, their gradients are here.

use super::layer::{Backward, Forward, Layer};
use skimjit_models::ops::{Loss as Kind, Normalization};
use skimjit_models::{Error, Op, Result, Shape, TensorRef, Weight};
use std::sync::Arc;

/// Least probability whose logarithm has a gradient in MultinomialLogistic and Infogain.
const LEAST: f32 = 1e-20;

/// A loss layer.
pub struct Loss {
    op: Op,
    kind: Kind,
    shapes: Vec<Shape>,
    weights: Vec<Arc<Weight>>,
    /// Positions along outer axes, classes, positions along inner axes.
    split: [usize; 3],
}

impl Loss {
    /// From attributes and the operands' shapes; `weights` are those of the graph.
    pub fn new(kind: &Kind, shapes: Vec<Shape>, weights: Vec<Arc<Weight>>) -> Self {
        let scores = &shapes[0];
        let axis = match *kind {
            Kind::SoftmaxWithLoss { axis, .. } | Kind::Infogain { axis, .. } => axis as usize,
            _ => 1.min(scores.rank()),
        };
        let outer = scores.count_of(0, axis);
        let classes = match kind {
            Kind::SoftmaxWithLoss { .. } | Kind::Infogain { .. } => scores.dim(axis) as usize,
            _ => scores.count() / outer,
        };
        let inner = scores.count() / (outer * classes);
        Self {
            op: Op::Loss(kind.clone()),
            kind: kind.clone(),
            split: [outer, classes, inner],
            shapes,
            weights,
        }
    }
    /// Label that does not count.
    fn ignored(&self) -> Option<i32> {
        match self.kind {
            Kind::SoftmaxWithLoss { ignore_label, .. }
            | Kind::SigmoidCrossEntropy { ignore_label, .. }
            | Kind::Infogain { ignore_label, .. } => ignore_label,
            _ => None,
        }
    }
    fn divisor(&self, labels: &[f32]) -> f32 {
        let [outer, classes, inner] = self.split;
        let normalization = match self.kind {
            Kind::SoftmaxWithLoss { normalization, .. }
            | Kind::SigmoidCrossEntropy { normalization, .. }
            | Kind::Infogain { normalization, .. } => normalization,
            _ => Normalization::BatchSize,
        };
        // A target of SigmoidCrossEntropy belongs to every class.
        let full = match self.kind {
            Kind::SigmoidCrossEntropy { .. } => outer * classes * inner,
            _ => outer * inner,
        };
        let divisor = match normalization {
            Normalization::Full => full,
            Normalization::Valid => {
                let counts = |label: &&f32| Some(**label as i32) != self.ignored();
                labels.iter().filter(counts).count()
            }
            Normalization::BatchSize => outer,
            Normalization::None => 1,
        };
        divisor.max(1) as f32
    }
    /// Calls `each` with the label and the index of every class's score, for positions that count.
    fn positions(&self, labels: &[f32], mut each: impl FnMut(usize, &dyn Fn(usize) -> usize)) {
        let [_, classes, inner] = self.split;
        for (position, &label) in labels.iter().enumerate() {
            let label = label as i32;
            if Some(label) == self.ignored() {
                continue;
            }
            let first = position / inner * classes * inner + position % inner;
            let index = |class: usize| first + class * inner;
            if let Some(label) = usize::try_from(label).ok().filter(|&label| label < classes) {
                each(label, &index);
            }
        }
    }
    fn has_classes(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Euclidean | Kind::SigmoidCrossEntropy { .. } | Kind::Contrastive { .. }
        )
    }
    fn class_gradient(&self, inputs: &[&[f32]], scale: f32, into: &mut [f32]) {
        let (scores, labels) = (inputs[0], inputs[1]);
        let classes = self.split[1];
        into.fill(0.0);
        self.positions(labels, |label, index| match &self.kind {
            // With respect to the scores that the probabilities were made from: the Softmax before it
            // passes this gradient on as it is.
            Kind::SoftmaxWithLoss { .. } => (0..classes).for_each(|k| {
                let hit = f32::from(u8::from(k == label));
                into[index(k)] = (scores[index(k)] - hit) * scale;
            }),
            Kind::Hinge { l2 } => (0..classes).for_each(|k| {
                let sign = if k == label { -1.0 } else { 1.0 };
                let margin = (1.0 + sign * scores[index(k)]).max(0.0);
                let slope = if *l2 {
                    2.0 * margin
                } else {
                    f32::from(u8::from(margin > 0.0))
                };
                into[index(k)] = sign * slope * scale;
            }),
            Kind::MultinomialLogistic => {
                into[index(label)] = -scale / scores[index(label)].max(LEAST)
            }
            Kind::Infogain { matrix, .. } => {
                let matrix = match matrix {
                    Some(id) => self.weights[id.0 as usize].data(),
                    None => inputs[2],
                };
                let gains = &matrix[label * classes..(label + 1) * classes];
                let all = gains.iter().enumerate();
                all.for_each(|(k, gain)| {
                    into[index(k)] = -gain * scale / scores[index(k)].max(LEAST)
                });
            }
            _ => {}
        });
    }
    /// Gradient of the operand `side` of losses that compare two arrays.
    fn pair_gradient(&self, inputs: &[&[f32]], side: usize, scale: f32, into: &mut [f32]) {
        let (a, b) = (inputs[0], inputs[1]);
        let sign = if side == 0 { 1.0 } else { -1.0 };
        match self.kind {
            Kind::Euclidean => {
                let all = into.iter_mut().zip(a.iter().zip(b));
                all.for_each(|(into, (a, b))| *into = sign * scale * (a - b));
            }
            Kind::SigmoidCrossEntropy { .. } => {
                for (into, (x, target)) in into.iter_mut().zip(a.iter().zip(b)) {
                    let counts = Some(*target as i32) != self.ignored();
                    let sigmoid = 1.0 / (1.0 + (-x).exp());
                    *into = if counts {
                        (sigmoid - target) * scale
                    } else {
                        0.0
                    };
                }
            }
            Kind::Contrastive { margin, legacy } => {
                let features = a.len() / inputs[2].len();
                let pairs = a.chunks_exact(features).zip(b.chunks_exact(features));
                let all = into.chunks_exact_mut(features).zip(pairs.zip(inputs[2]));
                for (into, ((a, b), similar)) in all {
                    let factor =
                        sign * scale * contrast(a, b, *similar as i32 != 0, margin, legacy);
                    let all = into.iter_mut().zip(a.iter().zip(b));
                    all.for_each(|(into, (a, b))| *into = factor * (a - b));
                }
            }
            _ => {}
        }
    }
}

/// What the difference of a pair is multiplied by in ContrastiveLoss.
fn contrast(a: &[f32], b: &[f32], similar: bool, margin: f32, legacy: bool) -> f32 {
    let square: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    let distance = square.sqrt();
    match (similar, legacy) {
        (true, _) => 1.0,
        (false, true) if margin > square => -1.0,
        (false, false) if margin > distance => -(margin - distance) / distance.max(1e-4),
        _ => 0.0,
    }
}

impl Layer for Loss {
    fn check(&self, inputs: &[&[f32]]) -> Result<()> {
        let [_, classes, inner] = self.split;
        if !self.has_classes() {
            return Ok(());
        }
        // What is behind the decimal point does not count, as in Caffe.
        let wrong = |label: &f32| {
            let class = *label >= 0.0 && *label < classes as f32;
            !class && Some(*label as i32) != self.ignored()
        };
        match inputs[1].iter().position(wrong) {
            None => Ok(()),
            Some(position) => Err(Error::new(format!(
                "label {} of image {} of the batch",
                inputs[1][position],
                position / inner
            ))
            .expected(format!(
                "0 to {}, as there are {classes} classes",
                classes - 1
            ))
            .hint("correct the labels, num_output of the last layer, or set ignore_label")),
        }
    }

    fn forward(&mut self, run: Forward<'_>) {
        let inputs: Vec<TensorRef<'_>> = self
            .shapes
            .iter()
            .zip(run.inputs)
            .map(|(shape, data)| TensorRef { shape, data })
            .collect();
        let Ok(scalar) = Shape::new([]) else { return };
        self.op
            .evaluate(&inputs, &self.weights, &scalar, run.output);
    }

    fn backward(&mut self, run: Backward<'_>) {
        let weight = run.output_gradient[0];
        let scale = weight / self.divisor(run.inputs[1]);
        for (side, into) in run.input_gradients.iter_mut().enumerate() {
            let Some(into) = into else { continue };
            match side {
                0 if self.has_classes() => self.class_gradient(run.inputs, scale, into),
                0 | 1 => self.pair_gradient(run.inputs, side, scale, into),
                _ => into.fill(0.0),
            }
        }
    }
}
