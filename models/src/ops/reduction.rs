//! Reduction.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Result, Shape};
use serde::{Deserialize, Serialize};

/// Reduction method.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReductionOp {
    /// Σ x.
    Sum,
    /// Σ |x|.
    AbsSum,
    /// Σ x².
    SumOfSquares,
    /// Mean.
    Mean,
}

/// Reduction over all axes from `axis` on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reduction {
    /// Method.
    pub op: ReductionOp,
    /// First reduced axis.
    pub axis: i32,
    /// Factor of the result.
    pub coeff: f32,
}

impl Operation for Reduction {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::signed_axis(input, self.axis, "axis")?;
        Shape::new(&input.dims()[..axis])
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let reduced = inputs[0].data.len() / output.len();
        for (value, src) in output.iter_mut().zip(inputs[0].data.chunks_exact(reduced)) {
            let src = src.iter().map(|&x| f64::from(x));
            let result: f64 = match self.op {
                ReductionOp::Sum => src.sum(),
                ReductionOp::AbsSum => src.map(f64::abs).sum(),
                ReductionOp::SumOfSquares => src.map(|x| x * x).sum(),
                ReductionOp::Mean => src.sum::<f64>() / reduced as f64,
            };
            *value = (f64::from(self.coeff) * result) as f32;
        }
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        let axis = |input| operands::signed_axis(input, self.axis, "axis");
        inputs
            .first()
            .is_some_and(|&input| axis(input).is_ok_and(|axis| axis > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn methods() {
        let shape = Shape::new([2, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., -3., 2., 4.],
        };
        for (op, expected) in [
            (ReductionOp::Sum, [-4., 12.]),
            (ReductionOp::AbsSum, [8., 12.]),
            (ReductionOp::SumOfSquares, [20., 40.]),
            (ReductionOp::Mean, [-2., 6.]),
        ] {
            let op = Reduction {
                op,
                axis: -1,
                coeff: 2.0,
            };
            let out = op.infer_shape(&[&shape], &[]).unwrap();
            let mut dst = [0.0; 2];
            op.evaluate(&[src], &[], &out, &mut dst);
            assert_eq!((out.dims(), dst), (&[2][..], expected));
        }
        let all = Reduction {
            op: ReductionOp::Sum,
            axis: 0,
            coeff: 1.0,
        };
        assert_eq!(all.infer_shape(&[&shape], &[]).unwrap().rank(), 0);
        assert!(!all.per_image(&[&shape]));
    }
}
