//! Padding and cropping of axes.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// What stands in the padding.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum PadMode {
    /// One value.
    Constant {
        /// The value.
        value: f32,
    },
    /// The elements mirrored at the first and the last, which are not repeated.
    Reflect,
    /// The first and the last element.
    Edge,
    /// The elements again from the other end.
    Wrap,
}

/// Elements before and behind the operand's along each axis. Negative numbers crop, before anything is
/// padded: what is cut off is not mirrored either.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pad {
    /// One per axis.
    pub begin: Vec<i32>,
    /// One per axis.
    pub end: Vec<i32>,
    /// What stands there.
    pub mode: PadMode,
}

impl Pad {
    /// First index along `axis` that is kept of `dim`, and how many are.
    fn kept(&self, axis: usize, dim: u32) -> (i64, i64) {
        let [begin, end] = [&self.begin, &self.end].map(|pads| i64::from(pads[axis]).min(0));
        (-begin, i64::from(dim) + begin + end)
    }

    /// Source index of index `to` of the result along `axis`; `None` for the constant.
    fn source(&self, axis: usize, dim: u32, to: usize) -> Option<usize> {
        let (first, kept) = self.kept(axis, dim);
        let index = to as i64 - i64::from(self.begin[axis]).max(0);
        let inside = match self.mode {
            _ if (0..kept).contains(&index) => index,
            PadMode::Constant { .. } => return None,
            PadMode::Edge => index.clamp(0, kept - 1),
            PadMode::Wrap => index.rem_euclid(kept),
            PadMode::Reflect => {
                let last = kept - 1;
                let place = index.rem_euclid((2 * last).max(1));
                place.min(2 * last - place)
            }
        };
        Some((first + inside) as usize)
    }
}

impl Operation for Pad {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        for (field, pads) in [("begin", &self.begin), ("end", &self.end)] {
            if pads.len() != input.rank() {
                return Err(Error::new(format!("{} pads", pads.len()))
                    .field(field)
                    .expected(format!("{}, one per axis of {input}", input.rank())));
            }
        }
        let mut dims = Vec::with_capacity(input.rank());
        for (axis, &dim) in input.dims().iter().enumerate() {
            let [begin, end] = [&self.begin, &self.end].map(|pads| i64::from(pads[axis]));
            let (_, kept) = self.kept(axis, dim);
            if kept < 1 {
                return Err(Error::new(format!("pads of {begin} and {end}"))
                    .field("begin")
                    .expected(format!(
                        "something left of the {dim} elements of axis {axis}"
                    )));
            }
            let padded = kept + begin.max(0) + end.max(0);
            dims.push(u32::try_from(padded).unwrap_or(u32::MAX));
        }
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let src = inputs[0];
        let strides = axes::strides(src.shape);
        for (index, value) in output.iter_mut().enumerate() {
            let to = axes::coordinates(shape, index);
            let offset = src.shape.dims().iter().enumerate().map(|(axis, &dim)| {
                let from = self.source(axis, dim, to[axis]);
                from.map(|from| from * strides[axis])
            });
            *value = match (offset.sum::<Option<usize>>(), self.mode) {
                (Some(offset), _) => src.data[offset],
                (None, PadMode::Constant { value }) => value,
                (None, _) => unreachable!("other modes have a source everywhere"),
            };
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        let first = [&self.begin, &self.end].map(|pads| pads.first() == Some(&0));
        first == [true; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[track_caller]
    fn check(mode: PadMode, [begin, end]: [i32; 2], expected: &[f32]) {
        let op = Pad {
            begin: vec![begin],
            end: vec![end],
            mode,
        };
        let shape = Shape::new([3]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1.0, 2.0, 3.0],
        };
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        op.evaluate(&[src], &[], &result, &mut output);
        assert_eq!(output, expected);
    }

    #[test]
    fn modes() {
        let zero = PadMode::Constant { value: 0.5 };
        check(zero, [2, 1], &[0.5, 0.5, 1., 2., 3., 0.5]);
        check(zero, [-1, 1], &[2., 3., 0.5]);
        check(PadMode::Edge, [1, 2], &[1., 1., 2., 3., 3., 3.]);
        check(PadMode::Wrap, [1, 2], &[3., 1., 2., 3., 1., 2.]);
        check(PadMode::Reflect, [2, 1], &[3., 2., 1., 2., 3., 2.]);
        check(PadMode::Reflect, [3, -2], &[1., 1., 1., 1.]);
        check(PadMode::Reflect, [5, 0], &[2., 1., 2., 3., 2., 1., 2., 3.]);
    }

    #[test]
    fn what_leaves_nothing_is_refused() {
        let shape = Shape::new([1, 3]).unwrap();
        let pad = |begin: [i32; 2], end: &[i32]| Pad {
            begin: begin.to_vec(),
            end: end.to_vec(),
            mode: PadMode::Wrap,
        };
        let refused = |op: Pad| op.infer_shape(&[&shape], &[]).is_err();
        assert!(refused(pad([0, -3], &[0, 9])));
        assert!(refused(pad([i32::MIN; 2], &[i32::MIN; 2])));
        assert!(refused(pad([i32::MAX; 2], &[i32::MAX; 2])));
        assert!(refused(pad([0, 0], &[0])));
        assert!(pad([0, -1], &[0, 1]).per_image(&[&shape]));
        assert!(!pad([1, 0], &[0, 0]).per_image(&[&shape]));
    }
}
