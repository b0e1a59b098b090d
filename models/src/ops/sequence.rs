//! ONNX's RNN, GRU and LSTM.

use super::activation::{clip, elu, sigmoid, softplus};
use super::operands;
use super::operation::{Inputs, Operation, Weights};
use crate::{Error, Result, Shape, WeightId};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// What one step does. x is the step's input, h and c are the state before it; W, R, B, P are the rows of a gate, its
/// biases (one for x, one for h) and its peepholes, f, g, k the activations in their order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SequenceCell {
    /// h = f(W·x + R·h + B).
    Rnn,
    /// Gates z, r, n: z and r are f(W·x + R·h + B), n = g(W·x + R·(r∘h) + B), h = (1 − z)∘n + z∘h.
    Gru {
        /// n = g(W·x + B + r∘(R·h + B)).
        linear_before_reset: bool,
    },
    /// Gates i, o, f, c: i and f are f(W·x + R·h + B + P∘c), c = f∘c + i∘g(W·x + R·h + B),
    /// o = f(W·x + R·h + B + P∘c), h = o∘k(c).
    Lstm {
        /// The gate f is 1 − i.
        input_forget: bool,
    },
}

/// The order of the steps.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// From the first to the last.
    Forward,
    /// From the last to the first.
    Reverse,
    /// Both, with weights of their own.
    Bidirectional,
}

/// What the result is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum SequenceOutput {
    /// h of all steps.
    Sequence,
    /// h behind the last step.
    LastHidden,
    /// c behind the last step; LSTM only.
    LastCell,
}

/// Activations of cells, with ONNX's parameters.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum SequenceActivation {
    /// 1 / (1 + e⁻ˣ).
    Sigmoid,
    /// tanh.
    Tanh,
    /// max(x, 0).
    Relu,
    /// alpha·x + beta.
    Affine {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x ≥ 0 ? x : alpha·x.
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// x ≥ alpha ? x : 0.
    ThresholdedRelu {
        /// Threshold.
        alpha: f32,
    },
    /// alpha·tanh(beta·x).
    ScaledTanh {
        /// Factor of the result.
        alpha: f32,
        /// Factor of the operand.
        beta: f32,
    },
    /// min(max(alpha·x + beta, 0), 1).
    HardSigmoid {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x ≥ 0 ? x : alpha·(eˣ − 1).
    Elu {
        /// Scale below zero.
        alpha: f32,
    },
    /// x / (1 + |x|).
    Softsign,
    /// log(1 + eˣ).
    Softplus,
}

/// A cell over sequences. Operands: x (`T × N × inputs`), then, where they are said to be there, h and c
/// before the first step (`D × N × hidden`), with D directions; otherwise these are 0. Results are
/// `T × D × N × hidden` or `D × N × hidden`. With `batch_first`, N is the first axis of all of them.
///
/// Directions come forward first, in weights and results.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sequence {
    /// What a step does.
    pub cell: SequenceCell,
    /// The order of the steps.
    pub direction: Direction,
    /// Elements of h.
    pub hidden: u32,
    /// What the result is.
    pub output: SequenceOutput,
    /// W, `D × gates·hidden × inputs`.
    pub input_weights: WeightId,
    /// R, `D × gates·hidden × hidden`.
    pub hidden_weights: WeightId,
    /// B, `D × 2·gates·hidden`: those of W, then those of R.
    pub bias: Option<WeightId>,
    /// P, `D × 3·hidden`, of the gates i, o, f; LSTM only.
    pub peepholes: Option<WeightId>,
    /// What activations are applied to is between −clip and clip.
    pub clip: Option<f32>,
    /// f of an RNN, f and g of a GRU, f, g and k of an LSTM, for each direction.
    pub activations: Vec<SequenceActivation>,
    /// h before the first step is an operand.
    pub initial_hidden: bool,
    /// So is c; LSTM only.
    pub initial_cell: bool,
    /// Axis 0 is the batch.
    pub batch_first: bool,
}

thread_local! {
    /// State and gates. Kept from run to run, so that only the first runs of a thread allocate.
    static SCRATCH: RefCell<Vec<f64>> = RefCell::default();
}

