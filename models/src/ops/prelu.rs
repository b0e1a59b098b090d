//! Parametric ReLU.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Result, Shape, WeightId};
use serde::{Deserialize, Serialize};

/// Parametric ReLU; `slope` has one element per channel (axis 1), or one in all.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PRelu {
    /// Slopes below zero.
    pub slope: WeightId,
}

impl Operation for PRelu {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::at_least_rank(input, 0, 2)?;
        if operands::weight(weights, self.slope, 0)?.shape().count() != 1 {
            operands::weight_count(weights, self.slope, 0, input.dim(1) as usize)?;
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let slopes = weights[self.slope.0 as usize].data();
        let plane = shape.count_of(2, shape.rank());
        let planes = output
            .chunks_exact_mut(plane)
            .zip(inputs[0].data.chunks_exact(plane));
        for (index, (dst, src)) in planes.enumerate() {
            let channel = index % shape.dim(1) as usize;
            let slope = f64::from(slopes[channel % slopes.len()]);
            for (value, &x) in dst.iter_mut().zip(src) {
                // Unlike a ReLU's, a slope of 0 is a factor like others: 0·−∞ is NaN.
                let x = f64::from(x);
                let y = if x > 0.0 { x } else { slope * x };
                *value = y as f32;
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}
