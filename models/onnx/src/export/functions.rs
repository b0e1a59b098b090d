//! Functions of one operand.

use super::writer::{Value, Writer};
use Value::{Float, Int};
use skimjit_models::Result;
use skimjit_models::ops::{Activation, PRelu, PostOps};

/// Element types that casts go by.
const BOOL: i64 = 9;
const FLOATS: i64 = 1;

fn relu(to: &mut Writer<'_>, slope: f32, x: &str) -> String {
    match slope == 0.0 {
        true => to.add("Relu", &[x], &[]),
        false => to.add("LeakyRelu", &[x], &[("alpha", Float(slope))]),
    }
}

/// Numbers for what holds and what does not.
pub(super) fn truth(to: &mut Writer<'_>, x: &str) -> String {
    to.add("Cast", &[x], &[("to", Int(FLOATS))])
}

/// What numbers other than zero stand for.
pub(super) fn condition(to: &mut Writer<'_>, x: &str) -> String {
    to.add("Cast", &[x], &[("to", Int(BOOL))])
}

/// shift + scale·x.
fn affine(to: &mut Writer<'_>, scale: f32, shift: f32, x: &str) -> String {
    let mut y = x.to_owned();
    if scale != 1.0 {
        let scale = to.number(scale);
        y = to.add("Mul", &[&y, &scale], &[]);
    }
    if shift != 0.0 {
        let shift = to.number(shift);
        y = to.add("Add", &[&y, &shift], &[]);
    }
    y
}

/// Natural logarithm of a base, of which −1 means e.
fn log_base(base: f32) -> f32 {
    if base == -1.0 {
        1.0
    } else {
        f64::from(base).ln() as f32
    }
}

/// What is fused behind a layer.
pub(super) fn post(to: &mut Writer<'_>, y: String, post: PostOps) -> Result<String> {
    match post.activation {
        None => Ok(y),
        Some(function) => activation(to, function, &y),
    }
}

pub(super) fn activation(to: &mut Writer<'_>, op: Activation, x: &str) -> Result<String> {
    let alpha = |alpha: f32| vec![("alpha", Float(alpha))];
    let (name, attributes) = match op {
        Activation::ReLU { slope } => return Ok(relu(to, slope, x)),
        Activation::Elu { alpha: factor } => ("Elu", alpha(factor)),
        Activation::Celu { alpha: factor } => ("Celu", alpha(factor)),
        Activation::Selu {
            alpha: factor,
            gamma,
        } => (
            "Selu",
            vec![("alpha", Float(factor)), ("gamma", Float(gamma))],
        ),
        Activation::HardSigmoid {
            alpha: factor,
            beta,
        } => (
            "HardSigmoid",
            vec![("alpha", Float(factor)), ("beta", Float(beta))],
        ),
        Activation::ThresholdedRelu { alpha: factor } => ("ThresholdedRelu", alpha(factor)),
        Activation::Shrink { bias, lambda } => (
            "Shrink",
            vec![("bias", Float(bias)), ("lambd", Float(lambda))],
        ),
        Activation::Gelu { tanh } => {
            let how = if tanh { "tanh" } else { "none" };
            ("Gelu", vec![("approximate", Value::Text(how))])
        }
        Activation::Power {
            power,
            scale,
            shift,
        } => {
            let y = affine(to, scale, shift, x);
            if power == 1.0 {
                return Ok(if y == x {
                    to.add("Identity", &[x], &[])
                } else {
                    y
                });
            }
            let power = to.number(power);
            return Ok(to.add("Pow", &[&y, &power], &[]));
        }
        Activation::Exp { base, scale, shift } => {
            let factor = log_base(base);
            let y = affine(to, scale * factor, shift * factor, x);
            return Ok(to.add("Exp", &[&y], &[]));
        }
        Activation::Log { base, scale, shift } => {
            let y = affine(to, scale, shift, x);
            let y = to.add("Log", &[&y], &[]);
            return Ok(affine(to, 1.0 / log_base(base), 0.0, &y));
        }
        Activation::Threshold { threshold } => {
            let threshold = to.number(threshold);
            let above = to.add("Greater", &[x, &threshold], &[]);
            return Ok(truth(to, &above));
        }
        Activation::Swish { beta } => {
            let inner = affine(to, beta, 0.0, x);
            let gate = to.add("Sigmoid", &[&inner], &[]);
            return Ok(to.add("Mul", &[x, &gate], &[]));
        }
        Activation::Clip { min, max } => {
            let (min, max) = (to.number(min), to.number(max));
            return Ok(to.add("Clip", &[x, &min, &max], &[]));
        }
        Activation::Truncate => {
            let whole = to.add("Cast", &[x], &[("to", Int(7))]);
            return Ok(truth(to, &whole));
        }
        Activation::Not => {
            let holds = condition(to, x);
            let not = to.add("Not", &[&holds], &[]);
            return Ok(truth(to, &not));
        }
        Activation::IsNan => {
            let is = to.add("IsNaN", &[x], &[]);
            return Ok(truth(to, &is));
        }
        Activation::IsInf { negative, positive } => {
            let flags = [
                ("detect_negative", Int(negative.into())),
                ("detect_positive", Int(positive.into())),
            ];
            let is = to.add("IsInf", &[x], &flags);
            return Ok(truth(to, &is));
        }
        Activation::Sigmoid => ("Sigmoid", vec![]),
        Activation::TanH => ("Tanh", vec![]),
        Activation::AbsVal => ("Abs", vec![]),
        Activation::Bnll => ("Softplus", vec![]),
        Activation::HardSwish => ("HardSwish", vec![]),
        Activation::Mish => ("Mish", vec![]),
        Activation::Softsign => ("Softsign", vec![]),
        Activation::Erf => ("Erf", vec![]),
        Activation::Sqrt => ("Sqrt", vec![]),
        Activation::Reciprocal => ("Reciprocal", vec![]),
        Activation::Sign => ("Sign", vec![]),
        Activation::Floor => ("Floor", vec![]),
        Activation::Ceil => ("Ceil", vec![]),
        Activation::Round => ("Round", vec![]),
        Activation::Sin => ("Sin", vec![]),
        Activation::Cos => ("Cos", vec![]),
        Activation::Tan => ("Tan", vec![]),
        Activation::Asin => ("Asin", vec![]),
        Activation::Acos => ("Acos", vec![]),
        Activation::Atan => ("Atan", vec![]),
        Activation::Sinh => ("Sinh", vec![]),
        Activation::Cosh => ("Cosh", vec![]),
        Activation::Asinh => ("Asinh", vec![]),
        Activation::Acosh => ("Acosh", vec![]),
        Activation::Atanh => ("Atanh", vec![]),
    };
    Ok(to.add(name, &[x], &attributes))
}

/// A slope for each channel, the axis behind the batch.
pub(super) fn prelu(to: &mut Writer<'_>, op: &PRelu, x: &str, rank: usize) -> String {
    let count = to.graph.weight(op.slope).shape().count() as u32;
    let mut dims = vec![1; rank.saturating_sub(1).max(1)];
    dims[0] = count;
    let slope = to.weight_as(op.slope, &dims);
    to.add("PRelu", &[x, &slope], &[])
}
