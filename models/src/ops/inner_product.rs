//! Inner product (fully connected layer).

use super::convolution::{bias_of, check_bias};
use super::operation::{Inputs, Operation, Weights};
use super::{PostOps, operands};
use crate::{Error, Result, Shape, WeightId};
use serde::{Deserialize, Serialize};

/// Inner product over the dims from `axis` on. Weights `outputs × inputs`, or
/// `inputs × outputs` when `transpose`; bias `outputs`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InnerProduct {
    /// Outputs.
    pub outputs: u32,
    /// First axis that is summed over (not negative).
    pub axis: u32,
    /// Weights stored transposed.
    pub transpose: bool,
    /// Weight tensor.
    pub weights: WeightId,
    /// Bias tensor.
    pub bias: Option<WeightId>,
    /// Fused activation.
    pub post: PostOps,
}

/// Outputs that are accumulated together on the stack when the weights are transposed.
const BLOCK: usize = 64;

impl Operation for InnerProduct {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        operands::positive(self.outputs, "outputs")?;
        // Fits: a checked shape has at most 2³¹ elements.
        let summed = input.count_of(axis, input.rank()) as u32;
        let dims = if self.transpose {
            [summed, self.outputs]
        } else {
            [self.outputs, summed]
        };
        operands::weight_dims(weights, self.weights, 0, &dims)?;
        check_bias(weights, self.bias, self.outputs)?;
        let mut dims = input.dims()[..axis].to_vec();
        dims.push(self.outputs);
        Shape::new(dims)
    }

    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        let axis = self.axis as usize;
        let summed = |shapes: &[&Shape]| {
            let shape = shapes.first().filter(|shape| axis < shape.rank())?;
            Some(shape.count_of(axis, shape.rank()))
        };
        match (summed(before), summed(after)) {
            (Some(old), Some(new)) if old != new => {
                Err(Error::new(format!("{new} inputs (shape {})", after[0]))
                    .field("input[0]")
                    .expected(format!("{old}, as many as each output has weights")))
            }
            _ => Ok(()),
        }
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let outputs = self.outputs as usize;
        let summed = inputs[0]
            .shape
            .count_of(self.axis as usize, inputs[0].shape.rank());
        for (dst, src) in output
            .chunks_exact_mut(outputs)
            .zip(inputs[0].data.chunks_exact(summed))
        {
            if self.transpose {
                self.evaluate_transposed(src, weights, dst);
            } else {
                self.evaluate_row(src, weights, dst);
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0
    }

    fn macs(&self, inputs: &[&Shape], _weights: &Weights, _output: &Shape) -> u64 {
        (inputs[0].count() as u64).saturating_mul(u64::from(self.outputs))
    }
}

impl InnerProduct {
    fn evaluate_row(&self, src: &[f32], weights: &Weights, dst: &mut [f32]) {
        let matrix = weights[self.weights.0 as usize].data();
        for (o, (value, row)) in dst
            .iter_mut()
            .zip(matrix.chunks_exact(src.len()))
            .enumerate()
        {
            // A weight of zero is absent: it does not make an infinity NaN.
            let sum: f64 = row
                .iter()
                .zip(src)
                .filter(|&(&w, _)| w != 0.0)
                .map(|(&w, &x)| f64::from(w) * f64::from(x))
                .sum();
            *value = self.post.apply(bias_of(weights, self.bias, o) + sum) as f32;
        }
    }

    fn evaluate_transposed(&self, src: &[f32], weights: &Weights, dst: &mut [f32]) {
        let matrix = weights[self.weights.0 as usize].data();
        for (block, dst) in dst.chunks_mut(BLOCK).enumerate() {
            let begin = block * BLOCK;
            let mut sums = [0.0; BLOCK];
            for (row, &x) in matrix.chunks_exact(self.outputs as usize).zip(src) {
                for (sum, &w) in sums.iter_mut().zip(&row[begin..begin + dst.len()]) {
                    if w != 0.0 {
                        *sum += f64::from(w) * f64::from(x);
                    }
                }
            }
            for (j, (value, sum)) in dst.iter_mut().zip(sums).enumerate() {
                *value = self
                    .post
                    .apply(bias_of(weights, self.bias, begin + j) + sum)
                    as f32;
            }
        }
    }
}
