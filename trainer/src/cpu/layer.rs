//! What a node does on the CPU.

use skimjit_models::Result;

/// Operands and result of a forward run.
pub struct Forward<'a> {
    /// Operands.
    pub inputs: &'a [&'a [f32]],
    /// Result, to be overwritten.
    pub output: &'a mut [f32],
    /// Weights, in Caffe's blob order. Only statistics are changed.
    pub weights: &'a mut [Vec<f32>],
    /// Chooses random numbers.
    pub turn: u64,
}

/// What a backward run needs and makes.
pub struct Backward<'a> {
    /// Operands of the forward run.
    pub inputs: &'a [&'a [f32]],
    /// Its result.
    pub output: &'a [f32],
    /// Gradient of the result.
    pub output_gradient: &'a [f32],
    /// Gradients of the operands, to be overwritten; `None` where nobody wants them.
    pub input_gradients: &'a mut [Option<Vec<f32>>],
    /// Weights.
    pub weights: &'a [Vec<f32>],
    /// Gradients of the weights, to be added to; `None` where nobody wants them.
    pub weight_gradients: &'a mut [Option<Vec<f32>>],
}

/// A node with its attributes and what it keeps from the forward run for the backward run.
pub trait Layer: Send {
    /// Refuses operands that the layer cannot use.
    fn check(&self, _inputs: &[&[f32]]) -> Result<()> {
        Ok(())
    }
    /// Computes the result.
    fn forward(&mut self, run: Forward<'_>);
    /// Computes the gradients.
    fn backward(&mut self, run: Backward<'_>);
    /// Turns the operand into the result, where the one may take the place of the other.
    fn forward_in_place(&mut self, _data: &mut [f32], _turn: u64) {}
    /// Turns the gradient of the result into that of the operand.
    fn backward_in_place(&mut self, _output: &[f32], _gradient: &mut [f32]) {}
}

/// Elements that one task of an elementwise pass takes: fixed, so that sums are.
pub const CHUNK: usize = 1 << 14;
