//! The greatest or smallest elements along an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// What is given of the elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum TopKOutput {
    /// The elements.
    Values,
    /// Their indices along the axis.
    Indices,
}

/// The `k` greatest elements along an axis, greatest first; of equal ones the lower index comes first. NaN is
/// beyond the infinity of its sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopK {
    /// Axis (not negative).
    pub axis: u32,
    /// How many.
    pub k: u32,
    /// The smallest, smallest first.
    pub smallest: bool,
    /// What is given of them.
    pub output: TopKOutput,
}

impl TopK {
    /// Order of the elements `a` and `b` of an axis, which come as index and value.
    fn order(&self, a: (usize, f32), b: (usize, f32)) -> Ordering {
        // Both zeros are equal.
        let values = (a.1 + 0.0).total_cmp(&(b.1 + 0.0));
        let values = match self.smallest {
            true => values,
            false => values.reverse(),
        };
        values.then(a.0.cmp(&b.0))
    }
}

impl Operation for TopK {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        operands::positive(self.k, "k")?;
        if self.k > input.dim(axis) {
            return Err(Error::new(self.k.to_string()).field("k").expected(format!(
                "at most {}, the elements to choose from",
                input.dim(axis)
            )));
        }
        axes::with_dim(input, axis, self.k.into())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [outer, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        let count = self.k as usize;
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let element = |k: usize| (k, inputs[0].data[(o * dim + k) * inner + i]);
            let mut last = None;
            for rank in 0..count {
                // Without room to sort in, the next one is looked for.
                let behind =
                    |&a: &(usize, f32)| last.is_none_or(|last| self.order(last, a).is_lt());
                let left = (0..dim).map(element).filter(behind);
                let best = left.min_by(|&a, &b| self.order(a, b));
                let (index, value) = best.expect("k is at most the elements of the axis");
                last = Some((index, value));
                output[(o * count + rank) * inner + i] = match self.output {
                    TopKOutput::Values => value,
                    TopKOutput::Indices => index as f32,
                };
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
    fn sorted_and_stable() {
        let shape = Shape::new([4, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., -0., 7., 0., 7., 5., 3., -8.],
        };
        let run = |smallest, output| {
            let op = TopK {
                axis: 0,
                k: 3,
                smallest,
                output,
            };
            let result = op.infer_shape(&[&shape], &[]).unwrap();
            let mut output = [f32::NAN; 6];
            op.evaluate(&[src], &[], &result, &mut output);
            output
        };
        assert_eq!(run(false, TopKOutput::Values), [7., 5., 7., 0., 3., 0.]);
        assert_eq!(run(false, TopKOutput::Indices), [1., 2., 2., 0., 3., 1.]);
        assert_eq!(run(true, TopKOutput::Indices), [0., 3., 3., 0., 1., 1.]);
        let op = |k| TopK {
            axis: 0,
            k,
            smallest: false,
            output: TopKOutput::Values,
        };
        assert!(op(5).infer_shape(&[&shape], &[]).is_err());
        assert!(op(0).infer_shape(&[&shape], &[]).is_err());
    }
}
