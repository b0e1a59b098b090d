//! Elementwise functions, dropout, and layers that only change shapes.

use super::layer::{Backward, CHUNK, Forward, Layer};
use crate::layer::Dropout as Attributes;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use skimjit_models::ops::Activation as Op;

/// An elementwise function.
pub struct Activation {
    op: Op,
}

impl Activation {
    /// From attributes.
    pub fn new(op: &Op) -> Self {
        Self { op: *op }
    }
    /// dy/dx from operand and result.
    fn derivative(&self, x: f32, y: f32) -> f32 {
        match self.op {
            Op::ReLU { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Op::Elu { alpha } => {
                if x > 0.0 {
                    1.0
                } else {
                    y + alpha
                }
            }
            Op::Sigmoid => y * (1.0 - y),
            Op::TanH => 1.0 - y * y,
            Op::AbsVal => {
                if x == 0.0 {
                    0.0
                } else {
                    x.signum()
                }
            }
            Op::Bnll => 1.0 / (1.0 + (-x).exp()),
            Op::Power {
                power,
                scale,
                shift,
            } => {
                if power == 0.0 || scale == 0.0 {
                    return 0.0;
                }
                power * scale * (shift + scale * x).powf(power - 1.0)
            }
            Op::Exp { base, scale, .. } => y * scale * logarithm(base),
            Op::Log { base, scale, shift } => scale / ((shift + scale * x) * logarithm(base)),
            Op::Threshold { .. } => 0.0,
            Op::Swish { beta } => {
                let sigmoid = 1.0 / (1.0 + (-beta * x).exp());
                beta * y + sigmoid * (1.0 - beta * y)
            }
            // As Caffe: the limits belong to the inside.
            Op::Clip { min, max } => f32::from(x >= min && x <= max),
        }
    }
}

/// Of the base of an exponential; −1 stands for e.
fn logarithm(base: f32) -> f32 {
    if base == -1.0 { 1.0 } else { base.ln() }
}

impl Layer for Activation {
    fn forward(&mut self, run: Forward<'_>) {
        let chunks = run
            .output
            .par_chunks_mut(CHUNK)
            .zip(run.inputs[0].par_chunks(CHUNK));
        chunks.for_each(|(output, input)| match self.op {
            Op::ReLU { slope } => {
                let all = output.iter_mut().zip(input);
                all.for_each(|(y, x)| *y = x.max(0.0) + slope * x.min(0.0));
            }
            _ => output
                .iter_mut()
                .zip(input)
                .for_each(|(y, x)| *y = self.op.apply(f64::from(*x)) as f32),
        });
    }

    fn backward(&mut self, run: Backward<'_>) {
        let Some(into) = &mut run.input_gradients[0] else {
            return;
        };
        let operands = run.inputs[0]
            .par_chunks(CHUNK)
            .zip(run.output.par_chunks(CHUNK));
        let gradients = into
            .par_chunks_mut(CHUNK)
            .zip(run.output_gradient.par_chunks(CHUNK));
        operands.zip(gradients).for_each(|((x, y), (into, dy))| {
            let all = into.iter_mut().zip(dy).zip(x.iter().zip(y));
            all.for_each(|((into, dy), (x, y))| *into = dy * self.derivative(*x, *y));
        });
    }

    fn forward_in_place(&mut self, data: &mut [f32], _turn: u64) {
        if let Op::ReLU { slope } = self.op {
            data.par_chunks_mut(CHUNK).for_each(|data| {
                data.iter_mut()
                    .for_each(|x| *x = x.max(0.0) + slope * x.min(0.0));
            });
        }
    }
    fn backward_in_place(&mut self, output: &[f32], gradient: &mut [f32]) {
        if let Op::ReLU { slope } = self.op {
            let chunks = gradient.par_chunks_mut(CHUNK).zip(output.par_chunks(CHUNK));
            chunks.for_each(|(gradient, output)| {
                let all = gradient.iter_mut().zip(output);
                all.for_each(|(dy, y)| *dy = if *y > 0.0 { *dy } else { *dy * slope });
            });
        }
    }
}

/// Dropout in training.
pub struct Dropout {
    attributes: Attributes,
    /// What each element is multiplied by.
    mask: Vec<f32>,
}

impl Dropout {
    /// From attributes.
    pub fn new(attributes: &Attributes) -> Self {
        Self {
            attributes: *attributes,
            mask: Vec::new(),
        }
    }
    fn draw(&mut self, count: usize, turn: u64) {
        self.mask.resize(count, 0.0);
        let (limit, kept) = (self.attributes.limit(), self.attributes.kept());
        // The same chunks with numbers of their own for any number of threads.
        self.mask
            .par_chunks_mut(Attributes::CHUNK)
            .enumerate()
            .for_each(|(chunk, mask)| {
                let mut random = Attributes::random(turn);
                random.set_stream(self.attributes.number << 40 | chunk as u64);
                let mut keep = || {
                    if u64::from(random.next_u32()) < limit {
                        0.0
                    } else {
                        kept
                    }
                };
                mask.iter_mut().for_each(|mask| *mask = keep());
            });
    }
    fn apply(&self, data: &mut [f32]) {
        let chunks = data.par_chunks_mut(CHUNK).zip(self.mask.par_chunks(CHUNK));
        chunks.for_each(|(data, mask)| data.iter_mut().zip(mask).for_each(|(x, mask)| *x *= mask));
    }
}

impl Layer for Dropout {
    fn forward(&mut self, run: Forward<'_>) {
        run.output.copy_from_slice(run.inputs[0]);
        self.forward_in_place(run.output, run.turn);
    }
    fn backward(&mut self, run: Backward<'_>) {
        if let Some(into) = &mut run.input_gradients[0] {
            into.copy_from_slice(run.output_gradient);
            self.apply(into);
        }
    }
    fn forward_in_place(&mut self, data: &mut [f32], turn: u64) {
        self.draw(data.len(), turn);
        self.apply(data);
    }
    fn backward_in_place(&mut self, _output: &[f32], gradient: &mut [f32]) {
        self.apply(gradient);
    }
}

/// The same elements, perhaps in another shape.
pub struct Copy;

impl Layer for Copy {
    fn forward(&mut self, run: Forward<'_>) {
        run.output.copy_from_slice(run.inputs[0]);
    }
    fn backward(&mut self, run: Backward<'_>) {
        if let Some(into) = &mut run.input_gradients[0] {
            into.copy_from_slice(run.output_gradient);
        }
    }
}