impl SequenceActivation {
    fn apply(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Relu => x.max(0.0),
            Self::Affine { alpha, beta } => f64::from(alpha) * x + f64::from(beta),
            Self::LeakyRelu { .. } if x >= 0.0 => x,
            Self::LeakyRelu { alpha } => f64::from(alpha) * x,
            Self::ThresholdedRelu { alpha } if x >= f64::from(alpha) => x,
            Self::ThresholdedRelu { .. } => 0.0,
            Self::ScaledTanh { alpha, beta } => f64::from(alpha) * (f64::from(beta) * x).tanh(),
            Self::HardSigmoid { alpha, beta } => {
                clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0)
            }
            Self::Elu { alpha } => elu(x, alpha.into()),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Softplus => softplus(x),
        }
    }
}

impl SequenceCell {
    fn gates(self) -> u32 {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 3,
            Self::Lstm { .. } => 4,
        }
    }

    fn activations(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru { .. } => 2,
            Self::Lstm { .. } => 3,
        }
    }

    fn is_lstm(self) -> bool {
        matches!(self, Self::Lstm { .. })
    }
}

impl Sequence {
    /// See [`Op::name`](super::Op::name).
    pub(super) fn name(&self) -> &'static str {
        match self.cell {
            SequenceCell::Rnn => "RNN",
            SequenceCell::Gru { .. } => "GRU",
            SequenceCell::Lstm { .. } => "LSTM",
        }
    }

    /// Weights in their order.
    pub(super) fn weights_mut(&mut self) -> Vec<&mut WeightId> {
        let mut ids = vec![&mut self.input_weights, &mut self.hidden_weights];
        ids.extend(&mut self.bias);
        ids.extend(&mut self.peepholes);
        ids
    }

    fn directions(&self) -> u32 {
        match self.direction {
            Direction::Forward | Direction::Reverse => 1,
            Direction::Bidirectional => 2,
        }
    }

    /// Steps, sequences and elements of the first operand.
    fn sizes(&self, x: &Shape) -> [u32; 3] {
        let [first, second, inputs] = [0, 1, 2].map(|axis| x.dim(axis));
        match self.batch_first {
            true => [second, first, inputs],
            false => [first, second, inputs],
        }
    }

    fn state_dims(&self, n: u32) -> [u32; 3] {
        match self.batch_first {
            true => [n, self.directions(), self.hidden],
            false => [self.directions(), n, self.hidden],
        }
    }

    fn check(&self) -> Result<()> {
        let fault = |field: &str, found: String, expected: &str| {
            Err(Error::new(found).field(field).expected(expected))
        };
        operands::positive(self.hidden, "hidden")?;
        if self.hidden > u32::MAX / 8 {
            return fault("hidden", self.hidden.to_string(), "a size that fits");
        }
        let cells = [
            ("peepholes", self.peepholes.is_some()),
            ("initial_cell", self.initial_cell),
            ("output", self.output == SequenceOutput::LastCell),
        ];
        if let Some((field, _)) = cells.iter().find(|(_, used)| *used && !self.cell.is_lstm()) {
            return fault(field, self.name().to_owned(), "an LSTM, which has a cell");
        }
        let expected = self.cell.activations() * self.directions() as usize;
        if self.activations.len() != expected {
            let found = format!("{} activations", self.activations.len());
            return fault("activations", found, &expected.to_string());
        }
        if self.clip.is_some_and(|clip| clip.is_nan() || clip < 0.0) {
            return fault("clip", format!("{:?}", self.clip), "0 or more");
        }
        Ok(())
    }

    fn check_weights(&self, inputs: u32, weights: &Weights) -> Result<()> {
        let (d, hidden) = (self.directions(), self.hidden);
        let rows = self.cell.gates() * hidden;
        let dims = |id, blob, dims: &[u32]| operands::weight_dims(weights, id, blob, dims);
        dims(self.input_weights, 0, &[d, rows, inputs])?;
        dims(self.hidden_weights, 1, &[d, rows, hidden])?;
        if let Some(bias) = self.bias {
            dims(bias, 2, &[d, 2 * rows])?;
        }
        let blob = 2 + usize::from(self.bias.is_some());
        self.peepholes
            .map_or(Ok(()), |id| dims(id, blob, &[d, 3 * hidden]))
    }

    /// What direction `d` knows of operands and weights.
    fn side<'a>(&'a self, d: usize, inputs: &Inputs<'a>, weights: &'a Weights) -> Side<'a> {
        let part = |data: &'a [f32]| {
            let count = data.len() / self.directions() as usize;
            &data[d * count..][..count]
        };
        let weight = |id: WeightId| part(weights[id.0 as usize].data());
        let activations = self.cell.activations();
        let bias = self.bias.map(weight).unwrap_or_default();
        let (input_bias, hidden_bias) = bias.split_at(bias.len() / 2);
        let [_, n, _] = self.sizes(inputs[0].shape);
        let states = [self.initial_hidden, self.initial_cell];
        let mut operand = 1;
        let initial = states.map(|given| {
            given.then(|| {
                operand += 1;
                inputs[operand - 1].data
            })
        });
        Side {
            op: self,
            d,
            n: n as usize,
            hidden: self.hidden as usize,
            input_weights: weight(self.input_weights),
            hidden_weights: weight(self.hidden_weights),
            input_bias,
            hidden_bias,
            peepholes: self.peepholes.map(weight).unwrap_or_default(),
            activations: &self.activations[d * activations..][..activations],
            initial,
        }
    }
}

