//! LSTM, RNN, LSTMUnit.

use super::layer::{Layer, param};
use super::store::Wanted;
use skimjit_models::ops::{Cell, LstmUnit, Recurrent, Slice};
use skimjit_models::{Op, Result, Shape, ValueId};

/// LSTM: x, cont, then x_static if there is one, then h and c if they are exposed.
pub(super) fn lstm(layer: &mut Layer<'_>) -> Result<()> {
    let bottoms = Bottoms::read(layer, 2)?;
    let ids = layer.weights(&bottoms.wanted(layer, 4)?)?;
    let (cell, static_weights) = (Cell::Lstm, bottoms.has_static.then(|| ids[2]));
    let op = Recurrent {
        outputs: bottoms.outputs,
        cell,
        initial: bottoms.exposed,
        input_weights: ids[0],
        input_bias: ids[1],
        static_weights,
        hidden_weights: ids[ids.len() - 1],
    };
    let all = bottoms.add(layer, op)?;
    // The last h is the last step's result; the last c lies behind the steps.
    let steps = bottoms.steps;
    bottoms.expose(layer, all, &[steps - 1, steps])
}

/// RNN: x, cont, then x_static if there is one, then h if it is exposed.
pub(super) fn rnn(layer: &mut Layer<'_>) -> Result<()> {
    let bottoms = Bottoms::read(layer, 1)?;
    let mut wanted = bottoms.wanted(layer, 1)?;
    let p = param(&layer.def.recurrent_param);
    let square = layer.checked_shape("recurrent_param.num_output", vec![bottoms.outputs; 2])?;
    wanted.push(Wanted::new(square, p.weight_filler));
    wanted.push(Wanted::new(Shape::new([bottoms.outputs])?, p.bias_filler));
    let ids = layer.weights(&wanted)?;
    let (first, [hidden, weights, bias]) = match *ids.as_slice() {
        [ref first @ .., hidden, weights, bias] => (first, [hidden, weights, bias]),
        _ => unreachable!("as many ids as wanted weights"),
    };
    let op = Recurrent {
        outputs: bottoms.outputs,
        cell: Cell::Rnn { weights, bias },
        initial: bottoms.exposed,
        input_weights: first[0],
        input_bias: first[1],
        static_weights: first.get(2).copied(),
        hidden_weights: hidden,
    };
    let all = bottoms.add(layer, op)?;
    bottoms.expose(layer, all, &[bottoms.steps])
}

/// What LSTM and RNN have in common.
struct Bottoms {
    outputs: u32,
    steps: u32,
    exposed: bool,
    has_static: bool,
}

impl Bottoms {
    /// Checks the numbers of bottoms and tops of a layer with `states` states.
    fn read(layer: &Layer<'_>, states: usize) -> Result<Self> {
        let p = param(&layer.def.recurrent_param);
        let outputs = layer.positive("recurrent_param.num_output", Some(p.num_output()))?;
        let exposed = p.expose_hidden();
        let states = if exposed { states } else { 0 };
        let bottoms = layer.inputs.len();
        if bottoms != 2 + states && bottoms != 3 + states {
            return Err(layer
                .fault("bottom", format!("{bottoms} bottoms"))
                .expected(format!(
                    "{} or {}: x, cont, a static one or none{}",
                    2 + states,
                    3 + states,
                    if exposed { ", the exposed state" } else { "" }
                )));
        }
        if layer.tops() != 1 + states {
            return Err(layer
                .fault("top", format!("{} tops", layer.tops()))
                .expected(format!("{}", 1 + states))
                .hint("the states are tops with recurrent_param.expose_hidden"));
        }
        let x = layer.shape(0);
        if x.rank() < 3 {
            return Err(layer
                .fault("bottom[0]", format!("shape {x}"))
                .expected("3 axes or more: steps, sequences, elements"));
        }
        let has_static = bottoms == 3 + states;
        let (exposed, steps) = (exposed && states > 0, x.dim(0));
        Ok(Self {
            outputs,
            steps,
            exposed,
            has_static,
        })
    }

    /// W_x, b, W_static if there is one, W_h, of gates for each output.
    fn wanted(&self, layer: &Layer<'_>, gates: u32) -> Result<Vec<Wanted>> {
        let p = param(&layer.def.recurrent_param);
        let field = "recurrent_param.num_output";
        let gates = self.outputs.checked_mul(gates).ok_or_else(|| {
            layer
                .fault(field, self.outputs.to_string())
                .expected(format!("at most {}", u32::MAX / gates))
        })?;
        // These fit: a checked shape has at most 2³¹ elements.
        let summed = |shape: Shape, axis: usize| shape.count_of(axis, shape.rank()) as u32;
        let mut columns = vec![summed(layer.shape(0), 2)];
        if self.has_static {
            let fixed = layer.shape(2);
            if fixed.rank() < 2 {
                return Err(layer
                    .fault("bottom[2]", format!("shape {fixed}"))
                    .expected("2 axes or more: sequences, elements"));
            }
            columns.push(summed(fixed, 1));
        }
        columns.push(self.outputs);
        let mut wanted = Vec::new();
        for columns in columns {
            let shape = layer.checked_shape(field, vec![gates, columns])?;
            wanted.push(Wanted::new(shape, p.weight_filler.clone()));
        }
        wanted.insert(1, Wanted::new(Shape::new([gates])?, p.bias_filler));
        Ok(wanted)
    }

    /// The node of all steps and the last state, and the results of the steps as first top.
    fn add(&self, layer: &mut Layer<'_>, op: Recurrent) -> Result<ValueId> {
        if !self.exposed {
            layer.warn(
                "the state is zero before the first step of every run, Caffe goes on from the last \
                 forward pass (no difference where cont starts with 0; expose_hidden carries it over)",
            );
        }
        let inputs = layer.inputs.clone();
        let all = layer.hidden("steps", Op::Recurrent(op), inputs)?;
        layer.top(0, part(0, self.steps), vec![all])?;
        Ok(all)
    }

    /// Rows of `all` as second top and so on, if the layer exposes its state.
    fn expose(&self, layer: &mut Layer<'_>, all: ValueId, rows: &[u32]) -> Result<()> {
        for (index, &row) in rows.iter().enumerate().filter(|_| self.exposed) {
            layer.top(1 + index, part(row, row + 1), vec![all])?;
        }
        Ok(())
    }
}

/// Steps `begin..end`.
fn part(begin: u32, end: u32) -> Op {
    Op::Slice(Slice {
        axis: 0,
        begin,
        end,
    })
}

/// LSTMUnit: c and h of one step.
pub(super) fn lstm_unit(layer: &mut Layer<'_>) -> Result<()> {
    for (top, hidden) in [false, true].into_iter().enumerate() {
        let inputs = layer.inputs.clone();
        layer.top(top, Op::LstmUnit(LstmUnit { hidden }), inputs)?;
    }
    Ok(())
}
