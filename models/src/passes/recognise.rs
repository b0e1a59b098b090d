//! Functions that exporters write out of others.

use super::dead;
use super::uses::Uses;
use crate::ops::{Activation, EltwiseOp, PostOps};
use crate::{Graph, Node, Op, ValueId};

/// Writes functions of one operand that several nodes compute as one node:
///
/// * x·σ(x), as Swish; x·hardsigmoid(x) and x·clip(x + 3, 0, 6)/6, as HardSwish,
/// * clip(x + 3, 0, 6)/6, as HardSigmoid,
/// * x·(1 + erf(x/√2))/2, in any order of its factors, as Gelu,
/// * a factor and an offset behind another.
///
/// Values in between must be no outputs and have no other reader. Constants may differ from these in their last
/// bits, as exporters round them.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    // Each finds what the one before it made.
    for rule in [affine_chain, hard_sigmoid, gate, gelu] {
        let uses = Uses::of(&graph);
        // What a rule takes away was read by the node that it writes alone, so that the uses hold for all others.
        for index in 0..graph.nodes.len() {
            let sight = Sight {
                graph: &graph,
                uses: &uses,
            };
            if let Some((op, x)) = rule(&sight, index) {
                let node = &mut graph.nodes[index];
                (node.op, node.inputs) = (Op::Activation(op), vec![x]);
            }
        }
        graph = dead(graph);
    }
    graph
}

/// A graph with its uses.
struct Sight<'a> {
    graph: &'a Graph,
    uses: &'a Uses,
}

/// What a node computes, if a rule knows it: a function of a value.
type Found = Option<(Activation, ValueId)>;

impl<'a> Sight<'a> {
    /// The node that computes a value which `reader` alone reads.
    fn own(&self, id: ValueId, reader: usize) -> Option<(usize, &'a Node)> {
        let index = self.uses.producer(id)?;
        (self.uses.only_reader(id) == Some(reader)).then(|| (index, &self.graph.nodes[index]))
    }

    /// Function and operand of the node that computes a value which `reader` alone reads.
    fn function(&self, id: ValueId, reader: usize) -> Option<(usize, Activation, ValueId)> {
        let (index, node) = self.own(id, reader)?;
        let (op, x) = function(node)?;
        Some((index, op, x))
    }

    /// Both operands of a product.
    fn product(&self, index: usize) -> Option<[ValueId; 2]> {
        product(&self.graph.nodes[index])
    }
}

fn function(node: &Node) -> Found {
    match (&node.op, node.inputs.as_slice()) {
        (Op::Activation(op), &[x]) => Some((*op, x)),
        _ => None,
    }
}

fn product(node: &Node) -> Option<[ValueId; 2]> {
    let (Op::Eltwise(op), &[a, b]) = (&node.op, node.inputs.as_slice()) else {
        return None;
    };
    (op.op == EltwiseOp::Product && op.post == PostOps::default()).then_some([a, b])
}

/// scale·x + shift.
fn affine(op: Activation) -> Option<[f32; 2]> {
    match op {
        Activation::Power {
            power: 1.0,
            scale,
            shift,
        } => Some([scale, shift]),
        _ => None,
    }
}

fn close(found: f32, wanted: f64) -> bool {
    (f64::from(found) - wanted).abs() <= 1e-6 * wanted.abs()
}

/// A factor and an offset, and others behind them.
fn affine_chain(sight: &Sight<'_>, index: usize) -> Found {
    let (op, y) = function(&sight.graph.nodes[index])?;
    let [second, offset] = affine(op)?;
    let (_, before, x) = sight.function(y, index)?;
    let [first, shift] = affine(before)?;
    // Rounding twice and once are not the same, unless one of them is exact.
    if second != 1.0 && (shift != 0.0 || first != 1.0) {
        return None;
    }
    let op = Activation::Power {
        power: 1.0,
        scale: first * second,
        shift: shift + offset,
    };
    (shift == 0.0 || offset == 0.0).then_some((op, x))
}

