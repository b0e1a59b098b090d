//! Part of an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Half-open range of one axis (one top of a Slice layer).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Axis (not negative).
    pub axis: u32,
    /// First index.
    pub begin: u32,
    /// One past the last index.
    pub end: u32,
}

impl Operation for Slice {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        if self.begin >= self.end || self.end > input.dim(axis) {
            return Err(Error::new(format!("range {}..{}", self.begin, self.end))
                .field("range")
                .expected(format!(
                    "a part of the {} elements of axis {axis}",
                    input.dim(axis)
                )));
        }
        axes::with_dim(input, axis, u64::from(self.end - self.begin))
    }

    /// Equal parts would have to change with the axis, parts between points would not: which of the
    /// two it was is not known any more.
    fn check_resize(&self, before: &[&Shape], after: &[&Shape]) -> Result<()> {
        operands::same_dim(before, after, self.axis)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [_, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        let part = self.begin as usize * inner..self.end as usize * inner;
        let rows = inputs[0].data.chunks_exact(dim * inner);
        for (dst, src) in output.chunks_exact_mut(part.len()).zip(rows) {
            dst.copy_from_slice(&src[part.clone()]);
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0
    }
}
