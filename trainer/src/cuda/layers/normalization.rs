//! LRN, BatchNorm and Scale.

use super::super::device::{Args, Device, behind};
use super::{Backward, ChannelSums, Forward, Native};
use crate::cpu::batch_norm::Attributes;
use skimjit_models::ops;
use skimjit_models::{Result, Shape};

pub struct Lrn {
    numbers: [usize; 4],
    factors: [f32; 3],
    scale: u64,
}

impl Lrn {
    pub fn new(device: &mut dyn Device, op: &ops::Lrn, shape: &Shape) -> Result<Self> {
        let (channels, pixels) = (shape.dim(1) as usize, shape.count_of(2, shape.rank()));
        let reach = (op.size as usize - 1) / 2;
        Ok(Self {
            numbers: [shape.count(), pixels, channels, reach],
            factors: [op.alpha / op.size as f32, op.beta, op.k],
            scale: device.allocate(shape.count())?,
        })
    }
}

impl Native for Lrn {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let p = [run.inputs[0], run.output, self.scale];
        device.launch("lrn", &Args::new(&p, &self.numbers, &self.factors))
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, into) = (run.output_gradient, run.input_gradients[0]);
        let p = [run.inputs[0], self.scale, dy, into];
        match into {
            0 => Ok(()),
            _ => device.launch("lrn_back", &Args::new(&p, &self.numbers, &self.factors)),
        }
    }
}

pub struct BatchNorm {
    images: usize,
    channels: usize,
    pixels: usize,
    eps: f32,
    fraction: f32,
    global: bool,
    training: bool,
    mean: u64,
    inverse: u64,
    /// Two sums of every channel of every image.
    sums: [u64; 2],
}

impl BatchNorm {
    pub fn new(device: &mut dyn Device, attributes: &Attributes, shape: &Shape) -> Result<Self> {
        let (channels, pixels) = match shape.rank() {
            1 => (1, 1),
            rank => (shape.dim(1) as usize, shape.count_of(2, rank)),
        };
        let images = shape.dim(0) as usize;
        // One after the other: the forward run sees both as pairs.
        let sums = device.allocate(2 * images * channels)?;
        Ok(Self {
            images,
            channels,
            pixels,
            eps: attributes.eps,
            fraction: attributes.fraction,
            global: attributes.global,
            training: attributes.training,
            mean: device.allocate(channels)?,
            inverse: device.allocate(channels)?,
            sums: [sums, behind(sums, images * channels)],
        })
    }
}

impl Native for BatchNorm {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let (x, rows) = (run.inputs[0], self.images * self.channels);
        let running = |index: usize| run.weights.get(index).copied().unwrap_or(0);
        let p = [
            x,
            self.sums[0],
            self.mean,
            self.inverse,
            running(0),
            running(1),
            running(2),
        ];
        let training = usize::from(self.training);
        let numbers = [self.channels, self.images, self.pixels, training];
        let statistics = Args::new(&p, &numbers, &[self.eps, self.fraction]);
        if self.global {
            device.launch("norm_running", &statistics)?;
        } else {
            let numbers = [rows, self.channels, self.pixels];
            device.launch("norm_sums", &Args::new(&[x, self.sums[0]], &numbers, &[]))?;
            device.launch("norm_statistics", &statistics)?;
        }
        let numbers = [rows * self.pixels, self.pixels, self.channels];
        let p = [x, run.output, self.mean, self.inverse];
        device.launch("normalize", &Args::new(&p, &numbers, &[]))
    }

    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let (dy, y, into) = (run.output_gradient, run.output, run.input_gradients[0]);
        if into == 0 {
            return Ok(());
        }
        let rows = self.images * self.channels;
        let mut p = [dy, y, into, self.inverse, 0, 0];
        if !self.global {
            p[4..].copy_from_slice(&self.sums);
            for (other, sums) in [0, y].into_iter().zip(self.sums) {
                let args = Args::new(&[dy, other, sums], &[rows, self.pixels], &[]);
                device.launch("row_sums", &args)?;
            }
        }
        let numbers = [rows * self.pixels, self.pixels, self.channels, self.images];
        device.launch("normalize_back", &Args::new(&p, &numbers, &[]))
    }
}

/// y = x·factor + offset, with weights.
pub struct Scale {
    count: usize,
    inner: usize,
    shared: usize,
    /// Which weights they are.
    factor: Option<usize>,
    offset: Option<usize>,
    sums: ChannelSums,
}

impl Scale {
    pub fn new(
        device: &mut dyn Device,
        op: &ops::Scale,
        shape: &Shape,
        shared: usize,
    ) -> Result<Self> {
        let count = shape.count();
        let inner = shape.count_of(op.axis as usize, shape.rank()) / shared.max(1);
        let outer = count / (shared * inner).max(1);
        Ok(Self {
            count,
            inner,
            shared,
            factor: op.scale.map(|_| 0),
            offset: op.bias.map(|_| usize::from(op.scale.is_some())),
            sums: ChannelSums::new(device, [outer, shared, inner])?,
        })
    }
}

impl Native for Scale {
    fn forward(&mut self, device: &mut dyn Device, run: &mut Forward<'_>) -> Result<()> {
        let at = |place: Option<usize>| place.map_or(0, |index| run.weights[index]);
        let p = [run.inputs[0], at(self.factor), at(self.offset), run.output];
        device.launch(
            "scale",
            &Args::new(&p, &[self.count, self.inner, self.shared], &[]),
        )
    }
    fn backward(&mut self, device: &mut dyn Device, run: &Backward<'_>) -> Result<()> {
        let dy = run.output_gradient;
        let gradient = |place: Option<usize>| place.map_or(0, |index| run.weight_gradients[index]);
        let sums = [
            (gradient(self.factor), run.inputs[0]),
            (gradient(self.offset), 0),
        ];
        for (into, x) in sums.into_iter().filter(|(into, _)| *into != 0) {
            self.sums.add(device, dy, x, into)?;
        }
        let factor = self.factor.map_or(0, |index| run.weights[index]);
        match run.input_gradients[0] {
            0 => Ok(()),
            into => {
                let numbers = [self.count, self.inner, self.shared];
                device.launch("scale", &Args::new(&[dy, factor, 0, into], &numbers, &[]))
            }
        }
    }
}
