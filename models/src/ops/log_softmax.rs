//! Logarithm of softmax along an axis.

use super::operation::{Inputs, Operation, Weights};
use super::reduce::log_sum_exp;
use super::{axes, operands};
use crate::{Result, Shape};

/// x − log Σ eˣ along `axis`.
pub(super) struct LogSoftmax {
    pub axis: u32,
}

impl Operation for LogSoftmax {
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
            let log_sum = log_sum_exp((0..dim).map(x));
            for k in 0..dim {
                output[at(k)] = (x(k) - log_sum) as f32;
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
    fn does_not_overflow() {
        let shape = Shape::new([1, 2, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1e4, 0.0, 1e4, 3f32.ln()],
        };
        let mut dst = [0.0; 4];
        LogSoftmax { axis: 1 }.evaluate(&[src], &[], &shape, &mut dst);
        let [half, quarter] = [0.5f32, 0.25].map(f32::ln);
        assert_eq!(dst[..3], [half, quarter, half]);
        assert!((dst[3] - 0.75f32.ln()).abs() < 1e-7);
    }
}
