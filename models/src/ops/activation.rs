//! Elementwise functions of one operand.

use super::operation::{Inputs, Operation, Weights};
use super::{operands, window};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Elementwise functions of one operand.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum Activation {
    /// max(x,0) + slope·min(x,0).
    ReLU {
        /// Slope below zero.
        slope: f32,
    },
    /// x > 0 ? x : alpha·(eˣ − 1).
    Elu {
        /// Scale below zero.
        alpha: f32,
    },
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// tanh.
    TanH,
    /// |x|.
    AbsVal,
    /// log(1 + eˣ).
    Bnll,
    /// (shift + scale·x)^power.
    Power {
        /// Exponent.
        power: f32,
        /// Factor.
        scale: f32,
        /// Offset.
        shift: f32,
    },
    /// base^(shift + scale·x); base −1 is e.
    Exp {
        /// Base.
        base: f32,
        /// Factor.
        scale: f32,
        /// Offset.
        shift: f32,
    },
    /// log_base(shift + scale·x); base −1 is e.
    Log {
        /// Base.
        base: f32,
        /// Factor.
        scale: f32,
        /// Offset.
        shift: f32,
    },
    /// x > t ? 1 : 0.
    Threshold {
        /// Threshold.
        threshold: f32,
    },
    /// x·σ(beta·x).
    Swish {
        /// Factor inside the sigmoid.
        beta: f32,
    },
    /// min(max(x, min), max).
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
}

impl Activation {
    /// See [`Op::name`](super::Op::name).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReLU { .. } => "ReLU",
            Self::Elu { .. } => "ELU",
            Self::Sigmoid => "Sigmoid",
            Self::TanH => "TanH",
            Self::AbsVal => "AbsVal",
            Self::Bnll => "BNLL",
            Self::Power { .. } => "Power",
            Self::Exp { .. } => "Exp",
            Self::Log { .. } => "Log",
            Self::Threshold { .. } => "Threshold",
            Self::Swish { .. } => "Swish",
            Self::Clip { .. } => "Clip",
        }
    }

    /// The function itself.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::ReLU { slope } => window::relu(x, slope.into()),
            Self::Elu { alpha } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(alpha) * x.exp_m1()
                }
            }
            Self::Sigmoid => sigmoid(x),
            Self::TanH => x.tanh(),
            Self::AbsVal => x.abs(),
            // eˣ would overflow for large x.
            Self::Bnll => {
                if x > 0.0 {
                    x + (-x).exp().ln_1p()
                } else {
                    x.exp().ln_1p()
                }
            }
            Self::Power {
                power,
                scale,
                shift,
            } => (f64::from(shift) + f64::from(scale) * x).powf(power.into()),
            Self::Exp { base, scale, shift } => {
                (log_base(base) * (f64::from(shift) + f64::from(scale) * x)).exp()
            }
            Self::Log { base, scale, shift } => {
                (f64::from(shift) + f64::from(scale) * x).ln() / log_base(base)
            }
            Self::Threshold { threshold } => f64::from(u8::from(x > f64::from(threshold))),
            Self::Swish { beta } => x * sigmoid(f64::from(beta) * x),
            Self::Clip { min, max } => clip(x, min.into(), max.into()),
        }
    }
}

/// 1 / (1 + e⁻ˣ).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Natural logarithm of Caffe's base, of which −1 means e.
fn log_base(base: f32) -> f64 {
    if base == -1.0 {
        1.0
    } else {
        f64::from(base).ln()
    }
}

/// Unlike `f64::clamp`, defined for min > max.
fn clip(x: f64, min: f64, max: f64) -> f64 {
    let raised = if x < min { min } else { x };
    if raised > max { max } else { raised }
}

impl Operation for Activation {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let refuse = |base: f32, field, expected| {
            Err(Error::new(base.to_string()).field(field).expected(expected))
        };
        match *self {
            Self::Exp { base, .. } if base != -1.0 && (base.is_nan() || base <= 0.0) => {
                refuse(base, "base", "-1 (for e) or a positive base")
            }
            Self::Log { base, .. }
                if base != -1.0 && (base.is_nan() || base <= 0.0 || base == 1.0) =>
            {
                refuse(base, "base", "-1 (for e) or a positive base other than 1")
            }
            _ => Ok(input.clone()),
        }
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        for (value, &x) in output.iter_mut().zip(inputs[0].data) {
            *value = self.apply(x.into()) as f32;
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(activation: Activation, x: f64, y: f64) {
        let found = activation.apply(x);
        assert!(
            (found - y).abs() <= 1e-12 * y.abs().max(1.0),
            "{activation:?}({x}) = {found}"
        );
    }

    #[test]
    fn values() {
        check(Activation::ReLU { slope: 0.0 }, -3.0, 0.0);
        check(Activation::ReLU { slope: 0.25 }, -3.0, -0.75);
        check(
            Activation::Elu { alpha: 2.0 },
            -1.0,
            2.0 * ((-1.0f64).exp() - 1.0),
        );
        check(Activation::Sigmoid, 0.0, 0.5);
        check(Activation::TanH, 0.5, 0.46211715726000975);
        check(Activation::AbsVal, -2.0, 2.0);
        check(Activation::Bnll, 0.0, 2f64.ln());
        check(Activation::Bnll, 1000.0, 1000.0);
        check(Activation::Bnll, -1000.0, 0.0);
        check(
            Activation::Power {
                power: 2.0,
                scale: 3.0,
                shift: 1.0,
            },
            2.0,
            49.0,
        );
        check(
            Activation::Power {
                power: 0.0,
                scale: 0.0,
                shift: 0.0,
            },
            2.0,
            1.0,
        );
        check(
            Activation::Exp {
                base: -1.0,
                scale: 1.0,
                shift: 0.0,
            },
            1.0,
            std::f64::consts::E,
        );
        check(
            Activation::Exp {
                base: 2.0,
                scale: 2.0,
                shift: 1.0,
            },
            2.0,
            32.0,
        );
        check(
            Activation::Log {
                base: 10.0,
                scale: 10.0,
                shift: 0.0,
            },
            10.0,
            2.0,
        );
        check(Activation::Threshold { threshold: 0.5 }, 0.5, 0.0);
        check(Activation::Threshold { threshold: 0.5 }, 0.6, 1.0);
        check(
            Activation::Swish { beta: 1.0 },
            1.0,
            1.0 / (1.0 + (-1f64).exp()),
        );
        check(Activation::Clip { min: 0.0, max: 6.0 }, 9.0, 6.0);
        check(Activation::Clip { min: 2.0, max: 1.0 }, 0.0, 1.0);
    }
}
