//! Reduction of any axes.

use super::axes::{Strides, Walk, strides};
use super::binary::maximum;
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// What becomes of the reduced elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ReduceOp {
    /// Σ x.
    Sum,
    /// Σ x / n.
    Mean,
    /// The greatest, or NaN if there is one.
    Max,
    /// The smallest, or NaN if there is one.
    Min,
    /// Π x.
    Prod,
    /// Σ |x|.
    L1,
    /// √Σ x².
    L2,
    /// log Σ x.
    LogSum,
    /// log Σ eˣ.
    LogSumExp,
    /// Σ x².
    SumSquare,
}

/// Reduction of some axes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reduce {
    /// What becomes of the elements.
    pub op: ReduceOp,
    /// The axes, ascending.
    pub axes: Vec<u32>,
    /// They stay, with 1 element.
    pub keep: bool,
}

/// Dims and strides of some of an array's axes.
#[derive(Default)]
struct Part {
    dims: [u32; Shape::MAX_RANK],
    strides: Strides,
    rank: usize,
}

impl Part {
    fn push(&mut self, dim: u32, stride: usize) {
        (self.dims[self.rank], self.strides[self.rank]) = (dim, stride);
        self.rank += 1;
    }

    fn walk(&self) -> Walk<'_, 1> {
        Walk::new(&self.dims[..self.rank], [self.strides])
    }

    fn count(&self) -> usize {
        self.dims[..self.rank]
            .iter()
            .map(|&dim| dim as usize)
            .product()
    }
}

impl ReduceOp {
    /// See [`Op::name`](super::Op::name).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sum => "ReduceSum",
            Self::Mean => "ReduceMean",
            Self::Max => "ReduceMax",
            Self::Min => "ReduceMin",
            Self::Prod => "ReduceProd",
            Self::L1 => "ReduceL1",
            Self::L2 => "ReduceL2",
            Self::LogSum => "ReduceLogSum",
            Self::LogSumExp => "ReduceLogSumExp",
            Self::SumSquare => "ReduceSumSquare",
        }
    }

    /// Of one or more numbers.
    fn apply(self, x: impl Iterator<Item = f64> + Clone) -> f64 {
        let greatest = |x: &mut dyn Iterator<Item = f64>| x.fold(f64::NEG_INFINITY, maximum);
        match self {
            Self::Sum => x.sum(),
            Self::Mean => x.clone().sum::<f64>() / x.count() as f64,
            Self::Max => greatest(&mut x.into_iter()),
            Self::Min => -greatest(&mut x.map(|x| -x)),
            Self::Prod => x.product(),
            Self::L1 => x.map(f64::abs).sum(),
            Self::L2 => x.map(|x| x * x).sum::<f64>().sqrt(),
            Self::LogSum => x.sum::<f64>().ln(),
            Self::LogSumExp => log_sum_exp(x),
            Self::SumSquare => x.map(|x| x * x).sum(),
        }
    }
}

/// log Σ eˣ; the maximum is subtracted so that no exponential overflows.
pub(super) fn log_sum_exp(x: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = x.clone().fold(f64::NEG_INFINITY, maximum);
    if max.is_finite() {
        max + x.map(|x| (x - max).exp()).sum::<f64>().ln()
    } else {
        max
    }
}

impl Reduce {
    fn is_reduced(&self, axis: usize) -> bool {
        self.axes.contains(&(axis as u32))
    }
}

impl Operation for Reduce {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        for &axis in &self.axes {
            operands::axis(input, axis, "axes")?;
        }
        if !self.axes.is_sorted_by(|a, b| a < b) {
            return Err(Error::new(format!("axes {:?}", self.axes))
                .field("axes")
                .expected("ascending axes, each once"));
        }
        let dims = input.dims().iter().enumerate();
        let dims = dims.filter_map(|(axis, &dim)| match self.is_reduced(axis) {
            true => self.keep.then_some(1),
            false => Some(dim),
        });
        Shape::new(dims.collect::<Vec<u32>>())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let src = inputs[0];
        let (mut kept, mut reduced) = (Part::default(), Part::default());
        let strides = strides(src.shape);
        for (axis, &dim) in src.shape.dims().iter().enumerate() {
            let part = match self.is_reduced(axis) {
                true => &mut reduced,
                false => &mut kept,
            };
            part.push(dim, strides[axis]);
        }
        for (value, [begin]) in output.iter_mut().zip(kept.walk()) {
            let offsets = reduced.walk().take(reduced.count());
            *value = self
                .op
                .apply(offsets.map(|[offset]| f64::from(src.data[begin + offset])))
                as f32;
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        !self.is_reduced(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    fn run(op: ReduceOp, axes: &[u32], keep: bool) -> (Vec<u32>, Vec<f32>) {
        let shape = Shape::new([2, 1, 2]).unwrap();
        let src = TensorRef {
            shape: &shape,
            data: &[1., -3., 2., 4.],
        };
        let axes = axes.to_vec();
        let op = Reduce { op, axes, keep };
        let result = op.infer_shape(&[&shape], &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        op.evaluate(&[src], &[], &result, &mut output);
        (result.dims().to_vec(), output)
    }

    #[test]
    fn methods() {
        use ReduceOp::*;
        for (op, expected) in [
            (Sum, 4.0),
            (Mean, 1.0),
            (Max, 4.0),
            (Min, -3.0),
            (Prod, -24.0),
            (L1, 10.0),
            (L2, 30f32.sqrt()),
            (LogSum, 4f32.ln()),
            (LogSumExp, 4.170_615),
            (SumSquare, 30.0),
        ] {
            assert_eq!(
                run(op, &[0, 1, 2], false),
                (vec![], vec![expected]),
                "{op:?}"
            );
        }
        let large = [1000.0, 1000.0].into_iter();
        assert_eq!(log_sum_exp(large), 1000.0 + 2f64.ln());
    }

    #[test]
    fn axes_go_or_stay() {
        let sum = |axes: &[u32], keep| run(ReduceOp::Sum, axes, keep);
        assert_eq!(sum(&[0], true), (vec![1, 1, 2], vec![3.0, 1.0]));
        assert_eq!(sum(&[1, 2], false), (vec![2], vec![-2.0, 6.0]));
        assert_eq!(sum(&[], false), (vec![2, 1, 2], vec![1., -3., 2., 4.]));
        let shape = Shape::new([2, 2]).unwrap();
        for axes in [&[1, 0][..], &[1, 1], &[2], &[u32::MAX]] {
            let op = Reduce {
                op: ReduceOp::Sum,
                axes: axes.to_vec(),
                keep: true,
            };
            assert!(op.infer_shape(&[&shape], &[]).is_err(), "{axes:?}");
        }
    }
}
