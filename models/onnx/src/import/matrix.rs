//! Gemm and MatMul.

use super::build::Known;
use super::node::{Node, affine, floats};
use skimjit_models::ops::{Binary, BinaryOp, InnerProduct, PostOps};
use skimjit_models::{Error, Op, Result, ValueId, WeightId};
use std::sync::Arc;

pub(super) fn gemm(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let mut a = node.float(0)?;
    if node.rank(a) != 2 {
        return Err(
            Error::new(format!("{} axes ({})", node.rank(a), node.shape(a)))
                .field("input[0]")
                .expected("2, a matrix"),
        );
    }
    if node.attributes.flag("transA", false)? {
        a = node.add(Op::Permute { order: vec![1, 0] }, &[a])?;
    }
    // Up to opset 6: what is added has fewer dims than the product.
    node.attributes.flag("broadcast", false)?;
    let alpha = node.attributes.float("alpha", 1.0)?;
    let beta = node.attributes.float("beta", 1.0)?;
    let transposed = node.attributes.flag("transB", false)?;
    if !matches!(node.input(1), Some(Known::Constant(_))) {
        return computed(node, a, transposed, alpha, beta);
    }
    let mut weights = node.weights(1)?;
    let dims = weights.shape().dims().to_vec();
    let &[rows, columns] = dims.as_slice() else {
        return Err(Error::new(format!("weights of dims {}", weights.shape()))
            .field("input[1]")
            .expected("2 axes, a matrix"));
    };
    if alpha != 1.0 {
        weights = Arc::new(weights.map(|_, value| alpha * value));
    }
    let outputs = if transposed { rows } else { columns };
    let (bias, addend) = bias(node, outputs, beta)?;
    let product = InnerProduct {
        outputs,
        axis: 1,
        transpose: !transposed,
        weights: node.build.weight(&weights),
        bias,
        post: PostOps::default(),
    };
    let y = node.add(Op::InnerProduct(product), &[a])?;
    match addend {
        true => plus(node, y, beta),
        false => Ok(floats(y)),
    }
}

/// A bias for each output, and whether there is something else to add.
fn bias(node: &mut Node<'_>, outputs: u32, beta: f32) -> Result<(Option<WeightId>, bool)> {
    let constant = match node.input(2) {
        None => return Ok((None, false)),
        Some(Known::Value(_)) => return Ok((None, true)),
        Some(Known::Constant(constant)) => constant.clone(),
    };
    let count = constant.count();
    let is_row = constant.dims.iter().rev().skip(1).all(|&dim| dim == 1)
        && (count == outputs as usize || count == 1);
    if !is_row {
        return Ok((None, true));
    }
    let weights = node.weights(2)?;
    let data = match weights.data() {
        &[one] => vec![beta * one; outputs as usize],
        data => data.iter().map(|value| beta * value).collect(),
    };
    Ok((Some(node.new_weight(&[outputs], data)?), false))
}

/// The product of two matrices that the network computes.
fn computed(
    node: &mut Node<'_>,
    a: ValueId,
    transposed: bool,
    alpha: f32,
    beta: f32,
) -> Result<Vec<Known>> {
    let mut b = node.float(1)?;
    if node.rank(b) != 2 {
        return Err(Error::new(format!("{} axes", node.rank(b)))
            .field("input[1]")
            .expected("2"));
    }
    if transposed {
        b = node.add(Op::Permute { order: vec![1, 0] }, &[b])?;
    }
    let mut y = node.add(Op::MatMul, &[a, b])?;
    if alpha != 1.0 {
        y = node.add(Op::Activation(affine(alpha, 0.0)), &[y])?;
    }
    match node.has(2) {
        true => plus(node, y, beta),
        false => Ok(floats(y)),
    }
}

/// y + beta·c.
fn plus(node: &mut Node<'_>, y: ValueId, beta: f32) -> Result<Vec<Known>> {
    let mut c = node.float(2)?;
    if beta != 1.0 {
        c = node.add(Op::Activation(affine(beta, 0.0)), &[c])?;
    }
    let sum = Binary {
        op: BinaryOp::Add,
        post: PostOps::default(),
    };
    node.result(Op::Binary(sum), &[y, c])
}

pub(super) fn mat_mul(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let a = node.float(0)?;
    let rank = node.rank(a);
    if let Some(Known::Constant(constant)) = node.input(1)
        && let Some(weights) = constant.as_weight().cloned()
        && let &[_, outputs] = weights.shape().dims()
        && rank > 0
    {
        let product = InnerProduct {
            outputs,
            axis: rank as u32 - 1,
            transpose: true,
            weights: node.build.weight(&weights),
            bias: None,
            post: PostOps::default(),
        };
        return node.result(Op::InnerProduct(product), &[a]);
    }
    let b = node.float(1)?;
    node.result(Op::MatMul, &[a, b])
}
