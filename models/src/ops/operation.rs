//! What every op must say about itself.

use crate::{Result, Shape, TensorRef, Weight};
use std::sync::Arc;

/// One kind of node. [`Op`](super::Op) dispatches here after it has checked the operands' shapes, so
/// that counts and products of dims of operands cannot overflow.
/// Operands of a reference.
pub(super) type Inputs<'a> = [TensorRef<'a>];
/// Weights of a graph.
pub(super) type Weights = [Arc<Weight>];

pub(super) trait Operation {
    /// Checks attributes, operands and weights; shape of the result. Must not panic.
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape>;
    /// Slow reference: `f64` throughout, one rounding to `f32` at the end, no heap.
    fn evaluate(&self, inputs: &Inputs, weights: &Weights, shape: &Shape, output: &mut [f32]);
    /// Whether the attributes still say what is meant when the operands' shapes change from `before`
    /// to `after`; the shape rule is asked afterwards. For attributes that were derived from the shapes
    /// at import, and for rules whose error would not tell what does not fit. Must not panic.
    fn check_resize(&self, _before: &[&Shape], _after: &[&Shape]) -> Result<()> {
        Ok(())
    }
    /// See [`Op::per_image`](super::Op::per_image); every operand has the same axis 0.
    fn per_image(&self, inputs: &[&Shape]) -> bool;
    /// Multiply-adds of a dense execution that gives `output`, the inferred shape.
    fn macs(&self, _inputs: &[&Shape], _weights: &Weights, _output: &Shape) -> u64 {
        0
    }
}
