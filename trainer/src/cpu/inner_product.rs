//! Inner product: three matrix products, split over rows of their results.

use super::layer::{Backward, Forward, Layer};
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops;
use skimjit_pruning::gemm::{Matrix, multiply};

/// Parts that a product is split into.
const PARTS: usize = 16;

/// Inner product.
pub struct InnerProduct {
    images: usize,
    inputs: usize,
    outputs: usize,
    /// Weights lie as inputs × outputs.
    transposed: bool,
    /// outputs × images, or inputs × images.
    scratch: Vec<f32>,
}

impl InnerProduct {
    /// From attributes and the operand's shape.
    pub fn new(op: &ops::InnerProduct, input: &Shape) -> Self {
        let axis = op.axis as usize;
        Self {
            images: input.count_of(0, axis),
            inputs: input.count_of(axis, input.rank()),
            outputs: op.outputs as usize,
            transposed: op.transpose,
            scratch: Vec::new(),
        }
    }
    /// outputs × inputs.
    fn weights<'a>(&self, data: &'a [f32]) -> Matrix<'a> {
        if self.transposed {
            Matrix::new(data, self.inputs, self.outputs).t()
        } else {
            Matrix::new(data, self.outputs, self.inputs)
        }
    }
}

/// `c = a·b` in parts of rows.
fn multiply_in_parts(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], accumulate: bool) {
    let rows = a.rows();
    let columns = c.len() / rows;
    let part = rows.div_ceil(PARTS);
    let parts = c.par_chunks_mut(part * columns).enumerate();
    parts.for_each(|(index, c)| {
        let a = a.slice(index * part, c.len() / columns);
        multiply(a, b, c, accumulate);
    });
}

/// `to` (columns × rows) = `from` (rows × columns) transposed.
fn transpose(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    to.par_chunks_exact_mut(rows)
        .enumerate()
        .for_each(|(column, to)| {
            let from = from[column..].iter().step_by(columns);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        });
}

impl Layer for InnerProduct {
    fn forward(&mut self, run: Forward<'_>) {
        let Self {
            images: m,
            inputs: k,
            outputs: n,
            ..
        } = *self;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(n.max(k) * m, 0.0);
        let product = &mut scratch[..n * m];
        let x = Matrix::new(run.inputs[0], m, k).t();
        multiply_in_parts(self.weights(&run.weights[0]), x, product, false);
        transpose(product, n, m, run.output);
        self.scratch = scratch;
        if let Some(bias) = run.weights.get(1) {
            for row in run.output.chunks_exact_mut(n) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        }
    }

    fn backward(&mut self, run: Backward<'_>) {
        let Self {
            images: m,
            inputs: k,
            outputs: n,
            transposed,
            ..
        } = *self;
        let dy = run.output_gradient;
        if let Some(Some(gradient)) = run.weight_gradients.first_mut() {
            let (x, dy) = (Matrix::new(run.inputs[0], m, k), Matrix::new(dy, m, n));
            if transposed {
                multiply_in_parts(x.t(), dy, gradient, true);
            } else {
                multiply_in_parts(dy.t(), x, gradient, true);
            }
        }
        if let Some(Some(gradient)) = run.weight_gradients.get_mut(1) {
            for row in dy.chunks_exact(n) {
                gradient
                    .iter_mut()
                    .zip(row)
                    .for_each(|(sum, dy)| *sum += dy);
            }
        }
        if let Some(into) = &mut run.input_gradients[0] {
            let mut scratch = std::mem::take(&mut self.scratch);
            scratch.resize(n.max(k) * m, 0.0);
            let product = &mut scratch[..k * m];
            let dy = Matrix::new(dy, m, n).t();
            multiply_in_parts(self.weights(&run.weights[0]).t(), dy, product, false);
            transpose(product, k, m, into);
            self.scratch = scratch;
        }
    }
}
