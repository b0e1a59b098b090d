//! Copies: Dropout at test time, Split, constants.

use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Result, Shape, WeightId};

/// Copy of the operand.
pub(super) struct Identity;

impl Operation for Identity {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        Ok(input.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        output.copy_from_slice(inputs[0].data);
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

/// A constant.
pub(super) struct Constant(pub WeightId);

impl Operation for Constant {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [] = operands::exactly(inputs)?;
        Ok(operands::weight(weights, self.0, 0)?.shape().clone())
    }

    fn evaluate(&self, _inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        output.copy_from_slice(weights[self.0.0 as usize].data());
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }
}
