//! Softmax.

use super::native::{Backward, Forward, Native};
use crate::cuda::device::{Args, Device};
use skimjit_models::{Result, Shape};

/// Softmax along an axis.
pub struct Softmax {
    /// Positions, classes, elements from class to class.
    numbers: [usize; 3],
    /// The gradient that arrives is already that of the scores: a SoftmaxWithLoss made it.
    passes_gradient: bool,
}

impl Softmax {
    /// From attributes and the shape.
    pub fn new(axis: u32, shape: &Shape, passes_gradient: bool) -> Self {
        let axis = axis as usize;
        let classes = shape.dim(axis) as usize;
        let inner = shape.count_of(axis + 1, shape.rank());
        Self {
            numbers: [shape.count() / classes.max(1), classes, inner],
            passes_gradient,
        }
    }
}

impl Native for Softmax {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.output];
        device.launch("softmax", &Args::new(&p, &self.numbers, &[]))
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, into) = (run.output_gradient, run.input_gradients[0]);
        if into == 0 {
            return Ok(());
        }
        if self.passes_gradient {
            let numbers = [self.numbers[0] * self.numbers[1], 0];
            return device.launch("add", &Args::new(&[dy, into], &numbers, &[1.0]));
        }
        let p = [run.output, dy, into];
        device.launch("softmax_back", &Args::new(&p, &self.numbers, &[]))
    }
}
