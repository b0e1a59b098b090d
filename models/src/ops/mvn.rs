//! Mean-variance normalisation.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// (x − mean) / (√variance + eps) over each channel of each image, or over each image. The result
/// always has 4 axes: Caffe's N, C, H, W with ones behind.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mvn {
    /// Divide; otherwise only the mean is subtracted.
    pub normalize_variance: bool,
    /// Mean and variance over all channels of an image.
    pub across_channels: bool,
    /// Added to the deviation.
    pub eps: f32,
}

impl Operation for Mvn {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        if !(1..=4).contains(&input.rank()) {
            return Err(
                Error::new(format!("a shape of {} axes ({input})", input.rank()))
                    .field("input[0]")
                    .expected("1 to 4 axes: N, C, H, W"),
            );
        }
        Shape::new([0, 1, 2, 3].map(|axis| input.dim(axis)))
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let first = if self.across_channels { 1 } else { 2 };
        let count = shape.count_of(first, 4);
        let groups = inputs[0].data.chunks_exact(count);
        for (dst, src) in output.chunks_exact_mut(count).zip(groups) {
            let mean_of = |of: &dyn Fn(f64) -> f64| {
                src.iter().map(|&x| of(f64::from(x))).sum::<f64>() / count as f64
            };
            let mean = mean_of(&|x| x);
            let divisor = if self.normalize_variance {
                mean_of(&|x| (x - mean).powi(2)).sqrt() + f64::from(self.eps)
            } else {
                1.0
            };
            for (value, &x) in dst.iter_mut().zip(src) {
                *value = ((f64::from(x) - mean) / divisor) as f32;
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}