/// clip(x + 3, 0, 6)/6 with its division, or clip(x + 3, 0, 6) without it.
fn six_steps(sight: &Sight<'_>, clipped: ValueId, reader: usize) -> Option<ValueId> {
    let (at, op, shifted) = sight.function(clipped, reader)?;
    if op != (Activation::Clip { min: 0.0, max: 6.0 }) {
        return None;
    }
    let (_, op, x) = sight.function(shifted, at)?;
    (affine(op)? == [1.0, 3.0]).then_some(x)
}

fn hard_sigmoid(sight: &Sight<'_>, index: usize) -> Found {
    let (op, clipped) = function(&sight.graph.nodes[index])?;
    let [scale, shift] = affine(op)?;
    let x = six_steps(sight, clipped, index)?;
    let op = Activation::HardSigmoid {
        alpha: 1.0 / 6.0,
        beta: 0.5,
    };
    (close(scale, 1.0 / 6.0) && shift == 0.0).then_some((op, x))
}

/// A value times a function of it.
fn gate(sight: &Sight<'_>, index: usize) -> Found {
    if let Some([a, b]) = sight.product(index) {
        for (x, gate) in [(a, b), (b, a)] {
            let found = match sight.function(gate, index) {
                Some((_, Activation::Sigmoid, of)) if of == x => Activation::Swish { beta: 1.0 },
                Some((_, Activation::HardSigmoid { alpha, beta: 0.5 }, of))
                    if of == x && close(alpha, 1.0 / 6.0) =>
                {
                    Activation::HardSwish
                }
                _ => continue,
            };
            return Some((found, x));
        }
    }
    // x·clip(x + 3, 0, 6), then a sixth of it.
    let (op, y) = function(&sight.graph.nodes[index])?;
    let [scale, shift] = affine(op)?;
    let (at, node) = sight.own(y, index)?;
    let [a, b] = product(node)?;
    let (x, clipped) = match six_steps(sight, a, at) {
        Some(x) if x == b => (x, a),
        _ => (a, b),
    };
    let matches = six_steps(sight, clipped, at) == Some(x);
    (matches && close(scale, 1.0 / 6.0) && shift == 0.0).then_some((Activation::HardSwish, x))
}

/// x, (1 + erf(x/√2)) and ½ multiplied.
fn gelu(sight: &Sight<'_>, index: usize) -> Found {
    let gelu = Activation::Gelu { tanh: false };
    // ½·(x·(1 + erf)).
    if let Some((op, y)) = function(&sight.graph.nodes[index])
        && affine(op)? == [0.5, 0.0]
    {
        let (at, node) = sight.own(y, index)?;
        let [a, b] = product(node)?;
        let found = [(a, b), (b, a)]
            .into_iter()
            .find(|&(x, gate)| erf_gate(sight, gate, at) == Some(x));
        return found.map(|(x, _)| (gelu, x));
    }
    let [a, b] = sight.product(index)?;
    for (left, right) in [(a, b), (b, a)] {
        // (½·x)·(1 + erf).
        if let Some((_, op, x)) = sight.function(left, index)
            && affine(op) == Some([0.5, 0.0])
            && erf_gate(sight, right, index) == Some(x)
        {
            return Some((gelu, x));
        }
        // x·(½·(1 + erf)), of which the half may have become ½ + ½·erf.
        if let Some((at, op, of)) = sight.function(right, index)
            && affine(op) == Some([0.5, 0.0])
            && erf_gate(sight, of, at) == Some(left)
        {
            return Some((gelu, left));
        }
    }
    None
}

/// x of 1 + erf(x/√2).
fn erf_gate(sight: &Sight<'_>, id: ValueId, reader: usize) -> Option<ValueId> {
    let (at, op, erf) = sight.function(id, reader)?;
    if affine(op)? != [1.0, 1.0] {
        return None;
    }
    let (at, op, scaled) = sight.function(erf, at)?;
    if op != Activation::Erf {
        return None;
    }
    let (_, op, x) = sight.function(scaled, at)?;
    let [scale, shift] = affine(op)?;
    (close(scale, std::f64::consts::FRAC_1_SQRT_2) && shift == 0.0).then_some(x)
}