/// One direction.
struct Side<'a> {
    op: &'a Sequence,
    d: usize,
    n: usize,
    hidden: usize,
    input_weights: &'a [f32],
    hidden_weights: &'a [f32],
    input_bias: &'a [f32],
    hidden_bias: &'a [f32],
    peepholes: &'a [f32],
    activations: &'a [SequenceActivation],
    /// h and c before the first step.
    initial: [Option<&'a [f32]>; 2],
}

/// State and intermediate results of a sequence.
struct State<'a> {
    h: &'a mut [f64],
    c: &'a mut [f64],
    /// W·x with its bias, of all gates.
    x: &'a mut [f64],
    /// R·h with its bias, of all gates.
    r: &'a mut [f64],
}

fn dot(row: &[f32], x: impl Iterator<Item = f64>) -> f64 {
    row.iter().zip(x).map(|(&w, x)| f64::from(w) * x).sum()
}

/// Element `index`, 0 of an array that is not there.
fn at(data: &[f32], index: usize) -> f64 {
    data.get(index).map_or(0.0, |&x| x.into())
}

impl Side<'_> {
    /// Where the state of sequence `n` begins in an operand or result.
    fn state_at(&self, n: usize) -> usize {
        let directions = self.op.directions() as usize;
        let row = match self.op.batch_first {
            true => n * directions + self.d,
            false => self.d * self.n + n,
        };
        row * self.hidden
    }

    /// Activation `index` of a number that is clipped.
    fn activation(&self, index: usize, x: f64) -> f64 {
        let x = self
            .op
            .clip
            .map_or(x, |limit| clip(x, -f64::from(limit), limit.into()));
        self.activations[index].apply(x)
    }

    fn begin(&self, n: usize, state: &mut State<'_>) {
        let states = [&mut *state.h, &mut *state.c];
        for (to, from) in states.into_iter().zip(self.initial) {
            for (j, to) in to.iter_mut().enumerate() {
                *to = from.map_or(0.0, |from| from[self.state_at(n) + j].into());
            }
        }
    }

    /// One step.
    fn step(&self, x: &[f32], state: &mut State<'_>) {
        let State { h, c, x: from_x, r } = state;
        for row in 0..from_x.len() {
            let weights = &self.input_weights[row * x.len()..][..x.len()];
            from_x[row] = dot(weights, x.iter().map(|&x| x.into())) + at(self.input_bias, row);
            let weights = &self.hidden_weights[row * self.hidden..][..self.hidden];
            r[row] = dot(weights, h.iter().copied()) + at(self.hidden_bias, row);
        }
        match self.op.cell {
            SequenceCell::Rnn => {
                for (j, h) in h.iter_mut().enumerate() {
                    *h = self.activation(0, from_x[j] + r[j]);
                }
            }
            SequenceCell::Gru {
                linear_before_reset,
            } => self.gru(linear_before_reset, h, from_x, r),
            SequenceCell::Lstm { input_forget } => {
                for j in 0..self.hidden {
                    let gate = |gate: usize| {
                        let row = gate * self.hidden + j;
                        from_x[row] + r[row]
                    };
                    let gates = [gate(0), gate(1), gate(2), gate(3)];
                    [h[j], c[j]] = self.lstm(input_forget, j, gates, c[j]);
                }
            }
        }
    }

    fn gru(&self, linear_before_reset: bool, h: &mut [f64], x: &mut [f64], r: &mut [f64]) {
        let hidden = self.hidden;
        for row in 0..2 * hidden {
            x[row] = self.activation(0, x[row] + r[row]);
        }
        let (gates, new) = x.split_at_mut(2 * hidden);
        let (z, reset) = gates.split_at(hidden);
        for (j, new) in new.iter_mut().enumerate() {
            let row = 2 * hidden + j;
            let from_h = if linear_before_reset {
                reset[j] * r[row]
            } else {
                let weights = &self.hidden_weights[row * hidden..][..hidden];
                let h = h.iter().zip(reset).map(|(h, reset)| h * reset);
                dot(weights, h) + at(self.hidden_bias, row)
            };
            *new = self.activation(1, *new + from_h);
        }
        for (j, h) in h.iter_mut().enumerate() {
            *h = (1.0 - z[j]) * new[j] + z[j] * *h;
        }
    }

    /// h and c.
    fn lstm(&self, coupled: bool, j: usize, [i, o, f, c]: [f64; 4], before: f64) -> [f64; 2] {
        let peephole = |gate: usize| at(self.peepholes, gate * self.hidden + j);
        let i = self.activation(0, i + peephole(0) * before);
        let f = match coupled {
            true => 1.0 - i,
            false => self.activation(0, f + peephole(2) * before),
        };
        let cell = f * before + i * self.activation(1, c);
        let o = self.activation(0, o + peephole(1) * cell);
        [o * self.activation(2, cell), cell]
    }

    /// Runs sequence `n`, and writes what is asked for.
    fn run(&self, n: usize, x: &Inputs, state: &mut State<'_>, output: &mut [f32]) {
        let [steps, _, inputs] = self.op.sizes(x[0].shape).map(|size| size as usize);
        let backwards = self.d == 1 || self.op.direction == Direction::Reverse;
        self.begin(n, state);
        for t in 0..steps {
            let t = if backwards { steps - 1 - t } else { t };
            let row = match self.op.batch_first {
                true => n * steps + t,
                false => t * self.n + n,
            };
            self.step(&x[0].data[row * inputs..][..inputs], state);
            if self.op.output == SequenceOutput::Sequence {
                let directions = self.op.directions() as usize;
                let row = match self.op.batch_first {
                    true => row * directions + self.d,
                    false => (t * directions + self.d) * self.n + n,
                };
                round(state.h, &mut output[row * self.hidden..]);
            }
        }
        let last = match self.op.output {
            SequenceOutput::Sequence => return,
            SequenceOutput::LastHidden => &*state.h,
            SequenceOutput::LastCell => &*state.c,
        };
        round(last, &mut output[self.state_at(n)..]);
    }
}

