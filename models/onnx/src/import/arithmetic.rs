//! Functions of several operands, element by element, with numpy's broadcasting.

use super::build::{Known, Value};
use super::node::{Node, affine};
use crate::constant::{Constant, Elements};
use crate::element::Kind;
use skimjit_models::ops::{Activation, BinaryOp, Eltwise, EltwiseOp, PostOps, Reshape, Scale};
use skimjit_models::{Error, Op, Result, ValueId, Weight};
use std::sync::Arc;

/// Converters of functions of two operands.
macro_rules! pairs {
    ($($name:ident => $op:ident),* $(,)?) => {
        $(pub(super) fn $name(node: &mut Node<'_>) -> Result<Vec<Known>> {
            let id = pair(node, BinaryOp::$op, 0, 1)?;
            Ok(vec![Known::Value(id)])
        })*
    };
}

pairs! {
    add => Add, sub => Sub, mul => Mul, div => Div,
    less => Less, less_or_equal => LessOrEqual, greater => Greater, greater_or_equal => GreaterOrEqual,
    equal => Equal, and => And, or => Or, xor => Xor,
}

pub(super) fn pow(node: &mut Node<'_>) -> Result<Vec<Known>> {
    if let Some(Known::Constant(exponent)) = node.input(1)
        && exponent.count() == 1
        && exponent.dims.len() <= 1
        && matches!(node.input(0), Some(Known::Value(_)))
    {
        let power = node.scalar(1)?;
        let x = node.float(0)?;
        let power = Activation::Power {
            power,
            scale: 1.0,
            shift: 0.0,
        };
        return node.result(Op::Activation(power), &[x]);
    }
    let base = node.value(0)?;
    let exponent = node.value(1)?;
    let id = node.binary(BinaryOp::Pow, base.id, exponent.id)?;
    // The result is of the base's type.
    let id = match base.kind {
        Kind::Float => id,
        _ => node.add(Op::Activation(Activation::Truncate), &[id])?,
    };
    Ok(vec![Known::Value(Value { id, ..base })])
}

pub(super) fn modulo(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let op = match node.attributes.flag("fmod", false)? {
        true => BinaryOp::Fmod,
        false => BinaryOp::Mod,
    };
    Ok(vec![Known::Value(pair(node, op, 0, 1)?)])
}

/// Combines operands `a` and `b`, in the plainest op that does it.
fn pair(node: &mut Node<'_>, op: BinaryOp, a: usize, b: usize) -> Result<Value> {
    place_at_axis(node, b)?;
    if let Some(value) = with_constant(node, op, a, b)? {
        return Ok(value);
    }
    let (a, b) = (node.value(a)?, node.value(b)?);
    combine(node, op, a, b)
}

/// Up to opset 6, the second operand may be for axes of the first that an attribute names.
fn place_at_axis(node: &mut Node<'_>, b: usize) -> Result<()> {
    if !node.attributes.flag("broadcast", false)? || node.opset >= 7 {
        return Ok(());
    }
    let Some(axis) = node.attributes.int("axis")? else {
        return Ok(());
    };
    let x = node.value(0)?;
    let axis = node.axis(x.id, axis, "axis")?;
    let rank = node.rank(x.id);
    let known = match node.input(b) {
        Some(Known::Constant(constant)) => {
            let mut constant = constant.as_ref().clone();
            let behind = rank.saturating_sub(axis + constant.dims.len());
            constant.dims.extend(std::iter::repeat_n(1, behind));
            reshaped(constant)?.into()
        }
        _ => {
            let value = node.value(b)?;
            let behind = rank.saturating_sub(axis + node.rank(value.id));
            let reshape = Reshape {
                dims: vec![1; behind],
                axis: -1,
                num_axes: 0,
            };
            let id = node.add(Op::Reshape(reshape), &[value.id])?;
            Known::Value(Value { id, ..value })
        }
    };
    node.inputs[b] = Some(known);
    Ok(())
}

/// A constant with the dims that it says, of the same elements.
fn reshaped(constant: Constant) -> Result<Constant> {
    match &constant.elements {
        Elements::Floats(Some(weight)) => {
            let weight = weight.data().to_vec();
            Ok(Constant {
                from: constant.from,
                ..Constant::floats(constant.dims, weight)?
            })
        }
        _ => Ok(constant),
    }
}

