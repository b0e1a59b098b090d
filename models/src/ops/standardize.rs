//! Mean 0 and variance 1, as layer, instance and group normalisation begin.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape};
use serde::{Deserialize, Serialize};

/// (x − mean) / √(variance + eps) over all axes from `axis` on. (MVN adds its eps to the deviation.)
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Standardize {
    /// First axis (not negative) of those over which mean and variance are taken.
    pub axis: u32,
    /// Added to the variance.
    pub eps: f32,
}

impl Operation for Standardize {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::axis(input, self.axis, "axis")?;
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let [_, dim, inner] = axes::split(shape, self.axis as usize);
        let count = dim * inner;
        let groups = inputs[0].data.chunks_exact(count);
        for (dst, src) in output.chunks_exact_mut(count).zip(groups) {
            let x = src.iter().map(|&x| f64::from(x));
            let mean = x.clone().sum::<f64>() / count as f64;
            let squares = x.clone().map(|x| (x - mean).powi(2));
            let variance = squares.sum::<f64>() / count as f64;
            let deviation = (variance + f64::from(self.eps)).sqrt();
            for (value, x) in dst.iter_mut().zip(x) {
                *value = ((x - mean) / deviation) as f32;
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn rows_have_mean_0_and_variance_1() {
        let shape = Shape::new([2, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 5., 7., 7.],
        };
        let op = Standardize { axis: 1, eps: 2.25 };
        let mut dst = [0.0; 4];
        op.evaluate(&[src], &[], &shape, &mut dst);
        // √(4 + 2.25) = 2.5.
        assert_eq!(dst, [-0.8, 0.8, 0.0, 0.0]);
        assert!(
            Standardize { axis: 2, eps: 0.0 }
                .infer_shape(&[&shape], &[])
                .is_err()
        );
    }
}
