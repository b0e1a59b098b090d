//! LSTM and RNN: a cell applied step by step.

use super::activation::sigmoid;
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape, TensorRef, Weight, WeightId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a recurrent layer does in one step.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Cell {
    /// Gates i, f, o, g (in this order in the rows of the weights):
    /// c = cont·σ(f)·c' + σ(i)·tanh(g), h = σ(o)·tanh(c). The result is h, the state c.
    Lstm,
    /// h = tanh(gate); the result is tanh(W·h + b), the state h.
    Rnn {
        /// W, `outputs × outputs`.
        weights: WeightId,
        /// b, `outputs`.
        bias: WeightId,
    },
}

/// LSTM or RNN over operands x (`T × N × …`, T steps of N sequences) and cont (`T × N`), the static
/// operand (`N × …`) when there are static weights, and the state before the first step
/// (`1 × N × outputs`: h, and c of an LSTM) when `initial`; otherwise that state is 0.
///
/// A gate is W_x·x + b + W_static·x_static + W_h·(cont·h'), with h' of the step before: cont 0 starts a
/// sequence. The output is `(T + 1) × N × outputs`: the results of the T steps, then the last state.
/// Each step's h and state are rounded to `f32`, as the output holds them.
///
/// Caffe keeps the state from one forward pass to the next unless it is exposed; here every run starts
/// with 0, and a caller that wants to go on exposes the state and passes it in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recurrent {
    /// Elements of h.
    pub outputs: u32,
    /// What a step does.
    pub cell: Cell,
    /// The last operands are the state before the first step.
    pub initial: bool,
    /// W_x, `gates × (elements of a step of one sequence)`; an LSTM has 4·outputs gates, an RNN outputs.
    pub input_weights: WeightId,
    /// b, `gates`.
    pub input_bias: WeightId,
    /// W_static, `gates × (elements of the static operand of one sequence)`.
    pub static_weights: Option<WeightId>,
    /// W_h, `gates × outputs`.
    pub hidden_weights: WeightId,
}

/// Operands and weights of a run, as plain arrays.
struct Data<'a> {
    streams: usize,
    outputs: usize,
    x: &'a [f32],
    cont: &'a [f32],
    fixed: &'a [f32],
    input_weights: &'a [f32],
    input_bias: &'a [f32],
    static_weights: &'a [f32],
    hidden_weights: &'a [f32],
}

impl Recurrent {
    /// Rows of the gates' weights.
    fn gates(&self) -> Result<u32> {
        operands::positive(self.outputs, "outputs")?;
        let factor = if self.cell == Cell::Lstm { 4 } else { 1 };
        self.outputs.checked_mul(factor).ok_or_else(|| {
            Error::new(self.outputs.to_string())
                .field("outputs")
                .expected(format!("at most {}", u32::MAX / factor))
        })
    }

    /// Operands that are the state before the first step.
    fn states(&self) -> usize {
        match (self.initial, &self.cell) {
            (false, _) => 0,
            (true, Cell::Lstm) => 2,
            (true, Cell::Rnn { .. }) => 1,
        }
    }

    fn check_operands(&self, inputs: &[&Shape]) -> Result<()> {
        let expected = 2 + usize::from(self.static_weights.is_some()) + self.states();
        if inputs.len() != expected {
            return Err(operands::wrong_number(inputs.len(), &expected.to_string()));
        }
        let (x, cont) = (inputs[0], inputs[1]);
        operands::at_least_rank(x, 0, 3)?;
        let streams = x.dim(1);
        operands::dims(cont, 1, &[x.dim(0), streams])?;
        let mut index = 2;
        if self.static_weights.is_some() {
            operands::at_least_rank(inputs[index], index, 2)?;
            if inputs[index].dim(0) != streams {
                return Err(Error::new(format!("shape {}", inputs[index]))
                    .field(format!("input[{index}]"))
                    .expected(format!("the {streams} sequences of input[0] first")));
            }
            index += 1;
        }
        for (index, state) in inputs.iter().enumerate().skip(index) {
            operands::dims(state, index, &[1, streams, self.outputs])?;
        }
        Ok(())
    }

