//! Elementwise functions of one operand.

use super::erf::erf;
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

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
    /// gamma·(x > 0 ? x : alpha·(eˣ − 1)).
    Selu {
        /// Scale below zero.
        alpha: f32,
        /// Scale of all.
        gamma: f32,
    },
    /// max(x, 0) + min(0, alpha·(e^(x/alpha) − 1)).
    Celu {
        /// Scale of operand and result below zero; not 0.
        alpha: f32,
    },
    /// min(max(alpha·x + beta, 0), 1).
    HardSigmoid {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x·min(max(x/6 + 1/2, 0), 1).
    HardSwish,
    /// x·tanh(log(1 + eˣ)).
    Mish,
    /// x / (1 + |x|).
    Softsign,
    /// x·Φ(x), Φ being the normal distribution's: (1 + erf(x/√2)) / 2.
    Gelu {
        /// Φ is approximated by (1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2.
        tanh: bool,
    },
    /// The error function.
    Erf,
    /// √x.
    Sqrt,
    /// 1 / x.
    Reciprocal,
    /// −1, 0 or 1.
    Sign,
    /// The largest integer that is not greater.
    Floor,
    /// The smallest integer that is not less.
    Ceil,
    /// The nearest integer, of two the even one.
    Round,
    /// The integer part.
    Truncate,
    /// x = 0 ? 1 : 0.
    Not,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse of the sine.
    Asin,
    /// Inverse of the cosine.
    Acos,
    /// Inverse of the tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Inverse of the hyperbolic sine.
    Asinh,
    /// Inverse of the hyperbolic cosine.
    Acosh,
    /// Inverse of the hyperbolic tangent.
    Atanh,
    /// x > alpha ? x : 0.
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// x < −lambda: x + bias; x > lambda: x − bias; else 0.
    Shrink {
        /// What is taken off the magnitude.
        bias: f32,
        /// Largest magnitude that becomes 0.
        lambda: f32,
    },
    /// x is no number ? 1 : 0.
    IsNan,
    /// x is infinite, of a sign that is asked for ? 1 : 0.
    IsInf {
        /// −∞ counts.
        negative: bool,
        /// +∞ counts.
        positive: bool,
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
            Self::Selu { .. } => "Selu",
            Self::Celu { .. } => "Celu",
            Self::HardSigmoid { .. } => "HardSigmoid",
            Self::HardSwish => "HardSwish",
            Self::Mish => "Mish",
            Self::Softsign => "Softsign",
            Self::Gelu { .. } => "Gelu",
            Self::Erf => "Erf",
            Self::Sqrt => "Sqrt",
            Self::Reciprocal => "Reciprocal",
            Self::Sign => "Sign",
            Self::Floor => "Floor",
            Self::Ceil => "Ceil",
            Self::Round => "Round",
            Self::Truncate => "Truncate",
            Self::Not => "Not",
            Self::Sin => "Sin",
            Self::Cos => "Cos",
            Self::Tan => "Tan",
            Self::Asin => "Asin",
            Self::Acos => "Acos",
            Self::Atan => "Atan",
            Self::Sinh => "Sinh",
            Self::Cosh => "Cosh",
            Self::Asinh => "Asinh",
            Self::Acosh => "Acosh",
            Self::Atanh => "Atanh",
            Self::ThresholdedRelu { .. } => "ThresholdedRelu",
            Self::Shrink { .. } => "Shrink",
            Self::IsNan => "IsNaN",
            Self::IsInf { .. } => "IsInf",
        }
    }

    /// The function itself.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::ReLU { slope } => relu(x, slope.into()),
            Self::Elu { alpha } => elu(x, alpha.into()),
            Self::Sigmoid => sigmoid(x),
            Self::TanH => x.tanh(),
            Self::AbsVal => x.abs(),
            Self::Bnll => softplus(x),
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
            Self::Threshold { threshold } => truth(x > f64::from(threshold)),
            Self::Swish { beta } => x * sigmoid(f64::from(beta) * x),
            Self::Clip { min, max } => clip(x, min.into(), max.into()),
            Self::Selu { alpha, gamma } => f64::from(gamma) * elu(x, alpha.into()),
            Self::Celu { .. } if x > 0.0 => x,
            Self::Celu { alpha } => f64::from(alpha) * (x / f64::from(alpha)).exp_m1(),
            Self::HardSigmoid { alpha, beta } => {
                clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0)
            }
            Self::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
            Self::Mish => x * softplus(x).tanh(),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Gelu { tanh } => x * normal(x, tanh),
            Self::ThresholdedRelu { alpha } if x > f64::from(alpha) => x,
            Self::ThresholdedRelu { .. } => 0.0,
            Self::Shrink { bias, lambda } => shrink(x, bias.into(), lambda.into()),
            Self::Sign if x == 0.0 || x.is_nan() => x,
            Self::Sign => x.signum(),
            Self::Not => truth(x == 0.0),
            Self::IsNan => truth(x.is_nan()),
            Self::IsInf { negative, positive } => {
                truth(x.is_infinite() && if x < 0.0 { negative } else { positive })
            }
            _ => self.elementary(x),
        }
    }

    /// Functions that the standard library has.
    fn elementary(self, x: f64) -> f64 {
        match self {
            Self::Erf => erf(x),
            Self::Sqrt => x.sqrt(),
            Self::Reciprocal => x.recip(),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Truncate => x.trunc(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tan => x.tan(),
            Self::Asin => x.asin(),
            Self::Acos => x.acos(),
            Self::Atan => x.atan(),
            Self::Sinh => x.sinh(),
            Self::Cosh => x.cosh(),
            Self::Asinh => x.asinh(),
            Self::Acosh => x.acosh(),
            Self::Atanh => x.atanh(),
            _ => unreachable!("{self:?}"),
        }
    }
}

