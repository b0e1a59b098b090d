//! Embed: rows of a table.

use super::convolution::{bias_of, check_bias};
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape, WeightId};
use serde::{Deserialize, Serialize};

/// Row x of the table for each element x of the operand, plus a bias: the operand's dims, then
/// `outputs`. Elements are truncated to whole numbers; one that is no row gives NaN.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Embed {
    /// Elements of a row.
    pub outputs: u32,
    /// Table, `rows × outputs`.
    pub weights: WeightId,
    /// Bias, `outputs`.
    pub bias: Option<WeightId>,
}

impl Operation for Embed {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        let [input] = operands::exactly(inputs)?;
        operands::positive(self.outputs, "outputs")?;
        let table = operands::weight(weights, self.weights, 0)?.shape();
        if table.rank() != 2 || table.dim(1) != self.outputs {
            return Err(Error::new(format!("shape {table}"))
                .field("weights[0].shape")
                .expected(format!("a table of rows of {} elements", self.outputs)));
        }
        check_bias(weights, self.bias, self.outputs)?;
        let mut dims = input.dims().to_vec();
        dims.push(self.outputs);
        Shape::new(dims)
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let outputs = self.outputs as usize;
        let table = weights[self.weights.0 as usize].data();
        for (dst, &index) in output.chunks_exact_mut(outputs).zip(inputs[0].data) {
            let row = operands::index(index, table.len() / outputs);
            for (o, value) in dst.iter_mut().enumerate() {
                *value = row.map_or(f32::NAN, |row| {
                    (bias_of(weights, self.bias, o) + f64::from(table[row * outputs + o])) as f32
                });
            }
        }
    }

    fn per_image(&self, inputs: &[&Shape]) -> bool {
        inputs.first().is_some_and(|input| input.rank() > 0)
    }
}