    fn check_weights(&self, inputs: &[&Shape], weights: &Weights) -> Result<()> {
        let gates = self.gates()?;
        // These fit: a checked shape has at most 2³¹ elements.
        let summed = inputs[0].count_of(2, inputs[0].rank()) as u32;
        operands::weight_dims(weights, self.input_weights, 0, &[gates, summed])?;
        operands::weight_count(weights, self.input_bias, 1, gates as usize)?;
        let mut blob = 2;
        if let Some(id) = self.static_weights {
            let summed = inputs[2].count_of(1, inputs[2].rank()) as u32;
            operands::weight_dims(weights, id, blob, &[gates, summed])?;
            blob += 1;
        }
        operands::weight_dims(weights, self.hidden_weights, blob, &[gates, self.outputs])?;
        if let Cell::Rnn { weights: of, bias } = self.cell {
            operands::weight_dims(weights, of, blob + 1, &[self.outputs; 2])?;
            operands::weight_count(weights, bias, blob + 2, self.outputs as usize)?;
        }
        Ok(())
    }

    /// See [`Op::name`](super::Op::name).
    pub(super) fn name(&self) -> &'static str {
        match self.cell {
            Cell::Lstm => "LSTM",
            Cell::Rnn { .. } => "RNN",
        }
    }

    /// Weights in their order.
    pub(super) fn weights_mut(&mut self) -> Vec<&mut WeightId> {
        let mut ids = vec![&mut self.input_weights, &mut self.input_bias];
        ids.extend(&mut self.static_weights);
        ids.push(&mut self.hidden_weights);
        if let Cell::Rnn { weights, bias } = &mut self.cell {
            ids.extend([weights, bias]);
        }
        ids
    }

    fn data<'a>(&self, inputs: &[TensorRef<'a>], weights: &'a [Arc<Weight>]) -> Data<'a> {
        let weight = |id: WeightId| weights[id.0 as usize].data();
        let fixed = self.static_weights.map(|id| (inputs[2].data, weight(id)));
        let (fixed, static_weights) = fixed.unwrap_or_default();
        Data {
            streams: inputs[0].shape.dim(1) as usize,
            outputs: self.outputs as usize,
            x: inputs[0].data,
            cont: inputs[1].data,
            fixed,
            input_weights: weight(self.input_weights),
            input_bias: weight(self.input_bias),
            static_weights,
            hidden_weights: weight(self.hidden_weights),
        }
    }
}

fn dot(row: &[f32], x: &[f32]) -> f64 {
    let products = row.iter().zip(x);
    products.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
}

/// Row `index` of a matrix whose rows are as long as `x`, times `x`; 0 when there is no `x`.
fn row_times(matrix: &[f32], index: usize, x: &[f32]) -> f64 {
    dot(&matrix[index * x.len()..][..x.len()], x)
}

