//! Mean 0 and variance 1, as layer, instance and group normalisation begin.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// (x − mean) / √(variance + eps) over some axes that follow each other. (MVN adds its eps to the deviation.)
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Standardize {
    /// First axis (not negative) of those over which mean and variance are taken.
    pub axis: u32,
    /// First axis behind those; none: all are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u32>,
    /// Added to the variance.
    pub eps: f32,
}

impl Standardize {
    /// Axes over which mean and variance are taken, of so many.
    pub fn axes(&self, rank: usize) -> Range<usize> {
        self.axis as usize..self.end.map_or(rank, |end| end as usize)
    }
}

impl Operation for Standardize {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let first = operands::axis(input, self.axis, "axis")?;
        let ends = first + 1..=input.rank();
        if let Some(end) = self.end.filter(|&end| !ends.contains(&(end as usize))) {
            let expected = format!("{} to {}", ends.start(), ends.end());
            return Err(Error::new(end.to_string()).field("end").expected(expected));
        }
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let (axes, rank) = (self.axes(shape.rank()), shape.rank());
        let outer = shape.count_of(0, axes.start);
        let (count, inner) = (
            shape.count_of(axes.start, axes.end),
            shape.count_of(axes.end, rank),
        );
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |k: usize| (o * count + k) * inner + i;
            let x = |k: usize| f64::from(inputs[0].data[at(k)]);
            let mean = (0..count).map(x).sum::<f64>() / count as f64;
            let squares = (0..count).map(|k| (x(k) - mean).powi(2));
            let variance = squares.sum::<f64>() / count as f64;
            let deviation = (variance + f64::from(self.eps)).sqrt();
            for k in 0..count {
                output[at(k)] = ((x(k) - mean) / deviation) as f32;
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
    fn rows_have_mean_0_and_variance_1() {
        let shape = Shape::new([2, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., 5., 7., 7.],
        };
        let op = Standardize {
            axis: 1,
            end: None,
            eps: 2.25,
        };
        let mut dst = [0.0; 4];
        op.evaluate(&[src], &[], &shape, &mut dst);
        // √(4 + 2.25) = 2.5.
        assert_eq!(dst, [-0.8, 0.8, 0.0, 0.0]);
        // Over the first axis.
        let src = TensorRef {
            data: &[1., 2., 7., 10.],
            ..src
        };
        let op = Standardize {
            axis: 0,
            end: Some(1),
            eps: 0.0,
        };
        op.evaluate(&[src], &[], &shape, &mut dst);
        assert_eq!(dst, [-1.0, -1.0, 1.0, 1.0]);
        for (axis, end) in [(2, None), (1, Some(1)), (0, Some(0)), (1, Some(3))] {
            let op = Standardize {
                axis,
                end,
                eps: 0.0,
            };
            assert!(op.infer_shape(&[&shape], &[]).is_err(), "{op:?}");
        }
    }
}
