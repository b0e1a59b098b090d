//! Functions of several operands, and reductions.

use super::functions::{condition, post, truth};
use super::writer::{Value, Writer};
use Value::Int;
use skimjit_models::ops::{
    Binary, BinaryOp, Eltwise, EltwiseOp, Reduce, ReduceOp, Reduction, ReductionOp, Scale,
};
use skimjit_models::{Node, Result, WeightId};

/// Dims for a factor that is broadcast from an axis on.
fn dims_from(to: &Writer<'_>, weight: WeightId, axis: u32, rank: usize) -> Vec<u32> {
    let shape = to.graph.weight(weight).shape();
    let mut dims = shape.dims().to_vec();
    if shape.rank() > 0 {
        dims.resize(rank - axis as usize, 1);
    }
    dims
}

pub(super) fn scale(to: &mut Writer<'_>, op: &Scale, node: &Node) -> String {
    let rank = to.graph.shape(node.inputs[0]).rank();
    let mut y = to.operand(node, 0);
    if let Some(&second) = node.inputs.get(1) {
        // Axes of 1 behind those that it has.
        let shape = to.graph.shape(second).clone();
        let behind = rank - (op.axis as usize + shape.rank()).min(rank);
        let mut factor = to.operand(node, 1);
        if behind > 0 && shape.rank() > 0 {
            let axes: Vec<i64> = (0..behind)
                .map(|index| (shape.rank() + index) as i64)
                .collect();
            let axes = to.ints(&axes);
            factor = to.add("Unsqueeze", &[&factor, &axes], &[]);
        }
        y = to.add(
            if op.add_operand { "Add" } else { "Mul" },
            &[&y, &factor],
            &[],
        );
    }
    for (weight, kind) in [(op.scale, "Mul"), (op.bias, "Add")] {
        if let Some(weight) = weight {
            let dims = dims_from(to, weight, op.axis, rank);
            let factor = to.weight_as(weight, &dims);
            y = to.add(kind, &[&y, &factor], &[]);
        }
    }
    match node.inputs.len() == 1 && op.scale.is_none() && op.bias.is_none() {
        true => to.add("Identity", &[&y], &[]),
        false => y,
    }
}

pub(super) fn eltwise(to: &mut Writer<'_>, op: &Eltwise, node: &Node) -> Result<String> {
    let kind = match &op.op {
        EltwiseOp::Product => "Mul",
        EltwiseOp::Sum { .. } => "Add",
        EltwiseOp::Max => "Max",
    };
    let mut terms = Vec::new();
    for index in 0..node.inputs.len() {
        let operand = to.operand(node, index);
        let factor = match &op.op {
            EltwiseOp::Sum { coefficients } => coefficients[index],
            _ => 1.0,
        };
        terms.push(match factor == 1.0 {
            true => operand,
            false => {
                let factor = to.number(factor);
                to.add("Mul", &[&operand, &factor], &[])
            }
        });
    }
    let mut y = terms[0].clone();
    for term in &terms[1..] {
        y = to.add(kind, &[&y, term], &[]);
    }
    post(to, y, op.post)
}

pub(super) fn binary(to: &mut Writer<'_>, op: &Binary, node: &Node) -> Result<String> {
    let (mut a, mut b) = (to.operand(node, 0), to.operand(node, 1));
    let (kind, attributes) = match op.op {
        BinaryOp::Add => ("Add", vec![]),
        BinaryOp::Sub => ("Sub", vec![]),
        BinaryOp::Mul => ("Mul", vec![]),
        BinaryOp::Div => ("Div", vec![]),
        BinaryOp::Pow => ("Pow", vec![]),
        BinaryOp::Min => ("Min", vec![]),
        BinaryOp::Max => ("Max", vec![]),
        BinaryOp::Fmod => ("Mod", vec![("fmod", Int(1))]),
        BinaryOp::Mod => {
            // Of floats, there is only the remainder with the sign of the dividend.
            let quotient = to.add("Div", &[&a, &b], &[]);
            let floor = to.add("Floor", &[&quotient], &[]);
            let product = to.add("Mul", &[&floor, &b], &[]);
            let y = to.add("Sub", &[&a, &product], &[]);
            return post(to, y, op.post);
        }
        BinaryOp::Less => ("Less", vec![]),
        BinaryOp::LessOrEqual => ("LessOrEqual", vec![]),
        BinaryOp::Greater => ("Greater", vec![]),
        BinaryOp::GreaterOrEqual => ("GreaterOrEqual", vec![]),
        BinaryOp::Equal => ("Equal", vec![]),
        BinaryOp::And => ("And", vec![]),
        BinaryOp::Or => ("Or", vec![]),
        BinaryOp::Xor => ("Xor", vec![]),
    };
    if matches!(kind, "And" | "Or" | "Xor") {
        (a, b) = (condition(to, &a), condition(to, &b));
    }
    let y = to.add(kind, &[&a, &b], &attributes);
    let is_truth = matches!(
        kind,
        "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "Equal" | "And" | "Or" | "Xor"
    );
    let y = if is_truth { truth(to, &y) } else { y };
    post(to, y, op.post)
}

pub(super) fn select(to: &mut Writer<'_>, node: &Node) -> String {
    let [condition_, then, otherwise] = [0, 1, 2].map(|index| to.operand(node, index));
    let holds = condition(to, &condition_);
    to.add("Where", &[&holds, &then, &otherwise], &[])
}

pub(super) fn reduce(to: &mut Writer<'_>, op: &Reduce, x: &str) -> String {
    let kind = match op.op {
        ReduceOp::Sum => "ReduceSum",
        ReduceOp::Mean => "ReduceMean",
        ReduceOp::Max => "ReduceMax",
        ReduceOp::Min => "ReduceMin",
        ReduceOp::Prod => "ReduceProd",
        ReduceOp::L1 => "ReduceL1",
        ReduceOp::L2 => "ReduceL2",
        ReduceOp::LogSum => "ReduceLogSum",
        ReduceOp::LogSumExp => "ReduceLogSumExp",
        ReduceOp::SumSquare => "ReduceSumSquare",
    };
    let axes: Vec<i64> = op.axes.iter().map(|&axis| axis.into()).collect();
    let axes = to.ints(&axes);
    to.add(kind, &[x, &axes], &[("keepdims", Int(op.keep.into()))])
}

/// Caffe's reduction of all axes from one on.
pub(super) fn reduction(to: &mut Writer<'_>, op: &Reduction, rank: usize, x: &str) -> String {
    let kind = match op.op {
        ReductionOp::Sum => "ReduceSum",
        ReductionOp::AbsSum => "ReduceL1",
        ReductionOp::SumOfSquares => "ReduceSumSquare",
        ReductionOp::Mean => "ReduceMean",
    };
    let rank = rank as i64;
    let first = i64::from(op.axis);
    let first = if first < 0 { first + rank } else { first };
    let axes: Vec<i64> = (first..rank).collect();
    let axes = to.ints(&axes);
    let y = to.add(kind, &[x, &axes], &[("keepdims", Int(0))]);
    match op.coeff == 1.0 {
        true => y,
        false => {
            let factor = to.number(op.coeff);
            to.add("Mul", &[&y, &factor], &[])
        }
    }
}
