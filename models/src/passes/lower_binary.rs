//! Functions of two operands as layers that have kernels, and that other passes know.

use super::dead;
use crate::ops::{Activation, Binary, BinaryOp, Eltwise, EltwiseOp, PostOps, Scale};
use crate::{Graph, Op, Shape, Tensor, ValueId, WeightId};
use std::collections::HashMap;

/// Replaces a function of two operands
///
/// * of one shape by an elementwise combination: sums behind convolutions are fused into them;
/// * of which one is a constant number by a Power or a Clip;
/// * of which one is a constant along some axes by a Scale, which is folded into the layer before where it can be.
///   A Scale says nothing of the batch: constants of which axis 0 is no batch would couple its images.
#[must_use]
pub fn run(mut graph: Graph) -> Graph {
    let mut constants = HashMap::new();
    for node in &graph.nodes {
        if let Op::Constant(id) = node.op {
            constants.insert(node.output, id);
        }
    }
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Binary(op), &[a, b]) = (&node.op, &node.inputs[..]) else {
            continue;
        };
        if op.post != PostOps::default() {
            continue;
        }
        let (op, result) = (op.clone(), graph.shape(node.output).clone());
        let whole = |id| *graph.shape(id) == result;
        let lowered = match [a, b].map(|id| constants.get(&id).copied()) {
            [None, None] if whole(a) && whole(b) => combination(&op).map(|op| (op, vec![a, b])),
            [None, Some(id)] if whole(a) => {
                with_constant(&mut graph, op.op, &result, id, false).map(|op| (op, vec![a]))
            }
            [Some(id), None] if whole(b) => {
                with_constant(&mut graph, op.op, &result, id, true).map(|op| (op, vec![b]))
            }
            _ => None,
        };
        if let Some((op, inputs)) = lowered {
            set(&mut graph, index, op, inputs);
        }
    }
    dead(graph)
}

fn set(graph: &mut Graph, index: usize, op: Op, inputs: Vec<ValueId>) {
    let node = &mut graph.nodes[index];
    (node.op, node.inputs) = (op, inputs);
}

fn combination(op: &Binary) -> Option<Op> {
    let sum = |second| EltwiseOp::Sum {
        coefficients: vec![1.0, second],
    };
    let combined = match op.op {
        BinaryOp::Add => sum(1.0),
        BinaryOp::Sub => sum(-1.0),
        BinaryOp::Mul => EltwiseOp::Product,
        _ => return None,
    };
    Some(Op::Eltwise(Eltwise {
        op: combined,
        post: PostOps::default(),
    }))
}

/// `f(x, constant)`, or with `first` `f(constant, x)`, for an x of the result's shape.
fn with_constant(
    graph: &mut Graph,
    op: BinaryOp,
    result: &Shape,
    id: WeightId,
    first: bool,
) -> Option<Op> {
    let constant = graph.weight(id);
    if !constant.stored().iter().all(|value| value.is_finite()) {
        return None;
    }
    if constant.shape().count() == 1 {
        return number(op, constant.data()[0], first).map(Op::Activation);
    }
    let (axis, dims) = span(constant.shape(), result)?;
    let shape = Shape::new(dims).ok()?;
    let mut made = |of: &dyn Fn(f32) -> f32| {
        let data: Vec<f32> = graph.weight(id).data().iter().map(|&x| of(x)).collect();
        let finite = data.iter().all(|value| value.is_finite());
        finite.then(|| graph.add_weight(Tensor::new(shape.clone(), data)))
    };
    let (scale, bias) = match (op, first) {
        (BinaryOp::Add, _) => (None, Some(made(&|x| x)?)),
        (BinaryOp::Sub, false) => (None, Some(made(&|x| -x)?)),
        (BinaryOp::Sub, true) => (Some(made(&|_| -1.0)?), Some(made(&|x| x)?)),
        (BinaryOp::Mul, _) => (Some(made(&|x| x)?), None),
        (BinaryOp::Div, false) => (Some(made(&f32::recip)?), None),
        _ => return None,
    };
    Some(Op::Scale(Scale {
        axis,
        scale,
        bias,
        add_operand: false,
    }))
}

