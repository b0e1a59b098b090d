//! Chosen elements of an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// The axis of the result holds the operand's elements of these indices, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gather {
    /// Axis (not negative).
    pub axis: u32,
    /// Indices along it; one may be there more than once.
    pub indices: Vec<u32>,
}

impl Operation for Gather {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        let dim = input.dim(axis);
        if let Some(index) = self.indices.iter().find(|&&index| index >= dim) {
            return Err(Error::new(format!("index {index}"))
                .field("indices")
                .expected(format!("less than {dim}, the elements of axis {axis}")));
        }
        axes::with_dim(input, axis, self.indices.len() as u64)
            .map_err(|error| error.field("indices"))
    }

    /// Which ones of another number of elements would be meant is not known.
    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        operands::same_dim(before, after, self.axis)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [_, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        let rows = inputs[0].data.chunks_exact(dim * inner);
        let results = output.chunks_exact_mut(self.indices.len() * inner);
        for (dst, src) in results.zip(rows) {
            for (dst, &index) in dst.chunks_exact_mut(inner).zip(&self.indices) {
                dst.copy_from_slice(&src[index as usize * inner..][..inner]);
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
    fn takes_rows() {
        let shape = Shape::new([2, 2, 1]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 2., 3., 4.],
        };
        let gather = |indices: &[u32]| Gather {
            axis: 1,
            indices: indices.to_vec(),
        };
        let op = gather(&[1, 1, 0]);
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = [0.0; 6];
        op.evaluate(&[src], &[], &result, &mut output);
        assert_eq!(
            (result.dims(), output),
            (&[2, 3, 1][..], [2., 2., 1., 4., 4., 3.])
        );
        for indices in [&[][..], &[2], &[u32::MAX]] {
            let error = gather(indices).infer_shape(&[&shape], &[]).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("indices"));
        }
    }
}
