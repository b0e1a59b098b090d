//! Elementwise functions, dropout, and layers that only change shapes.

use super::layer::{Backward, CHUNK, Forward, Layer};
use crate::layer::Dropout as Attributes;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use skimjit_models::ops::Activation as Op;
use std::f32::consts::FRAC_2_SQRT_PI;

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
            op => onnx(op, x, y),
        }
    }
}

/// dy/dx of the functions that ONNX brings, from operand and result.
fn onnx(op: Op, x: f32, y: f32) -> f32 {
    match op {
        Op::Selu { gamma, .. } if x > 0.0 => gamma,
        Op::Selu { alpha, gamma } => y + alpha * gamma,
        Op::Celu { .. } if x > 0.0 => 1.0,
        Op::Celu { alpha } => y / alpha + 1.0,
        Op::HardSigmoid { alpha, .. } => alpha * f32::from(y > 0.0 && y < 1.0),
        Op::HardSwish if x.abs() < 3.0 => x / 3.0 + 0.5,
        Op::HardSwish => f32::from(x > 0.0),
        Op::Mish => {
            let inner = Op::Bnll.apply(x.into()).tanh();
            (inner + f64::from(x) * Op::Sigmoid.apply(x.into()) * (1.0 - inner * inner)) as f32
        }
        Op::Softsign => (1.0 + x.abs()).powi(-2),
        Op::Gelu { tanh } => gelu(x.into(), tanh) as f32,
        Op::Erf => FRAC_2_SQRT_PI * (-x * x).exp(),
        Op::Sqrt => 0.5 / y,
        Op::Reciprocal => -y * y,
        Op::Sin => x.cos(),
        Op::Cos => -x.sin(),
        Op::Tan => 1.0 + y * y,
        Op::Asin => (1.0 - x * x).sqrt().recip(),
        Op::Acos => -(1.0 - x * x).sqrt().recip(),
        Op::Atan => (1.0 + x * x).recip(),
        Op::Sinh => x.cosh(),
        Op::Cosh => x.sinh(),
        Op::Asinh => (x * x + 1.0).sqrt().recip(),
        Op::Acosh => (x * x - 1.0).sqrt().recip(),
        Op::Atanh => (1.0 - x * x).recip(),
        Op::ThresholdedRelu { alpha } => f32::from(x > alpha),
        Op::Shrink { lambda, .. } => f32::from(x.abs() > lambda),
        // The steps are flat.
        Op::Sign | Op::Floor | Op::Ceil | Op::Round | Op::Truncate => 0.0,
        Op::Not | Op::IsNan | Op::IsInf { .. } => 0.0,
        _ => unreachable!("{op:?} is one of Caffe's"),
    }
}

/// Of x·Φ(x): Φ(x) + x·Φ'(x).
fn gelu(x: f64, tanh: bool) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    let sqrt_2_pi = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    let (odd, slope) = match tanh {
        true => {
            let odd = (sqrt_2_pi * (x + 0.044715 * x.powi(3))).tanh();
            (
                odd,
                sqrt_2_pi * (1.0 + 3.0 * 0.044715 * x * x) * (1.0 - odd * odd),
            )
        }
        false => {
            let odd = Op::Erf.apply(x * FRAC_1_SQRT_2);
            (odd, sqrt_2_pi * (-x * x / 2.0).exp())
        }
    };
    0.5 * (1.0 + odd + x * slope)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Against differences of the reference.
    #[test]
    fn derivatives() {
        let selu = Op::Selu {
            alpha: 1.5,
            gamma: 1.25,
        };
        let hard = Op::HardSigmoid {
            alpha: 0.2,
            beta: 0.5,
        };
        let shrink = Op::Shrink {
            bias: 0.25,
            lambda: 0.5,
        };
        let everywhere = [
            selu,
            hard,
            shrink,
            Op::Celu { alpha: 0.75 },
            Op::HardSwish,
            Op::Mish,
            Op::Softsign,
            Op::Gelu { tanh: false },
            Op::Gelu { tanh: true },
            Op::Erf,
            Op::Reciprocal,
            Op::Sign,
            Op::Floor,
            Op::Sin,
            Op::Cos,
            Op::Tan,
            Op::Atan,
            Op::Sinh,
            Op::Cosh,
            Op::Asinh,
            Op::ThresholdedRelu { alpha: 1.0 },
        ];
        let inside = [Op::Asin, Op::Acos, Op::Atanh];
        let positive = [Op::Sqrt, Op::Acosh];
        let places = [
            (&everywhere[..], &[-3.3, -1.2, -0.3, 0.4, 1.3, 3.2][..]),
            (&inside, &[-0.6, 0.3]),
            (&positive, &[1.7, 2.9]),
        ];
        for (ops, places) in places {
            for (&op, &x) in ops
                .iter()
                .flat_map(|op| places.iter().map(move |x| (op, x)))
            {
                let step = 1e-5;
                let expected = (op.apply(x + step) - op.apply(x - step)) / (2.0 * step);
                let found = Activation::new(&op).derivative(x as f32, op.apply(x) as f32);
                let error = (f64::from(found) - expected).abs();
                assert!(
                    error < 1e-4 * expected.abs().max(1.0),
                    "{op:?} at {x}: {found}, not {expected}"
                );
            }
        }
    }
}