/// The same for a constant of one element.
fn number(op: BinaryOp, constant: f32, first: bool) -> Option<Activation> {
    let power = |power, scale, shift| Activation::Power {
        power,
        scale,
        shift,
    };
    let clip = |min, max| Activation::Clip { min, max };
    let made = match (op, first) {
        (BinaryOp::Add, _) => power(1.0, 1.0, constant),
        (BinaryOp::Sub, false) => power(1.0, 1.0, -constant),
        (BinaryOp::Sub, true) => power(1.0, -1.0, constant),
        (BinaryOp::Mul, _) => power(1.0, constant, 0.0),
        (BinaryOp::Div, false) if constant.recip().is_finite() => power(1.0, constant.recip(), 0.0),
        (BinaryOp::Div, true) if constant.recip().is_finite() => power(-1.0, constant.recip(), 0.0),
        (BinaryOp::Pow, false) => power(constant, 1.0, 0.0),
        (BinaryOp::Max, _) => clip(constant, f32::INFINITY),
        (BinaryOp::Min, _) => clip(f32::NEG_INFINITY, constant),
        _ => return None,
    };
    Some(made)
}

/// The axes of the result along which a constant that is broadcast has elements, if they follow each other and
/// are behind the batch: the first, and their dims.
fn span(constant: &Shape, result: &Shape) -> Option<(u32, Vec<u32>)> {
    let before = result.rank() - constant.rank();
    let dim = |axis: usize| match axis.checked_sub(before) {
        Some(axis) => constant.dim(axis),
        None => 1,
    };
    let mut axes = (0..result.rank()).filter(|&axis| dim(axis) > 1);
    let first = axes.next()?;
    let last = axes.next_back().unwrap_or(first);
    let same = (first..=last).all(|axis| dim(axis) == result.dim(axis));
    (first > 0 && same).then(|| (first as u32, result.dims()[first..=last].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter;

    /// f(data, second) and, where that can be, f(second, data), before and after.
    #[track_caller]
    fn check(op: BinaryOp, second: &[u32], names: [&str; 2]) {
        for (swapped, name) in [false, true].into_iter().zip(names) {
            let mut graph = Graph::default();
            let shape = Shape::new([2, 3, 2]).unwrap();
            let data = graph.add_value("data", shape.clone());
            graph.inputs = vec![data];
            let dims = Shape::new(second).unwrap();
            let values = (0..dims.count()).map(|i| i as f32 / 2.0 + 1.5).collect();
            let constant = graph.add_weight(Tensor::new(dims, values));
            let constant = graph
                .add_node("c", Op::Constant(constant), vec![], "c")
                .unwrap();
            let inputs = match swapped {
                true => vec![constant, data],
                false => vec![data, constant],
            };
            let post = PostOps::default();
            let op = Op::Binary(Binary { op, post });
            graph.outputs = vec![graph.add_node("f", op, inputs, "f").unwrap()];
            let lowered = run(graph.clone());
            lowered.check().unwrap();
            assert_eq!(lowered.nodes.last().unwrap().op.name(), name);
            let values = (0..shape.count()).map(|i| i as f32 / 4.0 + 0.5).collect();
            let input = [Tensor::new(shape, values)];
            let outputs = |graph| interpreter::run_outputs(graph, &input).unwrap();
            let (before, after) = (outputs(&graph), outputs(&lowered));
            let pairs = before[0].data().iter().zip(after[0].data());
            for (a, b) in pairs {
                assert!((a - b).abs() <= 1e-6 * a.abs(), "{name}: {a} and {b}");
            }
        }
    }

    #[test]
    fn constants_become_attributes_and_weights() {
        use BinaryOp::*;
        for op in [Add, Sub, Mul] {
            check(op, &[], ["Power"; 2]);
            check(op, &[1, 1, 1], ["Power"; 2]);
        }
        for op in [Add, Mul] {
            check(op, &[3, 1], ["Scale"; 2]);
            check(op, &[2], ["Scale"; 2]);
            check(op, &[1, 3, 2], ["Scale"; 2]);
            // The batch, and what is not the operand's size.
            check(op, &[2, 1, 1], [if op == Add { "Add" } else { "Mul" }; 2]);
        }
        check(Sub, &[3, 1], ["Scale"; 2]);
        check(Div, &[3, 1], ["Scale", "Div"]);
        check(Div, &[], ["Power"; 2]);
        check(Pow, &[1], ["Power", "Pow"]);
        check(Max, &[1], ["Clip"; 2]);
        check(Min, &[1], ["Clip"; 2]);
        check(Less, &[1], ["Less"; 2]);
    }
}
