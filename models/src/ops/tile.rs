//! Repetition along an axis.

use super::operation::{Inputs, Operation, Weights};
use super::{axes, operands};
use crate::{Result, Shape};

/// Repetition of the operand along `axis`.
pub(super) struct Tile {
    pub axis: u32,
    pub tiles: u32,
}

impl Operation for Tile {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        let axis = operands::axis(input, self.axis, "axis")?;
        operands::positive(self.tiles, "tiles")?;
        axes::with_dim(
            input,
            axis,
            u64::from(input.dim(axis)) * u64::from(self.tiles),
        )
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let row = inputs[0]
            .shape
            .count_of(self.axis as usize, inputs[0].shape.rank());
        for (index, dst) in output.chunks_exact_mut(row).enumerate() {
            let outer = index / self.tiles as usize;
            dst.copy_from_slice(&inputs[0].data[outer * row..][..row]);
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.axis > 0
    }
}
