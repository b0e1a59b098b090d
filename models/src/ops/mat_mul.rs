//! Products of matrices that are both computed.

use super::axes::{self, Walk};
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};

/// numpy's `matmul`: the last two axes are matrices, those before are broadcast. A first operand of one axis is
/// a row, a second one a column; the axis that makes it a matrix is not one of the result.
pub(super) struct MatMul;

/// Sizes of the matrices.
struct Sizes {
    rows: u32,
    summed: u32,
    columns: u32,
    /// The operands have an axis of their rows, and of their columns.
    has: [bool; 2],
}

fn sizes(inputs: &[&Shape]) -> Result<Sizes> {
    let [a, b] = operands::exactly(inputs)?;
    operands::at_least_rank(a, 0, 1)?;
    operands::at_least_rank(b, 1, 1)?;
    let (last, first) = (a.rank() - 1, b.rank().saturating_sub(2));
    let sizes = Sizes {
        rows: if last > 0 { a.dim(last - 1) } else { 1 },
        summed: a.dim(last),
        columns: if b.rank() > 1 { b.dim(first + 1) } else { 1 },
        has: [a.rank() > 1, b.rank() > 1],
    };
    if b.dim(first) != sizes.summed {
        return Err(Error::new(format!("shape {b}"))
            .field("input[1]")
            .expected(format!("{} rows, the columns of {a}", sizes.summed)));
    }
    Ok(sizes)
}

/// The axes before the matrices of both operands.
fn batches([a, b]: [&Shape; 2]) -> Result<[Shape; 2]> {
    let before = |shape: &Shape| Shape::new(&shape.dims()[..shape.rank().saturating_sub(2)]);
    Ok([before(a)?, before(b)?])
}

impl Operation for MatMul {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let sizes = sizes(inputs)?;
        let [a, b] = batches(operands::exactly(inputs)?)?;
        let mut dims = axes::broadcast(&[&a, &b])?.dims().to_vec();
        let matrix = [sizes.rows, sizes.columns].into_iter().zip(sizes.has);
        dims.extend(matrix.filter(|&(_, has)| has).map(|(dim, _)| dim));
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let Ok(sizes) = sizes(&[inputs[0].shape, inputs[1].shape]) else {
            return;
        };
        let [rows, summed, columns] = [sizes.rows, sizes.summed, sizes.columns].map(|n| n as usize);
        let batch_rank = shape.rank() - sizes.has.iter().filter(|&&has| has).count();
        let batch = &shape.dims()[..batch_rank];
        let strides = [0, 1].map(|operand| batch_strides(inputs[operand].shape, batch_rank));
        let results = output.chunks_exact_mut(rows * columns);
        for (result, [a, b]) in results.zip(Walk::new(batch, strides)) {
            let (a, b) = (&inputs[0].data[a..], &inputs[1].data[b..]);
            for (index, value) in result.iter_mut().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let a = a[row * summed..][..summed].iter();
                let b = b[column..].iter().step_by(columns);
                let products = a.zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
                *value = products.sum::<f64>() as f32;
            }
        }
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        operands::same_rank(inputs) && inputs.first().is_some_and(|shape| shape.rank() > 2)
    }

    fn macs(&self, inputs: &[&Shape], _weights: &Weights, output: &Shape) -> u64 {
        let summed = sizes(inputs).map_or(0, |sizes| sizes.summed);
        output.count() as u64 * u64::from(summed)
    }
}

/// Strides of an operand along the `rank` axes before the result's matrices.
fn batch_strides(shape: &Shape, rank: usize) -> axes::Strides {
    let own = axes::strides(shape);
    let own_rank = shape.rank().saturating_sub(2);
    let mut strides = [0; Shape::MAX_RANK];
    for axis in (0..own_rank).filter(|&axis| shape.dim(axis) > 1) {
        strides[rank - own_rank + axis] = own[axis];
    }
    strides
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[track_caller]
    fn check(a: &[u32], b: &[u32], dims: &[u32], values: &[f32]) {
        let shapes = [a, b].map(|dims| Shape::new(dims).unwrap());
        let numbers = |shape: &Shape| (1..=shape.count()).map(|x| x as f32).collect::<Vec<_>>();
        let data = shapes.each_ref().map(numbers);
        let inputs = [0, 1].map(|i| TensorRef {
            shape: &shapes[i],
            data: &data[i],
        });
        let result = MatMul.infer_shape(&shapes.each_ref(), &[]).unwrap();
        let mut output = vec![f32::NAN; result.count()];
        MatMul.evaluate(&inputs, &[], &result, &mut output);
        assert_eq!((result.dims(), &output[..]), (dims, values));
    }

    #[test]
    fn ranks_are_numpys() {
        check(&[2, 2], &[2, 2], &[2, 2], &[7., 10., 15., 22.]);
        check(&[2], &[2], &[], &[5.]);
        check(&[2], &[2, 2], &[2], &[7., 10.]);
        check(&[2, 2], &[2], &[2], &[5., 11.]);
        check(&[2, 1, 2], &[2, 1], &[2, 1, 1], &[5., 11.]);
        check(&[2, 1, 1], &[1, 2, 1, 1], &[1, 2, 1, 1], &[1., 4.]);
        check(&[2], &[2, 2, 1], &[2, 1], &[5., 11.]);
        check(&[2, 1, 2], &[2], &[2, 1], &[5., 11.]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (a, b) in [
            (&[2, 3][..], &[2, 3][..]),
            (&[], &[2]),
            (&[2, 1, 1], &[3, 1, 1]),
        ] {
            let shapes = [a, b].map(|dims| Shape::new(dims).unwrap());
            assert!(
                MatMul.infer_shape(&shapes.each_ref(), &[]).is_err(),
                "{a:?} {b:?}"
            );
        }
    }
}