fn combine(node: &mut Node<'_>, op: BinaryOp, a: Value, b: Value) -> Result<Value> {
    if a.kind != b.kind {
        return Err(Error::new("operands of two types")
            .expected("one type")
            .field("input[1]"));
    }
    let id = match same_shape(node, op, a.id, b.id)? {
        Some(id) => id,
        None => match channel_factors(node, op, a.id, b.id)? {
            Some(id) => id,
            None => node.binary(op, a.id, b.id)?,
        },
    };
    let kind = match op {
        BinaryOp::Less
        | BinaryOp::LessOrEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterOrEqual
        | BinaryOp::Equal
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor => Kind::Bool,
        _ => a.kind,
    };
    let id = match (op, kind) {
        (BinaryOp::Div, Kind::Int) => node.add(Op::Activation(Activation::Truncate), &[id])?,
        _ => id,
    };
    Ok(Value { id, kind })
}

/// Operands of one shape, whatever the batch.
fn same_shape(
    node: &mut Node<'_>,
    op: BinaryOp,
    a: ValueId,
    b: ValueId,
) -> Result<Option<ValueId>> {
    let op = match op {
        BinaryOp::Add => EltwiseOp::Sum {
            coefficients: vec![1.0; 2],
        },
        BinaryOp::Sub => EltwiseOp::Sum {
            coefficients: vec![1.0, -1.0],
        },
        BinaryOp::Mul => EltwiseOp::Product,
        _ => return Ok(None),
    };
    if !node.build.shapes(a).eq(node.build.shapes(b)) || a == b {
        return Ok(None);
    }
    let post = PostOps::default();
    node.add(Op::Eltwise(Eltwise { op, post }), &[a, b])
        .map(Some)
}

/// An image times one factor for each channel: squeeze and excitation.
fn channel_factors(
    node: &mut Node<'_>,
    op: BinaryOp,
    a: ValueId,
    b: ValueId,
) -> Result<Option<ValueId>> {
    if op != BinaryOp::Mul {
        return Ok(None);
    }
    let is_factor = |node: &Node<'_>, x: ValueId, factor: ValueId| {
        node.rank(x) == 4
            && node
                .build
                .shapes(x)
                .zip(node.build.shapes(factor))
                .all(|(x, factor)| factor.dims() == [x.dim(0), x.dim(1), 1, 1])
    };
    let (x, factor) = match (is_factor(node, a, b), is_factor(node, b, a)) {
        (true, _) => (a, b),
        (_, true) => (b, a),
        _ => return Ok(None),
    };
    let factor = node.reshape(factor, &[0, -1])?;
    let scale = Scale {
        axis: 0,
        scale: None,
        bias: None,
        add_operand: false,
    };
    node.add(Op::Scale(scale), &[x, factor]).map(Some)
}

/// A value and constant floats that vary along neighbouring axes, or not at all.
fn with_constant(node: &mut Node<'_>, op: BinaryOp, a: usize, b: usize) -> Result<Option<Value>> {
    if !matches!(
        op,
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div
    ) {
        return Ok(None);
    }
    let (x, constant, swapped) = match (node.input(a), node.input(b)) {
        (Some(Known::Value(x)), Some(Known::Constant(c))) => (*x, c.clone(), false),
        (Some(Known::Constant(c)), Some(Known::Value(x))) => (*x, c.clone(), true),
        _ => return Ok(None),
    };
    let Some(weight) = constant
        .as_weight()
        .filter(|_| x.kind == Kind::Float)
        .cloned()
    else {
        return Ok(None);
    };
    if swapped && op == BinaryOp::Div {
        return Ok(None);
    }
    // Of numbers near zero, the reciprocal is not a number that a factor can be.
    let usual = |value: &f32| (1.0 / f64::from(*value)).abs() <= f64::from(f32::MAX);
    if op == BinaryOp::Div && !weight.data().iter().all(usual) {
        return Ok(None);
    }
    node.from = node.from.max(constant.source());
    let id = match weight.data() {
        &[number] if weight.shape().rank() <= node.rank(x.id) => {
            Some(with_number(node, op, x.id, number, swapped)?)
        }
        _ => with_factors(node, op, x.id, &weight, swapped)?,
    };
    Ok(id.map(|id| Value { id, ..x }))
}

