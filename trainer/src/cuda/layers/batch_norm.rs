//! Batch normalisation with Caffe's running sums.

use super::native::{Backward, Forward, Native};
use super::sums::{ChannelSums, Summed};
use crate::cuda::device::{Args, Device, behind};
use crate::layer::BatchNorm as Attributes;
use skimjit_models::{Result, Shape};

/// BatchNorm.
pub struct BatchNorm {
    attributes: Attributes,
    sums: ChannelSums,
    /// Mean of the last run, per channel.
    mean: u64,
    /// 1/√(σ² + eps) of the last run, per channel.
    inverse: u64,
    /// Sums of dy and of dy·y, per channel.
    of_gradient: [u64; 2],
}

impl BatchNorm {
    /// From attributes and the shape.
    pub fn new(device: &mut dyn Device, attributes: &Attributes, shape: &Shape) -> Result<Self> {
        let (channels, pixels) = match shape.rank() {
            1 => (1, 1),
            rank => (shape.dim(1) as usize, shape.count_of(2, rank)),
        };
        let of_gradient = device.allocate(2 * channels)?;
        Ok(Self {
            attributes: *attributes,
            sums: ChannelSums::new(device, [shape.dim(0) as usize, channels, pixels])?,
            mean: device.allocate(channels)?,
            inverse: device.allocate(channels)?,
            of_gradient: [of_gradient, behind(of_gradient, channels)],
        })
    }
    /// Mean and deviation: of the batch, or those gathered so far.
    fn statistics(&self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        let sums = &self.sums;
        let (x, partial) = (run.inputs[0], sums.partial());
        let mut p = vec![x, partial, self.mean, self.inverse];
        p.extend(run.weights);
        let training = usize::from(self.attributes.training);
        let numbers = [
            sums.channels,
            sums.images,
            sums.pixels,
            training,
            sums.pieces,
        ];
        let statistics = Args::new(
            &p,
            &numbers,
            &[self.attributes.eps, self.attributes.fraction],
        );
        if self.attributes.global {
            return device.launch("norm_running", &statistics);
        }
        let numbers = [sums.threads(), sums.channels, sums.pixels, sums.pieces];
        device.launch("norm_sums", &Args::new(&[x, partial], &numbers, &[]))?;
        device.launch("norm_statistics", &statistics)
    }
}

impl Native for BatchNorm {
    fn forward(&mut self, device: &mut dyn Device, run: &Forward<'_>) -> Result<()> {
        self.statistics(device, run)?;
        let p = [run.inputs[0], run.output, self.mean, self.inverse];
        device.launch("normalize", &Args::new(&p, &self.sums.numbers(), &[]))
    }

    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, y, into) = (run.output_gradient, run.output, run.input_gradients[0]);
        if into == 0 {
            return Ok(());
        }
        let mut p = [dy, y, into, self.inverse, 0, 0];
        if !self.attributes.global {
            let [first, second] = self.of_gradient;
            self.sums.write(device, Summed::Plain(dy), first)?;
            self.sums.write(device, Summed::Product(dy, y), second)?;
            p[4..].copy_from_slice(&self.of_gradient);
        }
        let [count, pixels, channels] = self.sums.numbers();
        let numbers = [count, pixels, channels, self.sums.images * pixels];
        device.launch("normalize_back", &Args::new(&p, &numbers, &[]))
    }
}
