//! Flatten and Reshape: the same elements under another shape.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Dims `axis..=end_axis` become one.
pub(super) struct Flatten {
    pub axis: u32,
    pub end_axis: u32,
}

impl Operation for Flatten {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        let end = operands::axis(input, self.end_axis, "end_axis")? + 1;
        if axis >= end {
            return Err(Error::new(self.end_axis.to_string())
                .field("end_axis")
                .expected(format!("at least {axis}, the first axis")));
        }
        let mut dims = input.dims()[..axis].to_vec();
        // Fits: a checked shape has at most 2³¹ elements.
        dims.push(input.count_of(axis, end) as u32);
        dims.extend_from_slice(&input.dims()[end..]);
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        output.copy_from_slice(inputs[0].data);
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0 || self.end_axis == 0
    }
}

/// Reshape with Caffe's rules: 0 copies, −1 infers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reshape {
    /// New dims for the span.
    pub dims: Vec<i64>,
    /// First axis of the span; negative counts from rank + 1.
    pub axis: i32,
    /// Axes of the span; −1: to the end.
    pub num_axes: i32,
}

impl Reshape {
    /// Axes of the operand that are replaced.
    fn span(&self, input: &Shape) -> Result<std::ops::Range<usize>> {
        let rank = input.rank() as i64;
        let axis = i64::from(self.axis);
        let begin = if axis < 0 { axis + rank + 1 } else { axis };
        if !(0..=rank).contains(&begin) {
            return Err(Error::new(self.axis.to_string())
                .field("axis")
                .expected(format!("-{} to {rank} for shape {input}", rank + 1)));
        }
        let end = if self.num_axes == -1 {
            rank
        } else {
            begin + i64::from(self.num_axes)
        };
        if !(begin..=rank).contains(&end) {
            return Err(Error::new(self.num_axes.to_string())
                .field("num_axes")
                .expected(format!(
                    "-1 to {} from axis {begin} of shape {input}",
                    rank - begin
                )));
        }
        Ok(begin as usize..end as usize)
    }

    /// New dims with 0 replaced and −1 left as `None`.
    fn explicit(&self, input: &Shape, begin: usize) -> Result<Vec<Option<u32>>> {
        let refuse =
            |dim: i64, expected: &str| Error::new(dim.to_string()).field("dims").expected(expected);
        let resolve = |(index, &dim): (usize, &i64)| match dim {
            -1 => Ok(None),
            0 => match input.dims().get(begin + index) {
                Some(&dim) => Ok(Some(dim)),
                None => Err(refuse(0, "a number, as there is no axis to copy")),
            },
            _ => u32::try_from(dim)
                .map(Some)
                .map_err(|_| refuse(dim, "-1, 0 or a size")),
        };
        let dims: Vec<Option<u32>> = self
            .dims
            .iter()
            .enumerate()
            .map(resolve)
            .collect::<Result<_>>()?;
        match dims.iter().filter(|dim| dim.is_none()).count() {
            0 | 1 => Ok(dims),
            _ => Err(refuse(-1, "a single -1")),
        }
    }
}

impl Operation for Reshape {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let span = self.span(input)?;
        let middle = self.explicit(input, span.start)?;
        let known = middle
            .iter()
            .flatten()
            .try_fold(1u64, |n, &dim| n.checked_mul(dim.into()));
        let replaced = input.count_of(span.start, span.end) as u64;
        let inferred = known
            .and_then(|known| replaced.checked_div(known))
            .unwrap_or(0);
        let has_inferred = middle.iter().any(Option::is_none);
        let new = known.and_then(|n| n.checked_mul(if has_inferred { inferred } else { 1 }));
        if new != Some(replaced) {
            return Err(Error::new(format!("dims {:?}", self.dims))
                .field("dims")
                .expected(format!(
                    "{replaced} elements, as many as axes {span:?} of {input} have"
                )));
        }
        let mut dims = input.dims()[..span.start].to_vec();
        // Fits: `inferred` is at most the operand's count, 2³¹.
        dims.extend(middle.iter().map(|dim| dim.unwrap_or(inferred as u32)));
        dims.extend_from_slice(&input.dims()[span.end..]);
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        output.copy_from_slice(inputs[0].data);
    }

    /// True when the shape rule, asked again with another batch, keeps axis 0 as the batch: the
    /// span begins behind axis 0, or its first dim copies axis 0 (then the others have to make up
    /// one image, whatever the batch), or its first dim is −1 and comes out as the batch (then one
    /// image has exactly the other dims). A literal first dim is refused even when it equals this
    /// batch: it would be wrong, or an error, for any other.
    fn per_image(&self, inputs: &[&Shape]) -> bool {
        let Some(input) = inputs.first() else {
            return false;
        };
        let (Ok(span), Ok(output)) = (self.span(input), self.infer_shape(inputs, &[])) else {
            return false;
        };
        let keeps_axis_0 = span.end > 0 && matches!(self.dims.first(), Some(0 | -1));
        span.start > 0 || (keeps_axis_0 && output.dim(0) == input.dim(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[u32]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[track_caller]
    fn check(dims: &[i64], axis: i32, num_axes: i32, expected: &[u32], per_image: bool) {
        let op = Reshape {
            dims: dims.to_vec(),
            axis,
            num_axes,
        };
        let input = shape(&[2, 8, 4]);
        assert_eq!(op.infer_shape(&[&input], &[]), Ok(shape(expected)));
        assert_eq!(op.per_image(&[&input]), per_image);
    }

    #[test]
    fn caffe_rules() {
        check(&[0, -1], 0, -1, &[2, 32], true);
        check(&[0, 0, 2, 2], 0, -1, &[2, 8, 2, 2], true);
        check(&[-1, 32], 0, -1, &[2, 32], true);
        check(&[-1, 16], 0, -1, &[4, 16], false);
        check(&[2, 32], 0, -1, &[2, 32], false);
        check(&[4, 2], 1, 1, &[2, 4, 2, 4], true);
        check(&[1], -1, 0, &[2, 8, 4, 1], true);
        check(&[1], 0, 0, &[1, 2, 8, 4], false);
        check(&[16], 0, 2, &[16, 4], false);
        check(&[2, -1], -2, 1, &[2, 8, 2, 2], true);
    }

    #[test]
    fn refusals() {
        let input = shape(&[2, 8, 4]);
        let refused = |dims: &[i64], axis, num_axes| {
            Reshape {
                dims: dims.to_vec(),
                axis,
                num_axes,
            }
            .infer_shape(&[&input], &[])
            .is_err()
        };
        assert!(refused(&[-1, -1], 0, -1));
        assert!(refused(&[3, -1], 0, -1));
        assert!(refused(&[65], 0, -1));
        assert!(refused(&[-2], 0, -1));
        assert!(refused(&[64], 4, -1));
        assert!(refused(&[64], i32::MIN, i32::MIN));
        assert!(refused(&[64], 0, 4));
        assert!(refused(&[1, 1, 1, 0], 2, 1));
        assert!(refused(&[i64::MAX, i64::MAX], 0, -1));
        assert!(refused(&[1 << 31, 1 << 31, 1 << 31], 0, -1));
        assert!(refused(&[1 << 31, -1], 0, -1));
    }
}
