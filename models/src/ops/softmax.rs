//! Softmax along an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape};

/// Softmax along `axis`.
pub(super) struct Softmax {
    pub axis: u32,
}

impl Operation for Softmax {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::axis(input, self.axis, "axis")?;
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [outer, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |k: usize| (o * dim + k) * inner + i;
            let x = |k: usize| f64::from(inputs[0].data[at(k)]);
            // The maximum is subtracted so that no exponential overflows.
            let max = (0..dim).map(x).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..dim).map(|k| (x(k) - max).exp()).sum();
            for k in 0..dim {
                output[at(k)] = ((x(k) - max).exp() / sum) as f32;
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
    fn sums_to_one_and_does_not_overflow() {
        let shape = Shape::new([1, 2, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1e4, 0.0, 1e4, 3f32.ln()],
        };
        let mut dst = [0.0; 4];
        Softmax { axis: 1 }.evaluate(&[src], &[], &shape, &mut dst);
        assert_eq!(dst, [0.5, 0.25, 0.5, 0.75]);
    }
}
