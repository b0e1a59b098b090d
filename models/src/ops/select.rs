//! Choice of one of two operands.

use super::axes::{self, Walk};
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Result, Shape};

/// Where the first operand is not 0 the second, else the third; all three are broadcast.
pub(super) struct Select;

impl Operation for Select {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let operands: [&Shape; 3] = operands::exactly(inputs)?;
        axes::broadcast(&operands)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let strides =
            [0, 1, 2].map(|operand| axes::broadcast_strides(inputs[operand].shape, shape));
        let walk = Walk::new(shape.dims(), strides);
        for (value, [condition, then, other]) in output.iter_mut().zip(walk) {
            *value = match inputs[0].data[condition] != 0.0 {
                true => inputs[1].data[then],
                false => inputs[2].data[other],
            };
        }
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        operands::same_rank(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn chooses() {
        let shapes = [&[2][..], &[2, 1], &[]].map(|dims| Shape::new(dims).unwrap());
        let data = [&[0.0, -1.0][..], &[1.0, 2.0], &[9.0]];
        let inputs = [0, 1, 2].map(|i| TensorRef {
            shape: &shapes[i],
            data: data[i],
        });
        let shape = Select.infer_shape(&shapes.each_ref(), &[]).unwrap();
        let mut output = [0.0; 4];
        Select.evaluate(&inputs, &[], &shape, &mut output);
        assert_eq!((shape.dims(), output), (&[2, 2][..], [9.0, 1.0, 9.0, 2.0]));
    }
}
