//! Running sums.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape};

/// Sum of all elements up to each along `axis`.
pub(super) struct CumSum {
    pub axis: u32,
    /// Without the element itself.
    pub exclusive: bool,
    /// From the last element to the first.
    pub reverse: bool,
}

impl Operation for CumSum {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::axis(input, self.axis, "axis")?;
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [outer, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let mut sum = 0.0;
            for k in 0..dim {
                let k = if self.reverse { dim - 1 - k } else { k };
                let at = (o * dim + k) * inner + i;
                let with = sum + f64::from(inputs[0].data[at]);
                output[at] = if self.exclusive { sum } else { with } as f32;
                sum = with;
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

    /// The examples of ONNX's documentation.
    #[test]
    fn directions() {
        let shape = Shape::new([3]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 2., 3.],
        };
        for (exclusive, reverse, expected) in [
            (false, false, [1., 3., 6.]),
            (true, false, [0., 1., 3.]),
            (false, true, [6., 5., 3.]),
            (true, true, [5., 3., 0.]),
        ] {
            let op = CumSum {
                axis: 0,
                exclusive,
                reverse,
            };
            let mut output = [f32::NAN; 3];
            op.evaluate(&[src], &[], &shape, &mut output);
            assert_eq!(output, expected);
        }
    }
}
