//! One step of an LSTM, its gates given.

use super::operation::{Inputs, Operation, Weights};
use super::{operands, recurrent};
use crate::{Error, Result, Shape};
use serde::{Deserialize, Serialize};

/// Operands: c before (`1 × N × D`), gates i, f, o, g (`1 × N × 4D`), cont (`1 × N`); see
/// [`Cell::Lstm`](super::Cell::Lstm).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LstmUnit {
    /// The result is h instead of c.
    pub hidden: bool,
}

impl Operation for LstmUnit {
    fn infer_shape(&self, inputs: &[&Shape], _weights: &Weights) -> Result<Shape> {
        let [before, gates, cont] = operands::exactly(inputs)?;
        let &[1, n, d] = before.dims() else {
            return Err(wrong(before, 0, "1 x N x D, a single step".to_owned()));
        };
        if gates.dims() != [1, n, d.saturating_mul(4)] {
            let expected = format!("1x{n}x{}, four gates", u64::from(d) * 4);
            return Err(wrong(gates, 1, expected));
        }
        if cont.dims() != [1, n] {
            return Err(wrong(cont, 2, format!("1x{n}")));
        }
        Ok(before.clone())
    }

    fn evaluate(&self, inputs: &Inputs, _weights: &Weights, shape: &Shape, output: &mut [f32]) {
        let d = shape.dim(2) as usize;
        for (index, value) in output.iter_mut().enumerate() {
            let (n, unit) = (index / d, index % d);
            let gate = |gate: usize| f64::from(inputs[1].data[(n * 4 + gate) * d + unit]);
            let (before, cont) = (inputs[0].data[index], inputs[2].data[n]);
            let gates = [gate(0), gate(1), gate(2), gate(3)];
            let [cell, hidden] = recurrent::lstm_unit(gates, cont.into(), before.into());
            *value = if self.hidden { hidden } else { cell } as f32;
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        true
    }
}

fn wrong(shape: &Shape, index: usize, expected: String) -> Error {
    Error::new(format!("shape {shape}"))
        .field(format!("input[{index}]"))
        .expected(expected)
}