impl Data<'_> {
    /// Row `n` of `T × N` (or N) rows.
    fn row<'b>(&self, rows: &'b [f32], count: usize, n: usize) -> &'b [f32] {
        let len = rows.len() / count;
        &rows[n * len..][..len]
    }

    /// Gate `gate` of sequence `n` in step `t`, with the h of the step before.
    fn gate(&self, gate: usize, t: usize, n: usize, before: &[f32]) -> f64 {
        let position = t * self.streams + n;
        let x = self.row(self.x, self.cont.len(), position);
        let fixed = self.row(self.fixed, self.streams, n);
        let sum = f64::from(self.input_bias[gate])
            + row_times(self.input_weights, gate, x)
            + row_times(self.static_weights, gate, fixed);
        match f64::from(self.cont[position]) {
            0.0 => sum,
            cont => sum + cont * row_times(self.hidden_weights, gate, before),
        }
    }

    /// One step of an LSTM: h into `now`, c in place in `state`. Without `before`, h was 0.
    fn lstm(&self, t: usize, before: Option<&[f32]>, now: &mut [f32], state: &mut [f32]) {
        for (index, (h, c)) in now.iter_mut().zip(state).enumerate() {
            let (n, d) = (index / self.outputs, index % self.outputs);
            let before = before.map_or(&[][..], |before| self.row(before, self.streams, n));
            let gate = |gate: usize| self.gate(gate * self.outputs + d, t, n, before);
            let cont = f64::from(self.cont[t * self.streams + n]);
            let inputs = [gate(0), gate(1), gate(2), gate(3)];
            let [cell, hidden] = lstm_unit(inputs, cont, f64::from(*c));
            (*c, *h) = (cell as f32, hidden as f32);
        }
    }

    /// One step of an RNN: the result into `now`, h in place in `state`.
    fn rnn(&self, t: usize, [weights, bias]: [&[f32]; 2], now: &mut [f32], state: &mut [f32]) {
        for (index, h) in now.iter_mut().enumerate() {
            let (n, d) = (index / self.outputs, index % self.outputs);
            let before = self.row(state, self.streams, n);
            *h = self.gate(d, t, n, before).tanh() as f32;
        }
        state.copy_from_slice(now);
        for (index, result) in now.iter_mut().enumerate() {
            let (n, d) = (index / self.outputs, index % self.outputs);
            let h = self.row(state, self.streams, n);
            *result = (f64::from(bias[d]) + row_times(weights, d, h)).tanh() as f32;
        }
    }
}

/// c and h from the gates i, f, o, g and the c before.
pub(super) fn lstm_unit([i, f, o, g]: [f64; 4], cont: f64, before: f64) -> [f64; 2] {
    let kept = if cont == 0.0 {
        0.0
    } else {
        cont * sigmoid(f) * before
    };
    let cell = kept + sigmoid(i) * g.tanh();
    [cell, sigmoid(o) * cell.tanh()]
}

impl Operation for Recurrent {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        self.check_operands(inputs)?;
        self.check_weights(inputs, weights)?;
        Shape::new([
            inputs[0].dim(0).saturating_add(1),
            inputs[0].dim(1),
            self.outputs,
        ])
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let data = self.data(inputs, weights);
        let step = data.streams * data.outputs;
        let (steps, state) = output.split_at_mut(output.len() - step);
        let initial = &inputs[inputs.len() - self.states()..];
        match initial.last() {
            Some(last) => state.copy_from_slice(last.data),
            None => state.fill(0.0),
        }
        for t in 0..steps.len() / step {
            let (earlier, now) = steps.split_at_mut(t * step);
            let now = &mut now[..step];
            match self.cell {
                Cell::Lstm => {
                    let first = initial.first().map(|h| h.data);
                    let before = earlier.rchunks_exact(step).next().or(first);
                    data.lstm(t, before, now, state);
                }
                Cell::Rnn { weights: of, bias } => {
                    let output = [of, bias].map(|id| weights[id.0 as usize].data());
                    data.rnn(t, output, now, state);
                }
            }
        }
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        false
    }

    fn macs(&self, inputs: &[&Shape], weights: &Weights, _output: &Shape) -> u64 {
        let count = |id: WeightId| weights[id.0 as usize].data().len() as u64;
        let streams = u64::from(inputs[0].dim(1));
        let steps = streams * u64::from(inputs[0].dim(0));
        let mut each = count(self.input_weights) + count(self.hidden_weights);
        if let Cell::Rnn { weights, .. } = self.cell {
            each += count(weights);
        }
        let fixed = self.static_weights.map_or(0, count);
        steps
            .saturating_mul(each)
            .saturating_add(streams.saturating_mul(fixed))
    }
}
