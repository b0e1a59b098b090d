//! ArgMax.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Indices (or values) of the largest elements, largest first; of equal ones the larger index comes
/// first. NaN ranks below everything.
///
/// Without an axis the result is `N × 1 × top_k`, or `N × 2 × top_k` with the indices before the
/// values, followed by as many axes of 1 as the operand has more than three.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArgMax {
    /// How many.
    pub top_k: u32,
    /// Also (without axis) or instead (with axis) the values.
    pub out_max_val: bool,
    /// Axis; `None`: over all but the batch.
    pub axis: Option<i32>,
}

impl ArgMax {
    /// Outer count, elements that compete, inner count.
    fn split(&self, input: &Shape) -> Result<[usize; 3]> {
        match self.axis {
            Some(axis) => Ok(axes::split(
                input,
                operands::signed_axis(input, axis, "axis")?,
            )),
            None => {
                operands::at_least_rank(input, 0, 1)?;
                Ok([input.dim(0) as usize, input.count_of(1, input.rank()), 1])
            }
        }
    }
}

impl Operation for ArgMax {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let [_, dim, _] = self.split(input)?;
        operands::positive(self.top_k, "top_k")?;
        if self.top_k as usize > dim {
            return Err(Error::new(self.top_k.to_string())
                .field("top_k")
                .expected(format!("at most {dim}, the elements to choose from")));
        }
        if let Some(axis) = self.axis {
            let axis = operands::signed_axis(input, axis, "axis")?;
            return axes::with_dim(input, axis, self.top_k.into());
        }
        let mut dims = vec![1; input.rank().max(3)];
        dims[0] = input.dim(0);
        dims[1] = if self.out_max_val { 2 } else { 1 };
        dims[2] = self.top_k;
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let src = inputs[0];
        let Ok([outer, dim, inner]) = self.split(src.shape) else {
            return;
        };
        let top_k = self.top_k as usize;
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let value = |k: usize| src.data[(o * dim + k) * inner + i];
            let mut last = None;
            for rank in 0..top_k {
                let index = next_best(dim, value, last);
                last = Some(index);
                if self.axis.is_some() {
                    let result = if self.out_max_val {
                        value(index)
                    } else {
                        index as f32
                    };
                    output[(o * top_k + rank) * inner + i] = result;
                } else if self.out_max_val {
                    output[2 * o * top_k + rank] = index as f32;
                    output[(2 * o + 1) * top_k + rank] = value(index);
                } else {
                    output[o * top_k + rank] = index as f32;
                }
            }
        }
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        match (self.axis, inputs.first()) {
            (None, _) => true,
            (Some(axis), Some(input)) => {
                operands::signed_axis(input, axis, "axis").is_ok_and(|axis| axis > 0)
            }
            (Some(_), None) => false,
        }
    }
}

/// Index of the best element that ranks behind `last`.
fn next_best(dim: usize, value: impl Fn(usize) -> f32, last: Option<usize>) -> usize {
    let key = |k: usize| {
        if value(k).is_nan() {
            f32::NEG_INFINITY
        } else {
            value(k)
        }
    };
    let behind = |a: usize, b: usize| key(a) < key(b) || (key(a) == key(b) && a < b);
    let left = (0..dim).filter(|&k| last.is_none_or(|last| behind(k, last)));
    left.reduce(|best, k| if behind(best, k) { k } else { best })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn with_and_without_axis() {
        let shape = Shape::new([2, 3, 1, 1]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 5., 5., f32::NAN, -2., -9.],
        };
        let op = ArgMax {
            top_k: 2,
            out_max_val: true,
            axis: None,
        };
        let out = op.infer_shape(&[&shape], &[]).unwrap();
        assert_eq!(out.dims(), &[2, 2, 2, 1]);
        let mut dst = [0.0; 8];
        op.evaluate(&[src], &[], &out, &mut dst);
        assert_eq!(dst, [2., 1., 5., 5., 1., 2., -2., -9.]);
        let op = ArgMax {
            axis: Some(-4),
            top_k: 1,
            out_max_val: false,
        };
        let out = op.infer_shape(&[&shape], &[]).unwrap();
        assert_eq!(out.dims(), &[1, 3, 1, 1]);
        op.evaluate(&[src], &[], &out, &mut dst[..3]);
        assert_eq!(dst[..3], [0., 0., 0.]);
        assert!(!op.per_image(&[&shape]));
        assert!(
            ArgMax {
                top_k: 3,
                ..op.clone()
            }
            .infer_shape(&[&shape], &[])
            .is_err()
        );
        assert!(
            ArgMax {
                axis: Some(i32::MIN),
                ..op
            }
            .infer_shape(&[&shape], &[])
            .is_err()
        );
    }
}
