//! Index of the greatest or smallest element along an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape};
use serde::{Deserialize, Serialize};

/// Index of the greatest element along an axis. NaN is found only where it comes first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArgExtreme {
    /// Axis (not negative).
    pub axis: u32,
    /// The axis stays, with 1 element.
    pub keep: bool,
    /// Of equal ones the last, not the first.
    pub last: bool,
    /// Of the smallest element.
    pub smallest: bool,
}

impl Operation for ArgExtreme {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        axes::reduced(input, axis, self.keep)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let [_, dim, inner] = axes::split(inputs[0].shape, self.axis as usize);
        for (index, value) in output.iter_mut().enumerate() {
            let (o, i) = (index / inner, index % inner);
            let x = |k: usize| inputs[0].data[(o * dim + k) * inner + i];
            let better = |k: usize, best: usize| match self.smallest {
                true => x(k) < x(best),
                false => x(k) > x(best),
            };
            let replaces = |k, best| better(k, best) || (self.last && x(k) == x(best));
            let best = (1..dim).fold(0, |best, k| if replaces(k, best) { k } else { best });
            *value = best as f32;
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
    fn first_and_last() {
        let shape = Shape::new([2, 3]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 5., 5., -2., -2., 0.],
        };
        let run = |smallest, last, keep| {
            let op = ArgExtreme {
                axis: 1,
                keep,
                last,
                smallest,
            };
            let result = op.infer_shape(&[&shape], &[]).unwrap();
            let mut output = [f32::NAN; 2];
            op.evaluate(&[src], &[], &result, &mut output);
            (result.rank(), output)
        };
        assert_eq!(run(false, false, true), (2, [1., 2.]));
        assert_eq!(run(false, true, false), (1, [2., 2.]));
        assert_eq!(run(true, false, false), (1, [0., 0.]));
        assert_eq!(run(true, true, false), (1, [0., 1.]));
    }
}
