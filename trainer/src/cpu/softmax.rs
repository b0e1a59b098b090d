//! Softmax.

use super::layer::{Backward, Forward, Layer};
use rayon::prelude::*;
use skimjit_models::Shape;

/// Softmax along an axis.
pub struct Softmax {
    classes: usize,
    inner: usize,
    /// The gradient that arrives is already that of the scores: a SoftmaxWithLoss made it.
    passes_gradient: bool,
}

impl Softmax {
    /// From attributes and the operand's shape.
    pub fn new(axis: u32, input: &Shape, passes_gradient: bool) -> Self {
        let axis = axis as usize;
        Self {
            classes: input.dim(axis) as usize,
            inner: input.count_of(axis + 1, input.rank()),
            passes_gradient,
        }
    }
}

impl Layer for Softmax {
    fn forward(&mut self, run: Forward<'_>) {
        let (classes, inner) = (self.classes, self.inner);
        let rows = run.output.par_chunks_exact_mut(classes * inner);
        rows.zip(run.inputs[0].par_chunks_exact(classes * inner))
            .for_each(|(y, x)| {
                for position in 0..inner {
                    let index = |class: usize| class * inner + position;
                    let highest = (0..classes).map(|k| x[index(k)]).fold(f32::MIN, f32::max);
                    let mut sum = 0.0;
                    for k in 0..classes {
                        let e = (x[index(k)] - highest).exp();
                        y[index(k)] = e;
                        sum += e;
                    }
                    (0..classes).for_each(|k| y[index(k)] /= sum);
                }
            });
    }

    fn backward(&mut self, run: Backward<'_>) {
        let Some(into) = &mut run.input_gradients[0] else {
            return;
        };
        if self.passes_gradient {
            into.copy_from_slice(run.output_gradient);
            return;
        }
        let (classes, inner) = (self.classes, self.inner);
        let size = classes * inner;
        let operands = run
            .output
            .par_chunks_exact(size)
            .zip(run.output_gradient.par_chunks_exact(size));
        into.par_chunks_exact_mut(size)
            .zip(operands)
            .for_each(|(into, (y, dy))| {
                for position in 0..inner {
                    let index = |class: usize| class * inner + position;
                    let sum: f32 = (0..classes).map(|k| y[index(k)] * dy[index(k)]).sum();
                    (0..classes).for_each(|k| into[index(k)] = y[index(k)] * (dy[index(k)] - sum));
                }
            });
    }
}
