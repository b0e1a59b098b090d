//! RNN, GRU and LSTM.

use super::build::Known;
use super::node::{Node, field, floats};
use skimjit_models::ops::{Direction, Sequence, SequenceActivation, SequenceCell, SequenceOutput};
use skimjit_models::{Error, Op, Result, ValueId, Weight, WeightId};
use std::sync::Arc;

fn direction(node: &Node<'_>) -> Result<Direction> {
    node.attributes.choice(
        "direction",
        &[
            ("forward", Direction::Forward),
            ("reverse", Direction::Reverse),
            ("bidirectional", Direction::Bidirectional),
        ],
    )
}

/// The functions of all directions, with their parameters.
fn activations(
    node: &Node<'_>,
    usual: &[&str],
    directions: usize,
) -> Result<Vec<SequenceActivation>> {
    let usual = || {
        usual
            .iter()
            .copied()
            .cycle()
            .take(usual.len() * directions)
            .collect()
    };
    let names: Vec<&str> = node.attributes.texts("activations")?.unwrap_or_else(usual);
    let mut alphas = node
        .attributes
        .floats("activation_alpha")?
        .unwrap_or_default()
        .iter()
        .copied();
    let mut betas = node
        .attributes
        .floats("activation_beta")?
        .unwrap_or_default()
        .iter()
        .copied();
    let function = |name: &&str| {
        let mut parameter = |default: f32| alphas.next().unwrap_or(default);
        let mut second = |default: f32| betas.next().unwrap_or(default);
        Ok(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => SequenceActivation::Sigmoid,
            "tanh" => SequenceActivation::Tanh,
            "relu" => SequenceActivation::Relu,
            "softsign" => SequenceActivation::Softsign,
            "softplus" => SequenceActivation::Softplus,
            "affine" => SequenceActivation::Affine {
                alpha: parameter(1.0),
                beta: second(0.0),
            },
            "leakyrelu" => SequenceActivation::LeakyRelu {
                alpha: parameter(0.01),
            },
            "thresholdedrelu" => SequenceActivation::ThresholdedRelu {
                alpha: parameter(1.0),
            },
            "scaledtanh" => SequenceActivation::ScaledTanh {
                alpha: parameter(1.0),
                beta: second(1.0),
            },
            "hardsigmoid" => SequenceActivation::HardSigmoid {
                alpha: parameter(0.2),
                beta: second(0.5),
            },
            "elu" => SequenceActivation::Elu {
                alpha: parameter(1.0),
            },
            _ => {
                return Err(Error::new(format!("{name:?}"))
                    .field("activations")
                    .expected("functions of the operator's documentation"));
            }
        })
    };
    names.iter().map(function).collect()
}

/// Weights of operand `index`, where there is one.
fn optional(node: &mut Node<'_>, index: usize) -> Result<Option<WeightId>> {
    match node.has(index) {
        true => node.weight_id(index).map(Some),
        false => Ok(None),
    }
}

fn layer(
    node: &mut Node<'_>,
    cell: SequenceCell,
    usual: &[&str],
    outputs: &[SequenceOutput],
) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let direction = direction(node)?;
    let directions = if direction == Direction::Bidirectional {
        2
    } else {
        1
    };
    let weights = node.weights(1)?;
    let hidden = match node.attributes.int("hidden_size")? {
        Some(hidden) => u32::try_from(hidden).unwrap_or(0),
        None => node.weights(2)?.shape().dim(2),
    };
    if node.has(4) {
        whole_sequences(node, x)?;
    }
    let is_lstm = matches!(cell, SequenceCell::Lstm { .. });
    let batch_first = node.attributes.flag("layout", false)?;
    let batch = node.shape(x).dim(if batch_first { 0 } else { 1 });
    let states = match batch_first {
        true => [batch, directions as u32, hidden],
        false => [directions as u32, batch, hidden],
    };
    let (hidden_state, cell_state) = (state(node, 5, states)?, state(node, 6, states)?);
    let inputs: Vec<ValueId> = [Some(x), hidden_state, cell_state]
        .into_iter()
        .flatten()
        .collect();
    let clip = match node.attributes.has("clip") {
        true => Some(node.attributes.float("clip", 0.0)?),
        false => None,
    };
    let sequence = Sequence {
        cell,
        direction,
        hidden,
        output: SequenceOutput::Sequence,
        input_weights: node.build.weight(&Arc::clone(&weights)),
        hidden_weights: node.weight_id(2)?,
        bias: optional(node, 3)?,
        peepholes: if is_lstm { optional(node, 7)? } else { None },
        clip,
        activations: activations(node, usual, directions)?,
        initial_hidden: hidden_state.is_some(),
        initial_cell: is_lstm && cell_state.is_some(),
        batch_first,
    };
    let mut results = Vec::new();
    for &output in outputs.iter().take(node.outputs.max(1)) {
        let op = Op::Sequence(Sequence {
            output,
            ..sequence.clone()
        });
        results.extend(floats(node.add(op, &inputs)?));
    }
    Ok(results)
}

/// Operand `index`, a state to begin with; none where it is the zeros that it is without one. Exporters write these, for
/// the batch that they saw or made of the operand's shape: as an operand of the graph they would be for one batch only.
fn state(node: &mut Node<'_>, index: usize, dims: [u32; 3]) -> Result<Option<ValueId>> {
    let is_zeros = match node.input(index) {
        None => true,
        Some(Known::Value(_)) => false,
        Some(Known::Constant(state)) => {
            let zeros = |state: &Arc<Weight>| state.data().iter().all(|&value| value == 0.0);
            state.dims.iter().copied().eq(dims.map(|dim| dim as usize))
                && state.as_weight().is_some_and(zeros)
        }
    };
    match is_zeros {
        true => Ok(None),
        false => node.float(index).map(Some),
    }
}

/// Lengths of the sequences must be that of the longest.
fn whole_sequences(node: &mut Node<'_>, x: ValueId) -> Result<()> {
    let ints = node.ints(4)?;
    let lengths = node.numbers(&ints);
    let axis = if node.attributes.flag("layout", false)? {
        1
    } else {
        0
    };
    let length = i64::from(node.shape(x).dim(axis));
    match lengths.iter().all(|&one| one == length) {
        true => Ok(()),
        false => Err(Error::new(format!("lengths {lengths:?}"))
            .field(field(4))
            .expected(format!("{length}, whole sequences"))),
    }
}

const OUTPUTS: [SequenceOutput; 3] = [
    SequenceOutput::Sequence,
    SequenceOutput::LastHidden,
    SequenceOutput::LastCell,
];

pub(super) fn rnn(node: &mut Node<'_>) -> Result<Vec<Known>> {
    layer(node, SequenceCell::Rnn, &["Tanh"], &OUTPUTS[..2])
}

pub(super) fn gru(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let linear_before_reset = node.attributes.flag("linear_before_reset", false)?;
    let cell = SequenceCell::Gru {
        linear_before_reset,
    };
    layer(node, cell, &["Sigmoid", "Tanh"], &OUTPUTS[..2])
}

pub(super) fn lstm(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let input_forget = node.attributes.flag("input_forget", false)?;
    let cell = SequenceCell::Lstm { input_forget };
    layer(node, cell, &["Sigmoid", "Tanh", "Tanh"], &OUTPUTS)
}
