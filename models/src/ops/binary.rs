//! Elementwise functions of two operands that are broadcast.

use super::activation::truth;
use super::axes::{self, Walk};
use super::operation::{Inputs, Operation, Weights};
use super::{PostOps, operands};
use crate::{Result, Shape};
use serde::{Deserialize, Serialize};

/// A function of two numbers a and b. Comparisons and logic give 1 or 0; numbers other than 0 are true.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum BinaryOp {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a · b.
    Mul,
    /// a / b.
    Div,
    /// aᵇ.
    Pow,
    /// The smaller; NaN if there is one.
    Min,
    /// The greater; NaN if there is one.
    Max,
    /// Rest of a division rounded down: it has the sign of b.
    Mod,
    /// Rest of a division rounded to zero: it has the sign of a.
    Fmod,
    /// a < b.
    Less,
    /// a ≤ b.
    LessOrEqual,
    /// a > b.
    Greater,
    /// a ≥ b.
    GreaterOrEqual,
    /// a = b.
    Equal,
    /// Both are true.
    And,
    /// One is true.
    Or,
    /// Exactly one is true.
    Xor,
}

/// A function of two operands, each repeated along axes where it has one element (numpy's broadcasting),
/// with an activation fused behind it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Binary {
    /// The function.
    pub op: BinaryOp,
    /// Fused activation.
    pub post: PostOps,
}

impl BinaryOp {
    /// See [`Op::name`](super::Op::name).
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Sub => "Sub",
            Self::Mul => "Mul",
            Self::Div => "Div",
            Self::Pow => "Pow",
            Self::Min => "Min",
            Self::Max => "Max",
            Self::Mod | Self::Fmod => "Mod",
            Self::Less => "Less",
            Self::LessOrEqual => "LessOrEqual",
            Self::Greater => "Greater",
            Self::GreaterOrEqual => "GreaterOrEqual",
            Self::Equal => "Equal",
            Self::And => "And",
            Self::Or => "Or",
            Self::Xor => "Xor",
        }
    }

    /// The function itself.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Min => -maximum(-a, -b),
            Self::Max => maximum(a, b),
            Self::Mod => floor_mod(a, b),
            Self::Fmod => a % b,
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Equal => truth(a == b),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::Xor => truth((a != 0.0) != (b != 0.0)),
        }
    }
}

/// The greater, or NaN if there is one.
pub(super) fn maximum(a: f64, b: f64) -> f64 {
    if a > b || a.is_nan() { a } else { b }
}

fn floor_mod(a: f64, b: f64) -> f64 {
    let rest = a % b;
    let other_sign = rest != 0.0 && (rest < 0.0) != (b < 0.0);
    if other_sign { rest + b } else { rest }
}

impl Operation for Binary {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let operands: [&Shape; 2] = operands::exactly(inputs)?;
        axes::broadcast(&operands)
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let strides = [0, 1].map(|operand| axes::broadcast_strides(inputs[operand].shape, shape));
        for (value, [a, b]) in output.iter_mut().zip(Walk::new(shape.dims(), strides)) {
            let operands = [inputs[0].data[a], inputs[1].data[b]].map(f64::from);
            *value = self.post.apply(self.op.apply(operands[0], operands[1])) as f32;
        }
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        operands::same_rank(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorRef;

    #[test]
    fn functions() {
        use BinaryOp::*;
        for (op, a, b, result) in [
            (Sub, 1.0, 3.0, -2.0),
            (Div, 1.0, -4.0, -0.25),
            (Pow, 2.0, -2.0, 0.25),
            (Min, 2.0, -1.0, -1.0),
            (Max, 2.0, -1.0, 2.0),
            (Mod, -4.0, 3.0, 2.0),
            (Mod, 7.0, -3.0, -2.0),
            (Mod, 5.0, 8.0, 5.0),
            (Fmod, -4.3, 2.0, -4.3 + 4.0),
            (Fmod, 5.0, -3.0, 2.0),
            (Less, 1.0, 1.0, 0.0),
            (LessOrEqual, 1.0, 1.0, 1.0),
            (Greater, 2.0, 1.0, 1.0),
            (GreaterOrEqual, 0.0, 1.0, 0.0),
            (Equal, 2.0, 2.0, 1.0),
            (And, 2.0, 0.0, 0.0),
            (Or, 2.0, 0.0, 1.0),
            (Xor, 2.0, -3.0, 0.0),
        ] {
            assert_eq!(op.apply(a, b), result, "{op:?} {a} {b}");
        }
        for (a, b) in [(f64::NAN, 1.0), (1.0, f64::NAN)] {
            assert!(Min.apply(a, b).is_nan() && Max.apply(a, b).is_nan());
        }
    }

    #[test]
    fn operands_are_broadcast() {
        let shapes = [&[2, 1][..], &[3]].map(|dims| Shape::new(dims).unwrap());
        let data = [&[10.0, 20.0][..], &[1.0, 2.0, 3.0]];
        let inputs = [0, 1].map(|i| TensorRef {
            shape: &shapes[i],
            data: data[i],
        });
        let op = Binary {
            op: BinaryOp::Sub,
            post: PostOps::default(),
        };
        let shape = op.infer_shape(&[&shapes[0], &shapes[1]], &[]).unwrap();
        let mut output = [0.0; 6];
        op.evaluate(&inputs, &[], &shape, &mut output);
        assert_eq!(output, [9.0, 8.0, 7.0, 19.0, 18.0, 17.0]);
        assert!(op.infer_shape(&[&shapes[0]], &[]).is_err());
        assert!(!op.per_image(&[&shapes[0], &shapes[1]]));
    }
}