/// The numbers as `f32`.
fn round(from: &[f64], to: &mut [f32]) {
    to.iter_mut()
        .zip(from)
        .for_each(|(to, &from)| *to = from as f32);
}

impl Operation for Sequence {
    fn infer_shape(&self, inputs: &[&Shape], weights: &Weights) -> Result<Shape> {
        self.check()?;
        let expected = 1 + usize::from(self.initial_hidden) + usize::from(self.initial_cell);
        if inputs.len() != expected {
            return Err(operands::wrong_number(inputs.len(), &expected.to_string()));
        }
        operands::rank(inputs[0], 0, 3)?;
        let [steps, n, elements] = self.sizes(inputs[0]);
        let state = self.state_dims(n);
        for (index, initial) in inputs.iter().enumerate().skip(1) {
            operands::dims(initial, index, &state)?;
        }
        self.check_weights(elements, weights)?;
        let (d, hidden) = (self.directions(), self.hidden);
        match (self.output, self.batch_first) {
            (SequenceOutput::Sequence, true) => Shape::new([n, steps, d, hidden]),
            (SequenceOutput::Sequence, false) => Shape::new([steps, d, n, hidden]),
            _ => Shape::new(state),
        }
    }

    fn evaluate(&self, inputs: &Inputs, weights: &Weights, _shape: &Shape, output: &mut [f32]) {
        let hidden = self.hidden as usize;
        let rows = self.cell.gates() as usize * hidden;
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.resize(2 * (hidden + rows), 0.0);
            let (states, gates) = scratch.split_at_mut(2 * hidden);
            let (h, c) = states.split_at_mut(hidden);
            let (x, r) = gates.split_at_mut(rows);
            let mut state = State { h, c, x, r };
            for d in 0..self.directions() as usize {
                let side = self.side(d, inputs, weights);
                (0..side.n).for_each(|n| side.run(n, inputs, &mut state, output));
            }
        });
    }

    fn per_image(&self, _inputs: &[&Shape]) -> bool {
        self.batch_first
    }

    fn macs(&self, inputs: &[&Shape], weights: &Weights, _output: &Shape) -> u64 {
        let count = |id: WeightId| weights[id.0 as usize].shape().count() as u64;
        let [steps, n, _] = self.sizes(inputs[0]).map(u64::from);
        let each = count(self.input_weights) + count(self.hidden_weights);
        (steps * n).saturating_mul(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Tensor, TensorRef, Weight};
    use std::sync::Arc;

    /// Numbers that look random.
    fn numbers(seed: usize, dims: &[u32]) -> Tensor {
        let shape = Shape::new(dims).unwrap();
        let number = |i: usize| ((i * 7 + seed) % 11) as f32 / 8.0 - 0.625;
        let data = (0..shape.count()).map(number).collect();
        Tensor::new(shape, data)
    }

    const ACTIVATIONS: [SequenceActivation; 3] = [
        SequenceActivation::Sigmoid,
        SequenceActivation::Tanh,
        SequenceActivation::Tanh,
    ];

    /// Two sequences of three steps of two elements, with a state of two elements.
    fn sequence(cell: SequenceCell, direction: Direction) -> Sequence {
        let both = if direction == Direction::Bidirectional {
            2
        } else {
            1
        };
        let activations = match cell {
            SequenceCell::Rnn => &ACTIVATIONS[1..2],
            SequenceCell::Gru { .. } => &ACTIVATIONS[..2],
            SequenceCell::Lstm { .. } => &ACTIVATIONS[..],
        };
        Sequence {
            cell,
            direction,
            hidden: 2,
            output: SequenceOutput::Sequence,
            input_weights: WeightId(0),
            hidden_weights: WeightId(1),
            bias: Some(WeightId(2)),
            peepholes: None,
            clip: None,
            activations: activations.repeat(both),
            initial_hidden: false,
            initial_cell: false,
            batch_first: false,
        }
    }

    fn weights(op: &Sequence) -> Vec<Arc<Weight>> {
        let (d, rows) = (op.directions(), op.cell.gates() * op.hidden);
        let dims = [
            &[d, rows, 2][..],
            &[d, rows, op.hidden],
            &[d, 2 * rows],
            &[],
            &[],
            &[d, 3 * op.hidden],
        ];
        let weight = |(index, dims): (usize, &&[u32])| numbers(index + 2, dims).into();
        dims.iter().enumerate().map(weight).collect()
    }

    fn run(op: &Sequence) -> Vec<f32> {
        let mut inputs = vec![numbers(
            1,
            if op.batch_first {
                &[2, 3, 2]
            } else {
                &[3, 2, 2]
            },
        )];
        for (given, seed) in [(op.initial_hidden, 5), (op.initial_cell, 6)] {
            if given {
                inputs.push(numbers(seed, &op.state_dims(2)));
            }
        }
        let (weights, shapes) = (weights(op), inputs.iter().map(Tensor::shape));
        let shape = op
            .infer_shape(&shapes.collect::<Vec<_>>(), &weights)
            .unwrap();
        let mut output = vec![f32::NAN; shape.count()];
        let inputs: Vec<TensorRef<'_>> = inputs.iter().map(Tensor::view).collect();
        op.evaluate(&inputs, &weights, &shape, &mut output);
        output
    }

    #[track_caller]
    fn check(op: &Sequence, expected: &[f32]) {
        let found = run(op);
        let close = found
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 2e-6);
        assert!(close && found.len() == expected.len(), "{found:?}");
    }

    const GRU: SequenceCell = SequenceCell::Gru {
        linear_before_reset: false,
    };
    const LSTM: SequenceCell = SequenceCell::Lstm {
        input_forget: false,
    };

    /// What `onnx.reference` makes of them.
    #[test]
    #[rustfmt::skip]
    fn onnx_gives_the_same() {
        check(&sequence(SequenceCell::Rnn, Direction::Forward), &[0.462117, -0.786619, -0.139705, -0.509830, -0.604949, -0.377596, -0.319053, -0.643296, 0.406044, -0.785289, -0.419675, -0.399997]);
        let op = Sequence { initial_hidden: true, ..sequence(GRU, Direction::Bidirectional) };
        check(&op, &[0.547225, -0.317037, 0.507459, 0.047923, -0.193641, -0.463885, -0.065726, -0.639270, 0.624056, -0.070423, 0.640987, 0.083133, -0.011147, -0.347768, 0.156963, -0.341288, 0.771523, -0.107588, 0.579249, 0.172834, -0.236526, 0.061981, -0.057252, 0.100024]);
        let cell = SequenceCell::Gru { linear_before_reset: true };
        let op = Sequence {
            initial_hidden: true,
            batch_first: true,
            output: SequenceOutput::LastHidden,
            ..sequence(cell, Direction::Reverse)
        };
        check(&op, &[0.668605, -0.025890, 0.651526, 0.066292]);
        let op = Sequence {
            initial_hidden: true,
            initial_cell: true,
            batch_first: true,
            peepholes: Some(WeightId(5)),
            ..sequence(LSTM, Direction::Bidirectional)
        };
        check(&op, &[-0.151052, 0.012170, 0.060902, -0.308501, -0.213374, 0.100951, -0.149567, -0.253697, -0.232400, 0.133505, -0.137026, -0.153179, -0.267223, 0.156578, -0.242064, -0.315420, -0.291146, 0.198468, 0.034513, -0.343087, -0.298795, 0.187688, 0.020906, -0.402247]);
        let op = Sequence {
            initial_cell: true,
            peepholes: Some(WeightId(5)),
            output: SequenceOutput::LastCell,
            ..sequence(LSTM, Direction::Reverse)
        };
        check(&op, &[-0.657373, 0.293819, -0.329416, 0.413405]);
    }

    #[test]
    fn operands_of_activations_are_clipped() {
        let activations = vec![SequenceActivation::Affine {
            alpha: 2.0,
            beta: 1.0,
        }];
        let op = Sequence {
            clip: Some(0.25),
            activations,
            output: SequenceOutput::LastHidden,
            ..sequence(SequenceCell::Rnn, Direction::Forward)
        };
        assert!(run(&op).iter().all(|h| (0.5..=1.5).contains(h)));
        let input_forget = true;
        let coupled = sequence(SequenceCell::Lstm { input_forget }, Direction::Forward);
        assert_ne!(run(&coupled), run(&sequence(LSTM, Direction::Forward)));
    }

    #[test]
    fn activations_have_onnxs_parameters() {
        use SequenceActivation::*;
        let (alpha, beta) = (0.5, 0.25);
        for (activation, x, y) in [
            (Relu, -1.0, 0.0),
            (Affine { alpha, beta }, 2.0, 1.25),
            (LeakyRelu { alpha }, -2.0, -1.0),
            (ThresholdedRelu { alpha }, 0.25, 0.0),
            (ThresholdedRelu { alpha }, 0.5, 0.5),
            (ScaledTanh { alpha, beta }, 4.0, 0.5 * 1f64.tanh()),
            (HardSigmoid { alpha, beta }, 1.0, 0.75),
            (Elu { alpha }, -1.0, 0.5 * (-1f64).exp_m1()),
            (Softsign, -3.0, -0.75),
            (Softplus, 0.0, 2f64.ln()),
        ] {
            assert_eq!(activation.apply(x), y, "{activation:?}");
        }
    }

    #[test]
    fn what_only_an_lstm_has_is_refused_elsewhere() {
        let x = Shape::new([3, 2, 2]).unwrap();
        let gru = || sequence(GRU, Direction::Forward);
        let weights = weights(&gru());
        let refused = |op: Sequence| op.infer_shape(&[&x], &weights).is_err();
        assert!(!refused(gru()));
        assert!(refused(Sequence {
            peepholes: Some(WeightId(5)),
            ..gru()
        }));
        assert!(refused(Sequence {
            output: SequenceOutput::LastCell,
            ..gru()
        }));
        assert!(refused(Sequence {
            hidden: u32::MAX,
            ..gru()
        }));
        assert!(refused(Sequence {
            activations: vec![],
            ..gru()
        }));
    }
}
