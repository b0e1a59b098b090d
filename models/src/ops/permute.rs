//! Axis permutation.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};

/// Output axis i is input axis `order[i]`.
pub(super) struct Permute<'a> {
    pub order: &'a [u32],
}

impl Operation for Permute<'_> {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let rank = input.rank();
        let complete = (0..rank as u32).all(|axis| self.order.contains(&axis));
        if self.order.len() != rank || !complete {
            return Err(Error::new(format!("order {:?}", self.order))
                .field("order")
                .expected(format!("each of the {rank} axes of shape {input} once")));
        }
        let dims: Vec<u32> = self
            .order
            .iter()
            .map(|&axis| input.dim(axis as usize))
            .collect();
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let from = axes::strides(inputs[0].shape);
        let mut strides = [0; Shape::MAX_RANK];
        for (stride, &axis) in strides.iter_mut().zip(self.order) {
            *stride = from[axis as usize];
        }
        axes::gather(inputs[0].data, 0, &strides, shape.dims(), output);
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.order.first() == Some(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn transposes() {
        let shape = Shape::new([2, 3]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 2., 3., 4., 5., 6.],
        };
        let op = Permute { order: &[1, 0] };
        let turned = op.infer_shape(&[&shape], &[]).unwrap();
        let mut dst = [0.0; 6];
        op.evaluate(&[src], &[], &turned, &mut dst);
        assert_eq!(
            (turned.dims(), dst),
            (&[3, 2][..], [1., 4., 2., 5., 3., 6.])
        );
        assert!(
            Permute { order: &[0, 0] }
                .infer_shape(&[&shape], &[])
                .is_err()
        );
        assert!(
            Permute { order: &[0, 2] }
                .infer_shape(&[&shape], &[])
                .is_err()
        );
        assert!(Permute { order: &[0] }.infer_shape(&[&shape], &[]).is_err());
    }
}
