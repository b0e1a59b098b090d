//! Concatenation along an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};

/// Concatenation of the operands along `axis`.
pub(super) struct Concat {
    pub axis: u32,
}

impl Operation for Concat {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [first, ..] = inputs else {
            return Err(operands::wrong_number(0, "at least 1"));
        };
        let axis = operands::axis(first, self.axis, "axis")?;
        let mut dim = 0;
        for (index, shape) in inputs.iter().enumerate() {
            dim += u64::from(shape.dim(axis));
            let same = |(i, (a, b)): (usize, (&u32, &u32))| i == axis || a == b;
            let mut pairs = shape.dims().iter().zip(first.dims()).enumerate();
            if shape.rank() != first.rank() || !pairs.all(same) {
                return Err(Error::new(format!("shape {shape}"))
                    .field(format!("input[{index}]"))
                    .expected(format!("{first} except along axis {axis}")));
            }
        }
        axes::with_dim(first, axis, dim)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let axis = self.axis as usize;
        let row = shape.count_of(axis, shape.rank());
        for (outer, dst) in output.chunks_exact_mut(row).enumerate() {
            let mut begin = 0;
            for operand in inputs {
                let part = operand.shape.count_of(axis, operand.shape.rank());
                dst[begin..begin + part].copy_from_slice(&operand.data[outer * part..][..part]);
                begin += part;
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0
    }
}
