//! Layers without a gradient, by the reference: Accuracy, ArgMax, constants.

use super::layer::{Backward, Forward, Layer};
use skimjit_models::{Op, Shape, TensorRef, Weight};
use std::sync::Arc;

/// A layer that only runs forward.
pub struct Reference {
    op: Op,
    inputs: Vec<Shape>,
    output: Shape,
    weights: Vec<Arc<Weight>>,
}

impl Reference {
    /// From attributes and shapes; `weights` are those of the graph.
    pub fn new(op: Op, inputs: Vec<Shape>, output: Shape, weights: Vec<Arc<Weight>>) -> Self {
        Self {
            op,
            inputs,
            output,
            weights,
        }
    }
}

impl Layer for Reference {
    fn forward(&mut self, run: Forward<'_>) {
        let inputs: Vec<TensorRef<'_>> = self
            .inputs
            .iter()
            .zip(run.inputs)
            .map(|(shape, data)| TensorRef { shape, data })
            .collect();
        self.op
            .evaluate(&inputs, &self.weights, &self.output, run.output);
    }
    fn backward(&mut self, _run: Backward<'_>) {}
}
