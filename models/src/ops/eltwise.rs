//! Elementwise combination of several operands.

use super::operation::{Inputs, Operation, Weights};
use super::{PostOps, operands};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Elementwise combination of operands of the same shape.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum EltwiseOp {
    /// Product.
    Product,
    /// Σ coefficient·operand.
    Sum {
        /// One per operand.
        coefficients: Vec<f32>,
    },
    /// Maximum.
    Max,
}

/// Elementwise combination, with an activation fused behind it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Eltwise {
    /// How operands are combined.
    pub op: EltwiseOp,
    /// Fused activation.
    pub post: PostOps,
}

impl Operation for Eltwise {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [first, _, ..] = inputs else {
            return Err(operands::wrong_number(inputs.len(), "at least 2"));
        };
        if let Some(index) = inputs.iter().position(|shape| shape != first) {
            return Err(Error::new(format!("shape {}", inputs[index]))
                .field(format!("input[{index}]"))
                .expected(format!("{first}, the shape of the other operands")));
        }
        match &self.op {
            EltwiseOp::Sum { coefficients } if coefficients.len() != inputs.len() => {
                Err(Error::new(format!("{} coefficients", coefficients.len()))
                    .field("coefficients")
                    .expected(format!("{}, one per operand", inputs.len())))
            }
            _ => Ok((*first).clone()),
        }
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        for (index, value) in output.iter_mut().enumerate() {
            let mut operands = inputs.iter().map(|operand| f64::from(operand.data[index]));
            let combined: f64 = match &self.op {
                EltwiseOp::Product => operands.product(),
                EltwiseOp::Sum { coefficients } => operands
                    .zip(coefficients)
                    .map(|(x, &coefficient)| x * f64::from(coefficient))
                    .sum(),
                EltwiseOp::Max => {
                    let first = operands.next().unwrap_or(f64::NEG_INFINITY);
                    operands.fold(first, |best, x| if x > best { x } else { best })
                }
            };
            *value = self.post.apply(combined) as f32;
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}
