//! Local response normalisation.

use super::native::{Backward, Forward, Native};
use crate::cuda::device::{Args, Device};
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

/// LRN: y = x·s^−β with s = k + α/n·Σx² over a window across channels or within one.
pub struct Lrn {
    /// Elements, height, width, channels, reach of a window, whether it lies across channels.
    numbers: [usize; 6],
    /// α (divided by the elements of a window across channels), β, k.
    factors: [f32; 3],
    /// s of every element.
    scale: u64,
}

impl Lrn {
    /// From attributes and the shape.
    pub fn new(device: &mut dyn Device, op: &ops::Lrn, shape: &Shape) -> Result<Self> {
        let [channels, h, w] = [1, 2, 3].map(|axis| shape.dim(axis) as usize);
        let reach = (op.size as usize - 1) / 2;
        let across = !op.within_channel;
        let factors = match across {
            true => [op.alpha / op.size as f32, op.beta, op.k],
            false => [op.alpha, op.beta, 1.0],
        };
        Ok(Self {
            numbers: [shape.count(), h, w, channels, reach, usize::from(across)],
            factors,
            scale: device.allocate(shape.count())?,
        })
    }
}

impl Native for Lrn {
    fn scratch(&self) -> usize {
        self.numbers[0]
    }
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.output, self.scale];
        device.launch("lrn", &Args::new(&p, &self.numbers, &self.factors))
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, into) = (run.output_gradient, run.input_gradients[0]);
        if into == 0 {
            return Ok(());
        }
        let p = [run.inputs[0], self.scale, dy, run.scratch, into];
        let ratios = Args::new(&p[..4], &self.numbers[..1], &self.factors);
        device.launch("lrn_ratios", &ratios)?;
        device.launch("lrn_back", &Args::new(&p, &self.numbers, &self.factors))
    }
}
