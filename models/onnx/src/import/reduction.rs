//! Reductions, softmaxes, and the largest elements.

use super::build::{Known, Value};
use super::movement::integers;
use super::node::{Node, floats, sorted_axes};
use super::pooling::whole;
use crate::element::Kind;
use skimjit_models::ops::{
    ArgExtreme, NonMaxSuppression, PoolMethod, Reduce, ReduceOp, TopK, TopKOutput,
};
use skimjit_models::{Error, Op, Result, ValueId};

fn reduce(node: &mut Node<'_>, op: ReduceOp) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let rank = node.rank(x.id);
    let axes = node.ints_or_attribute(1, "axes")?.unwrap_or_default();
    let keep = node.attributes.flag("keepdims", true)?;
    if axes.is_empty() && node.attributes.flag("noop_with_empty_axes", false)? {
        return Ok(vec![Known::Value(x)]);
    }
    let axes = match axes.is_empty() {
        true => (0..rank).collect(),
        false => sorted_axes(&axes, rank, "axes")?,
    };
    if op == ReduceOp::Mean && rank == 4 && axes == [2, 3] {
        return mean_of_planes(node, x.id, keep);
    }
    let reduce = Reduce {
        op,
        axes: axes.iter().map(|&axis| axis as u32).collect(),
        keep,
    };
    let id = node.add(Op::Reduce(reduce), &[x.id])?;
    let kind = match op {
        ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min | ReduceOp::Prod => x.kind,
        _ if x.kind == Kind::Float => x.kind,
        _ => return Err(Error::new("integers").field("input[0]").expected("floats")),
    };
    Ok(vec![Known::Value(Value { id, kind })])
}

/// Exporters write global poolings so.
fn mean_of_planes(node: &mut Node<'_>, x: ValueId, keep: bool) -> Result<Vec<Known>> {
    let y = node.add(Op::Pooling(whole(PoolMethod::Average)), &[x])?;
    match keep {
        true => Ok(floats(y)),
        false => {
            let (axis, end_axis) = (1, 3);
            node.result(Op::Flatten { axis, end_axis }, &[y])
        }
    }
}

/// Converters of reductions.
macro_rules! reductions {
    ($($name:ident => $op:ident),* $(,)?) => {
        $(pub(super) fn $name(node: &mut Node<'_>) -> Result<Vec<Known>> {
            reduce(node, ReduceOp::$op)
        })*
    };
}

reductions! {
    reduce_sum => Sum, reduce_mean => Mean, reduce_max => Max, reduce_min => Min, reduce_prod => Prod,
    reduce_l1 => L1, reduce_l2 => L2, reduce_log_sum => LogSum, reduce_log_sum_exp => LogSumExp,
    reduce_sum_square => SumSquare,
}

fn normalised(node: &mut Node<'_>, op: impl Fn(u32) -> Op) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let rank = node.rank(x);
    if node.opset >= 13 {
        let axis = node.attributes.int("axis")?.unwrap_or(-1);
        let axis = node.axis(x, axis, "axis")?;
        return node.result(op(axis as u32), &[x]);
    }
    // Up to opset 12, all axes from this one on are one.
    let axis = node.attributes.int("axis")?.unwrap_or(1);
    let axis = node.axis(x, axis, "axis")?;
    let behind = node
        .build
        .shapes(x)
        .map(|shape| shape.count_of(axis + 1, rank));
    if behind.max() == Some(1) {
        return node.result(op(axis as u32), &[x]);
    }
    let dims = node.shape(x).dims()[axis..]
        .iter()
        .map(|&dim| i64::from(dim))
        .collect();
    let (axis, end_axis) = (axis as u32, rank as u32 - 1);
    let flat = node.add(Op::Flatten { axis, end_axis }, &[x])?;
    let y = node.add(op(axis), &[flat])?;
    let whole = skimjit_models::ops::Reshape {
        dims,
        axis: axis as i32,
        num_axes: 1,
    };
    node.from = node.from.max(crate::constant::Source::Sizes);
    node.result(Op::Reshape(whole), &[y])
}

pub(super) fn softmax(node: &mut Node<'_>) -> Result<Vec<Known>> {
    normalised(node, |axis| Op::Softmax { axis })
}

