//! Crop.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Crop of the first operand to the second's dims from `axis` on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Crop {
    /// First cropped axis (not negative).
    pub axis: u32,
    /// None: 0; one: for all; else one per cropped axis.
    pub offset: Vec<u32>,
}

impl Crop {
    /// First kept index of `axis`.
    fn begin(&self, axis: usize) -> u32 {
        let Some(index) = axis.checked_sub(self.axis as usize) else {
            return 0;
        };
        match self.offset.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(index).copied().unwrap_or(0),
        }
    }
}

impl Operation for Crop {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input, like] = operands::exactly(inputs)?;
        let first = operands::axis(input, self.axis, "axis")?;
        if like.rank() != input.rank() {
            return Err(
                Error::new(format!("a shape of {} axes ({like})", like.rank()))
                    .field("input[1]")
                    .expected(format!("{} axes, as input[0] has", input.rank())),
            );
        }
        let cropped = input.rank() - first;
        if self.offset.len() > 1 && self.offset.len() != cropped {
            return Err(Error::new(format!("{} offsets", self.offset.len()))
                .field("offset")
                .expected(format!("none, 1 or {cropped}, one per cropped axis")));
        }
        for axis in first..input.rank() {
            let end = u64::from(self.begin(axis)) + u64::from(like.dim(axis));
            if end > u64::from(input.dim(axis)) {
                return Err(Error::new(format!("offset {}", self.begin(axis)))
                    .field("offset")
                    .expected(format!(
                        "room for {} of {} elements of axis {axis}",
                        like.dim(axis),
                        input.dim(axis)
                    )));
            }
        }
        let mut dims = input.dims()[..first].to_vec();
        dims.extend_from_slice(&like.dims()[first..]);
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let strides = axes::strides(inputs[0].shape);
        let axes = strides.iter().enumerate().take(shape.rank());
        let begin = axes
            .map(|(axis, stride)| self.begin(axis) as usize * stride)
            .sum();
        axes::gather(inputs[0].data, begin, &strides, shape.dims(), output);
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
    fn crops_a_box() {
        let shape = Shape::new([1, 3, 3]).unwrap();
        let like = Shape::new([9, 1, 2]).unwrap();
        let data: Vec<f32> = (0..9u8).map(f32::from).collect();
        let src = TensorRef {
            shape: &shape,
            data: &data,
        };
        let op = Crop {
            axis: 1,
            offset: vec![2, 1],
        };
        let cropped = op.infer_shape(&[&shape, &like], &[]).unwrap();
        let mut dst = [0.0; 2];
        op.evaluate(&[src, src], &[], &cropped, &mut dst);
        assert_eq!((cropped.dims(), dst), (&[1, 1, 2][..], [7.0, 8.0]));
        let refused = |axis, offset: &[u32]| {
            Crop {
                axis,
                offset: offset.to_vec(),
            }
            .infer_shape(&[&shape, &like], &[])
            .is_err()
        };
        assert!(refused(1, &[3]) && refused(1, &[u32::MAX]) && refused(0, &[]));
        assert!(refused(3, &[]) && refused(1, &[0, 0, 0]));
    }
}
