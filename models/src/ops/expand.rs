//! Repetition to a shape.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape};

/// The operand and an array of `dims` are broadcast to each other; the result is the operand's elements.
pub(super) struct Expand<'a> {
    pub dims: &'a [u32],
}

impl Operation for Expand<'_> {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let dims = Shape::new(self.dims).map_err(|error| error.field("dims"))?;
        axes::broadcast(&[&dims, input])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let strides = axes::broadcast_strides(inputs[0].shape, shape);
        axes::gather(inputs[0].data, 0, &strides, shape.dims(), output);
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        // The batch must come from the operand.
        let rank = inputs.first().map_or(0, |input| input.rank());
        self.dims.len() < rank || (self.dims.len() == rank && self.dims.first() == Some(&1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn both_are_repeated() {
        let shape = Shape::new([2, 1]).unwrap();
        let op = Expand { dims: &[2, 1, 2] };
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = [0.0; 8];
        let data = &[1.0, 2.0];
        op.evaluate(
            &[TensorRef {
                shape: &shape,
                data,
            }],
            &[],
            &result,
            &mut output,
        );
        assert_eq!(result.dims(), [2, 2, 2]);
        assert_eq!(output, [1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
        let refused = |dims: &[u32]| Expand { dims }.infer_shape(&[&shape], &[]).is_err();
        assert!(refused(&[3, 1]) && refused(&[0]) && refused(&[u32::MAX; 9]));
        let per_image = |dims: &[u32]| Expand { dims }.per_image(&[&shape]);
        assert!(per_image(&[4]) && per_image(&[1, 4]));
        assert!(!per_image(&[2, 1]) && !per_image(&[1, 1, 1]));
    }
}
