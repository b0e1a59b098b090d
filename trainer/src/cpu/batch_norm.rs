//! Batch normalisation with Caffe's running sums.

use super::layer::{Backward, Forward, Layer};
use crate::layer::BatchNorm as Attributes;
use rayon::prelude::*;
use skimjit_models::Shape;

/// BatchNorm.
pub struct BatchNorm {
    images: usize,
    channels: usize,
    pixels: usize,
    attributes: Attributes,
    /// Mean of the last run, per channel.
    mean: Vec<f32>,
    /// 1/√(σ² + eps) of the last run, per channel.
    inverse: Vec<f32>,
}

impl BatchNorm {
    /// From attributes and the operand's shape.
    pub fn new(attributes: &Attributes, input: &Shape) -> Self {
        let rank = input.rank();
        let (channels, pixels) = match rank {
            1 => (1, 1),
            _ => (input.dim(1) as usize, input.count_of(2, rank)),
        };
        Self {
            images: input.dim(0) as usize,
            channels,
            pixels,
            attributes: *attributes,
            mean: vec![0.0; channels],
            inverse: vec![0.0; channels],
        }
    }
    /// Sum over all images and pixels of a channel of what `of` makes of an element's index, in `f64`.
    fn sums(&self, of: impl Fn(usize, usize) -> [f64; 2] + Sync) -> Vec<[f64; 2]> {
        let sum = |channel: usize| {
            let mut sum = [0.0; 2];
            for image in 0..self.images {
                let first = (image * self.channels + channel) * self.pixels;
                for index in first..first + self.pixels {
                    let [a, b] = of(index, channel);
                    sum = [sum[0] + a, sum[1] + b];
                }
            }
            sum
        };
        (0..self.channels).into_par_iter().map(sum).collect()
    }
    fn use_running(&mut self, weights: &[Vec<f32>]) {
        let factor = weights[2][0];
        let factor = if factor == 0.0 { 0.0 } else { 1.0 / factor };
        let sums = weights[0].iter().zip(&weights[1]);
        for ((mean, inverse), (m, v)) in self.mean.iter_mut().zip(&mut self.inverse).zip(sums) {
            *mean = m * factor;
            *inverse = 1.0 / (v * factor + self.attributes.eps).sqrt();
        }
    }
    fn use_batch(&mut self, input: &[f32], weights: &mut [Vec<f32>]) {
        let count = (self.images * self.pixels) as f64;
        // Around the first element, so that large means cost no digits.
        let origin: Vec<f64> = (0..self.channels)
            .map(|channel| f64::from(input[channel * self.pixels]))
            .collect();
        let sums = self.sums(|index, channel| {
            let x = f64::from(input[index]) - origin[channel];
            [x, x * x]
        });
        if self.attributes.training {
            weights[2][0] = weights[2][0] * self.attributes.fraction + 1.0;
        }
        let unbiased = if count > 1.0 {
            count / (count - 1.0)
        } else {
            1.0
        };
        for (channel, [sum, squares]) in sums.into_iter().enumerate() {
            let offset = sum / count;
            let variance = (squares / count - offset * offset).max(0.0);
            let mean = origin[channel] + offset;
            self.mean[channel] = mean as f32;
            self.inverse[channel] =
                (1.0 / (variance + f64::from(self.attributes.eps)).sqrt()) as f32;
            if self.attributes.training {
                let add = |sum: &mut f32, x: f64| *sum = *sum * self.attributes.fraction + x as f32;
                add(&mut weights[0][channel], mean);
                add(&mut weights[1][channel], variance * unbiased);
            }
        }
    }
}

impl Layer for BatchNorm {
    fn forward(&mut self, run: Forward<'_>) {
        let input = run.inputs[0];
        if self.attributes.global {
            self.use_running(run.weights);
        } else {
            self.use_batch(input, run.weights);
        }
        let planes = run.output.par_chunks_exact_mut(self.pixels).enumerate();
        planes
            .zip(input.par_chunks_exact(self.pixels))
            .for_each(|((index, output), input)| {
                let channel = index % self.channels;
                let (mean, inverse) = (self.mean[channel], self.inverse[channel]);
                output
                    .iter_mut()
                    .zip(input)
                    .for_each(|(y, x)| *y = (x - mean) * inverse);
            });
    }

    fn backward(&mut self, run: Backward<'_>) {
        let Some(into) = &mut run.input_gradients[0] else {
            return;
        };
        let (dy, y) = (run.output_gradient, run.output);
        let means = if self.attributes.global {
            vec![[0.0; 2]; self.channels]
        } else {
            let count = (self.images * self.pixels) as f64;
            let sums = self.sums(|index, _| {
                let dy = f64::from(dy[index]);
                [dy, dy * f64::from(y[index])]
            });
            sums.into_iter()
                .map(|sum| sum.map(|sum| sum / count))
                .collect()
        };
        let planes = into.par_chunks_exact_mut(self.pixels).enumerate();
        let gradients = dy
            .par_chunks_exact(self.pixels)
            .zip(y.par_chunks_exact(self.pixels));
        planes.zip(gradients).for_each(|((index, into), (dy, y))| {
            let channel = index % self.channels;
            let [mean, mean_y] = means[channel].map(|mean| mean as f32);
            let inverse = self.inverse[channel];
            let all = into.iter_mut().zip(dy.iter().zip(y));
            all.for_each(|(into, (dy, y))| *into = (dy - mean - y * mean_y) * inverse);
        });
    }
}