pub(super) fn log_softmax(node: &mut Node<'_>) -> Result<Vec<Known>> {
    normalised(node, |axis| Op::LogSoftmax { axis })
}

fn extreme(node: &mut Node<'_>, smallest: bool) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let axis = node.attributes.int("axis")?.unwrap_or(0);
    let axis = node.axis(x.id, axis, "axis")?;
    countable(node, x.id, axis)?;
    let extreme = ArgExtreme {
        axis: axis as u32,
        keep: node.attributes.flag("keepdims", true)?,
        last: node.attributes.flag("select_last_index", false)?,
        smallest,
    };
    let id = node.add(Op::ArgExtreme(extreme), &[x.id])?;
    Ok(vec![integers(id)])
}

/// Refuses axes of more elements than floats can count.
fn countable(node: &Node<'_>, x: ValueId, axis: usize) -> Result<()> {
    const MOST: u32 = 1 << 24;
    let size = node.shape(x).dim(axis);
    match size <= MOST {
        true => Ok(()),
        false => Err(Error::new(format!("{size} elements along axis {axis}"))
            .field("input[0]")
            .expected(format!("at most {MOST}, so that indices are exact"))),
    }
}

pub(super) fn arg_max(node: &mut Node<'_>) -> Result<Vec<Known>> {
    extreme(node, false)
}

pub(super) fn arg_min(node: &mut Node<'_>) -> Result<Vec<Known>> {
    extreme(node, true)
}

/// One number of an operand that is a list of one, or of an attribute in older versions.
fn number(node: &mut Node<'_>, index: usize, name: &str) -> Result<Option<i64>> {
    if let Some(number) = node.attributes.int(name)? {
        return Ok(Some(number));
    }
    if !node.has(index) {
        return Ok(None);
    }
    let ints = node.ints(index)?;
    match node.numbers(&ints)[..] {
        [one] => Ok(Some(one)),
        _ => Err(Error::new(format!("{} numbers", ints.len()))
            .field(super::node::field(index))
            .expected("one")),
    }
}

pub(super) fn top_k(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let k = number(node, 1, "k")?.unwrap_or(0);
    let k =
        u32::try_from(k).map_err(|_| Error::new(k.to_string()).field("k").expected("1 or more"))?;
    let axis = node.attributes.int("axis")?.unwrap_or(-1);
    let axis = node.axis(x.id, axis, "axis")?;
    countable(node, x.id, axis)?;
    let axis = axis as u32;
    let smallest = !node.attributes.flag("largest", true)?;
    // Unsorted results may be in any order, so in this one too.
    node.attributes.flag("sorted", true)?;
    let top = |output| {
        Op::TopK(TopK {
            axis,
            k,
            smallest,
            output,
        })
    };
    let values = node.add(top(TopKOutput::Values), &[x.id])?;
    let indices = node.add(top(TopKOutput::Indices), &[x.id])?;
    Ok(vec![
        Known::Value(Value { id: values, ..x }),
        integers(indices),
    ])
}

/// Every box that may be chosen has a row; those that are not are −1.
pub(super) fn non_max_suppression(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let (boxes, scores) = (node.float(0)?, node.float(1)?);
    let most = number(node, 2, "")?.unwrap_or(0);
    let most = u32::try_from(most.max(0)).unwrap_or(u32::MAX);
    let (classes, candidates) = (node.shape(scores).dim(1), node.shape(boxes).dim(1));
    let rows = u64::from(most.min(candidates)) * u64::from(classes);
    let rows = rows * u64::from(node.shape(scores).dim(0));
    let suppression = NonMaxSuppression {
        most,
        iou: if node.has(3) { node.scalar(3)? } else { 0.0 },
        score: match node.has(4) {
            true => Some(node.scalar(4)?),
            false => None,
        },
        center: node.attributes.flag("center_point_box", false)?,
        rows: u32::try_from(rows).unwrap_or(u32::MAX),
    };
    node.from = crate::constant::Source::Batch;
    let id = node.add(Op::NonMaxSuppression(suppression), &[boxes, scores])?;
    Ok(vec![integers(id)])
}
