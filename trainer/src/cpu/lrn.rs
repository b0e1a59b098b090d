//! Local response normalisation.

use super::layer::{Backward, Forward, Layer};
use rayon::prelude::*;
use skimjit_models::Shape;
use skimjit_models::ops;

/// LRN: y = x·s^−β with s = k + α/n·Σx² over a window across channels or within one.
pub struct Lrn {
    across: bool,
    /// Elements on either side of the middle of a window.
    reach: usize,
    /// α, divided by the elements of a whole window across channels.
    alpha: f32,
    beta: f32,
    k: f32,
    channels: usize,
    plane: [usize; 2],
    /// s of every element.
    scale: Vec<f32>,
}

impl Lrn {
    /// From attributes and the operand's shape.
    pub fn new(op: &ops::Lrn, input: &Shape) -> Self {
        let across = !op.within_channel;
        Self {
            across,
            reach: (op.size as usize - 1) / 2,
            alpha: if across {
                op.alpha / op.size as f32
            } else {
                op.alpha
            },
            beta: op.beta,
            k: if across { op.k } else { 1.0 },
            channels: input.dim(1) as usize,
            plane: [input.dim(2) as usize, input.dim(3) as usize],
            scale: Vec::new(),
        }
    }
    fn pixels(&self) -> usize {
        self.plane[0] * self.plane[1]
    }
    /// Sums of `squares` over the window of every element, weighted as the forward run does.
    fn sums(&self, squares: &[f32], sums: &mut [f32]) {
        if self.across {
            self.sums_across(squares, sums);
        } else {
            let planes = squares.chunks_exact(self.pixels());
            let planes = planes.zip(sums.chunks_exact_mut(self.pixels()));
            planes.for_each(|(squares, sums)| self.sums_within(squares, sums));
        }
    }
    fn sums_across(&self, squares: &[f32], sums: &mut [f32]) {
        let pixels = self.pixels();
        for (channel, sums) in sums.chunks_exact_mut(pixels).enumerate() {
            let first = channel.saturating_sub(self.reach);
            let last = (channel + self.reach + 1).min(self.channels);
            sums.fill(0.0);
            for squares in squares[first * pixels..last * pixels].chunks_exact(pixels) {
                sums.iter_mut()
                    .zip(squares)
                    .for_each(|(sum, square)| *sum += square);
            }
        }
    }
    /// Averages as Pooling makes them: the divisor counts the padding. With this stride and
    /// padding all windows are whole, so that the average is its own transpose.
    fn sums_within(&self, squares: &[f32], sums: &mut [f32]) {
        let [h, w] = self.plane;
        let size = 2 * self.reach + 1;
        let divisor = (size * size) as f32;
        for y in 0..h {
            let rows = y.saturating_sub(self.reach)..(y + self.reach + 1).min(h);
            for x in 0..w {
                let columns = x.saturating_sub(self.reach)..(x + self.reach + 1).min(w);
                let row = |row: usize| {
                    squares[row * w + columns.start..row * w + columns.end]
                        .iter()
                        .sum::<f32>()
                };
                sums[y * w + x] = rows.clone().map(row).sum::<f32>() / divisor;
            }
        }
    }
}

impl Layer for Lrn {
    fn forward(&mut self, run: Forward<'_>) {
        let count = self.channels * self.pixels();
        let mut scale = std::mem::take(&mut self.scale);
        scale.resize(run.output.len(), 0.0);
        let images = run.inputs[0].par_chunks_exact(count);
        let images = images.zip(
            run.output
                .par_chunks_exact_mut(count)
                .zip(scale.par_chunks_exact_mut(count)),
        );
        images.for_each(|(input, (output, scale))| {
            output
                .iter_mut()
                .zip(input)
                .for_each(|(square, x)| *square = x * x);
            self.sums(output, scale);
            scale.iter_mut().for_each(|s| *s = self.k + self.alpha * *s);
            let results = output.iter_mut().zip(input.iter().zip(scale.iter()));
            results.for_each(|(y, (x, s))| *y = x * power(*s, -self.beta));
        });
        self.scale = scale;
    }

    fn backward(&mut self, run: Backward<'_>) {
        let Some(into) = &mut run.input_gradients[0] else {
            return;
        };
        let count = self.channels * self.pixels();
        let images = run.inputs[0]
            .par_chunks_exact(count)
            .zip(self.scale.par_chunks_exact(count));
        let gradients = run.output_gradient.par_chunks_exact(count);
        let images = images.zip(gradients.zip(into.par_chunks_exact_mut(count)));
        images.for_each_init(
            || (vec![0.0; count], vec![0.0; count]),
            |(ratios, sums), ((input, scale), (gradient, into))| {
                // dy·y/s, summed over the windows that an element is part of.
                let all = input
                    .iter()
                    .zip(scale)
                    .zip(gradient.iter().zip(into.iter_mut()));
                for (ratio, ((x, s), (dy, into))) in ratios.iter_mut().zip(all) {
                    let weight = power(*s, -self.beta);
                    *into = dy * weight;
                    *ratio = dy * x * weight / s;
                }
                self.sums(ratios, sums);
                let factor = 2.0 * self.alpha * self.beta;
                let all = into.iter_mut().zip(input.iter().zip(sums.iter()));
                all.for_each(|(into, (x, sum))| *into -= factor * x * sum);
            },
        );
    }
}

/// `s^exponent`; for the usual exponent of −3/4 by square roots.
fn power(s: f32, exponent: f32) -> f32 {
    if exponent == -0.75 {
        let root = s.sqrt();
        return 1.0 / (root * root.sqrt());
    }
    s.powf(exponent)
}