fn with_number(
    node: &mut Node<'_>,
    op: BinaryOp,
    x: ValueId,
    number: f32,
    swapped: bool,
) -> Result<ValueId> {
    let function = match (op, swapped) {
        (BinaryOp::Add, _) => affine(1.0, number),
        (BinaryOp::Sub, false) => affine(1.0, -number),
        (BinaryOp::Sub, true) => affine(-1.0, number),
        (BinaryOp::Mul, _) => affine(number, 0.0),
        _ => affine((1.0 / f64::from(number)) as f32, 0.0),
    };
    node.add(Op::Activation(function), &[x])
}

fn with_factors(
    node: &mut Node<'_>,
    op: BinaryOp,
    x: ValueId,
    weight: &Arc<Weight>,
    swapped: bool,
) -> Result<Option<ValueId>> {
    let Some((axis, dims)) = span(node, x, weight.shape().dims()) else {
        return Ok(None);
    };
    let data = weight.data().iter();
    let data: Vec<f32> = match op {
        BinaryOp::Sub if !swapped => data.map(|&value| -value).collect(),
        BinaryOp::Div => data.map(|&value| (1.0 / f64::from(value)) as f32).collect(),
        _ => data.copied().collect(),
    };
    let x = match (op, swapped) {
        (BinaryOp::Sub, true) => node.add(Op::Activation(affine(-1.0, 0.0)), &[x])?,
        _ => x,
    };
    let weight = node.new_weight(&dims, data)?;
    let (scale, bias) = match op {
        BinaryOp::Mul | BinaryOp::Div => (Some(weight), None),
        _ => (None, Some(weight)),
    };
    node.scale(x, axis, scale, bias).map(Some)
}

/// The axes along which an aligned constant varies, when they are neighbours and it has all of their elements.
fn span(node: &Node<'_>, x: ValueId, dims: &[u32]) -> Option<(usize, Vec<u32>)> {
    let offset = node.rank(x).checked_sub(dims.len())?;
    let first = dims.iter().position(|&dim| dim != 1)?;
    let last = dims.iter().rposition(|&dim| dim != 1)?;
    let part = &dims[first..=last];
    let fits = node
        .build
        .shapes(x)
        .all(|shape| shape.dims().get(offset + first..=offset + last) == Some(part));
    fits.then(|| (offset + first, part.to_vec()))
}

fn fold(node: &mut Node<'_>, op: BinaryOp) -> Result<Value> {
    if node.inputs.is_empty() {
        return Err(Error::new("no operands").expected("at least one"));
    }
    let mut result = node.value(0)?;
    for index in 1..node.inputs.len() {
        let next = node.value(index)?;
        result = combine(node, op, result, next)?;
    }
    Ok(result)
}

pub(super) fn min(node: &mut Node<'_>) -> Result<Vec<Known>> {
    Ok(vec![Known::Value(fold(node, BinaryOp::Min)?)])
}

pub(super) fn max(node: &mut Node<'_>) -> Result<Vec<Known>> {
    Ok(vec![Known::Value(fold(node, BinaryOp::Max)?)])
}

pub(super) fn sum(node: &mut Node<'_>) -> Result<Vec<Known>> {
    Ok(vec![Known::Value(fold(node, BinaryOp::Add)?)])
}

pub(super) fn mean(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let sum = fold(node, BinaryOp::Add)?;
    let factor = 1.0 / node.inputs.len() as f32;
    node.result(Op::Activation(affine(factor, 0.0)), &[sum.id])
}

pub(super) fn select(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let [condition, then, otherwise] = [node.value(0)?, node.value(1)?, node.value(2)?];
    if then.kind != otherwise.kind {
        return Err(Error::new("operands of two types")
            .field("input[2]")
            .expected("one type"));
    }
    let id = node.add(Op::Select, &[condition.id, then.id, otherwise.id])?;
    Ok(vec![Known::Value(Value { id, ..then })])
}