/// max(x, 0) + slope·min(x, 0) with the comparisons of C++, which let NaN through.
fn relu(x: f64, slope: f64) -> f64 {
    let positive = if x < 0.0 { 0.0 } else { x };
    if slope == 0.0 || x >= 0.0 {
        positive
    } else {
        positive + slope * x
    }
}

/// 1 / (1 + e⁻ˣ).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// x > 0 ? x : alpha·(eˣ − 1).
pub(super) fn elu(x: f64, alpha: f64) -> f64 {
    if x > 0.0 { x } else { alpha * x.exp_m1() }
}

/// log(1 + eˣ), of which eˣ would overflow for large x.
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The normal distribution's Φ; see [`Activation::Gelu`].
fn normal(x: f64, tanh: bool) -> f64 {
    if tanh {
        // (1 + tanh u) / 2 without cancellation.
        let sqrt_2_pi = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
        return sigmoid(2.0 * sqrt_2_pi * (x + 0.044715 * x.powi(3)));
    }
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// See [`Activation::Shrink`].
fn shrink(x: f64, bias: f64, lambda: f64) -> f64 {
    if x < -lambda {
        x + bias
    } else if x > lambda {
        x - bias
    } else {
        0.0
    }
}

/// 1 or 0.
pub(super) fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
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
pub(super) fn clip(x: f64, min: f64, max: f64) -> f64 {
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
            Self::Celu { alpha } if alpha == 0.0 || alpha.is_nan() => {
                refuse(alpha, "alpha", "a number other than 0")
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

    /// From the examples of ONNX's documentation, and by Python's `math`.
    #[test]
    fn values_of_onnx() {
        use Activation::*;
        let selu = Selu {
            alpha: 2.0,
            gamma: 3.0,
        };
        check(selu, -1.0, -3.7927233529713454);
        check(selu, 1.0, 3.0);
        check(Celu { alpha: 2.0 }, -1.0, -0.7869386805747332);
        check(Celu { alpha: 2.0 }, 1.5, 1.5);
        let hard = HardSigmoid {
            alpha: 0.5,
            beta: 0.625,
        };
        check(hard, -1.0, 0.125);
        check(hard, -2.0, 0.0);
        check(hard, 1.0, 1.0);
        check(HardSwish, 1.5, 1.125);
        check(HardSwish, -4.0, 0.0);
        check(Mish, 1.0, 0.8650983882673103);
        check(Mish, -1000.0, 0.0);
        check(Softsign, -3.0, -0.75);
        check(Gelu { tanh: false }, 1.0, 0.8413447460685429);
        check(Gelu { tanh: true }, 1.0, 0.8411919906082768);
        check(Reciprocal, -4.0, -0.25);
        check(Sqrt, 2.25, 1.5);
        check(Atanh, 0.5, 0.5493061443340549);
    }

    #[test]
    fn steps() {
        use Activation::*;
        for (function, x, y) in [
            (Sign, -3.0, -1.0),
            (Sign, 0.0, 0.0),
            (Floor, -1.5, -2.0),
            (Ceil, -1.5, -1.0),
            (Round, 2.5, 2.0),
            (Round, -3.5, -4.0),
            (Truncate, -1.75, -1.0),
            (Not, 0.0, 1.0),
            (Not, -2.0, 0.0),
            (ThresholdedRelu { alpha: 2.0 }, 2.0, 0.0),
            (ThresholdedRelu { alpha: -2.0 }, -1.5, -1.5),
            (IsNan, f64::NAN, 1.0),
            (IsNan, f64::INFINITY, 0.0),
        ] {
            check(function, x, y);
        }
        let shrink = Shrink {
            bias: 1.5,
            lambda: 1.5,
        };
        for (x, y) in [(-2.0, -0.5), (-1.0, 0.0), (1.5, 0.0), (2.0, 0.5)] {
            check(shrink, x, y);
        }
        let negative = IsInf {
            negative: true,
            positive: false,
        };
        check(negative, f64::NEG_INFINITY, 1.0);
        check(negative, f64::INFINITY, 0.0);
        check(negative, f64::NAN, 0.0);
    }
}
