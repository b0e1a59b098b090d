//! Elements in other places.

use super::build::{Known, Value};
use super::node::{Node, absolute};
use crate::constant::{Constant, Int, Source};
use crate::element::Kind;
use skimjit_models::ops::{DepthOrder, Gather, Pad, PadMode, Reshape, Slice};
use skimjit_models::{Error, Op, Result};

pub(super) fn transpose(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let rank = node.rank(x.id);
    let order: Vec<u32> = match node.attributes.ints("perm")? {
        None => (0..rank as u32).rev().collect(),
        Some(perm) => {
            let axis = |&axis: &i64| absolute(axis, rank, "perm").map(|axis| axis as u32);
            perm.iter().map(axis).collect::<Result<_>>()?
        }
    };
    if order.iter().copied().eq(0..rank as u32) {
        return Ok(vec![Known::Value(x)]);
    }
    let id = node.add(Op::Permute { order }, &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

pub(super) fn concat(node: &mut Node<'_>) -> Result<Vec<Known>> {
    // Exporters concatenate empty tensors too.
    let is_empty = |input: &Option<Known>| matches!(input, Some(Known::Constant(constant)) if constant.count() == 0);
    if node.inputs.iter().any(|input| !is_empty(input)) {
        node.inputs.retain(|input| !is_empty(input));
    }
    let values: Result<Vec<Value>> = (0..node.inputs.len())
        .map(|index| node.value(index))
        .collect();
    let values = values?;
    let Some(&first) = values.first() else {
        return Err(Error::new("no operands").expected("at least one"));
    };
    if let Some(index) = values.iter().position(|value| value.kind != first.kind) {
        return Err(Error::new("operands of two types")
            .field(super::node::field(index))
            .expected("one type"));
    }
    let axis = node.attributes.int("axis")?.unwrap_or(1);
    let axis = node.axis(first.id, axis, "axis")? as u32;
    let inputs: Vec<_> = values.iter().map(|value| value.id).collect();
    let id = node.add(Op::Concat { axis }, &inputs)?;
    Ok(vec![Known::Value(Value { id, ..first })])
}

fn part(node: &mut Node<'_>, x: Value, axis: usize, begin: u32, end: u32) -> Result<Value> {
    let slice = Slice {
        axis: axis as u32,
        begin,
        end,
    };
    let id = node.add(Op::Slice(slice), &[x.id])?;
    Ok(Value { id, ..x })
}

pub(super) fn split(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let axis = node.attributes.int("axis")?.unwrap_or(0);
    let axis = node.axis(x.id, axis, "axis")?;
    let size = i64::from(node.shape(x.id).dim(axis));
    let sizes = match node.ints_or_attribute(1, "split")? {
        Some(sizes) => sizes,
        None => {
            let parts = node
                .attributes
                .int("num_outputs")?
                .unwrap_or(node.outputs as i64);
            if !(1..=size).contains(&parts) {
                return Err(Error::new(format!("{parts} parts"))
                    .field("num_outputs")
                    .expected(format!("1 to {size}")));
            }
            // All of one size, but the last where it does not fit.
            let each = (size + parts - 1) / parts;
            (0..parts)
                .map(|index| each.min(size - index * each))
                .collect()
        }
    };
    let total: i64 = sizes
        .iter()
        .fold(0, |total, size| total.saturating_add(*size));
    if total != size || sizes.iter().any(|&size| size < 1) {
        return Err(Error::new(format!("parts of {sizes:?}"))
            .field("split")
            .expected(format!("sizes of 1 or more that make {size}")));
    }
    if let [_] = sizes[..] {
        return Ok(vec![Known::Value(x)]);
    }
    let mut begin = 0;
    let mut parts = Vec::new();
    for size in sizes {
        let end = begin + size as u32;
        parts.push(Known::Value(part(node, x, axis, begin, end)?));
        begin = end;
    }
    Ok(parts)
}

pub(super) fn slice(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let mut x = node.value(0)?;
    let rank = node.rank(x.id);
    let known = |ints: &[i64]| -> Vec<Int> { ints.iter().map(|&int| Int::known(int)).collect() };
    let (starts, ends) = match (
        node.attributes.ints("starts")?,
        node.attributes.ints("ends")?,
    ) {
        (Some(starts), Some(ends)) => (known(starts), known(ends)),
        _ => (node.ints(1)?, node.ints(2)?),
    };
    let axes = match node.ints_or_attribute(3, "axes")? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match node.has(4) {
        true => {
            let steps = node.ints(4)?;
            node.numbers(&steps)
        }
        false => vec![1; starts.len()],
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(Error::new("lists of several lengths")
            .field("starts")
            .expected("one length"));
    }
    super::node::sorted_axes(&axes, rank, "axes")?;
    for index in 0..starts.len() {
        let axis = absolute(axes[index], rank, "axes")?;
        x = slice_axis(node, x, axis, [starts[index], ends[index]], steps[index])?;
    }
    Ok(vec![Known::Value(x)])
}

/// The largest number that files write for "to the end".
const END: i64 = i32::MAX as i64;

fn slice_axis(
    node: &mut Node<'_>,
    x: Value,
    axis: usize,
    [start, end]: [Int; 2],
    step: i64,
) -> Result<Value> {
    let dim = node.build.dim(x.id, axis);
    let starts_first = (start.images, start.rest) == (0, 0);
    let ends_last = (end.images, end.rest) == (dim.images, dim.rest) && dim.images != 0
        || end.images == 0 && end.rest >= END;
    if step == 1 && starts_first && ends_last {
        return Ok(x);
    }
    let size = i64::from(node.shape(x.id).dim(axis));
    let numbers = node.numbers(&[start, end]);
    let place = |number: i64| {
        if number < 0 {
            number.saturating_add(size)
        } else {
            number
        }
    };
    let (first, last) = (place(numbers[0]), place(numbers[1]));
    let empty = || {
        Err(Error::new(format!(
            "{}..{} with steps of {step}",
            numbers[0], numbers[1]
        ))
        .field("starts")
        .expected(format!("some of the {size} elements of axis {axis}")))
    };
    if step == 1 {
        let (first, last) = (first.clamp(0, size), last.clamp(0, size));
        return match first < last {
            true => part(node, x, axis, first as u32, last as u32),
            false => empty(),
        };
    }
    skimjit_host::memory::check(4 * size as u64)?;
    let indices: Vec<u32> = match step {
        0 => return empty(),
        1.. => (first.clamp(0, size)..last.clamp(0, size))
            .step_by(step as usize)
            .map(|i| i as u32)
            .collect(),
        _ => {
            let (first, last) = (first.clamp(-1, size - 1), last.clamp(-1, size - 1));
            let down = (last + 1..=first)
                .rev()
                .step_by(step.unsigned_abs() as usize);
            down.map(|index| index as u32).collect()
        }
    };
    if indices.is_empty() {
        return empty();
    }
    node.from = node.from.max(if dim.images == 0 {
        Source::Sizes
    } else {
        Source::Batch
    });
    gather_axis(node, x, axis, indices)
}

fn gather_axis(node: &mut Node<'_>, x: Value, axis: usize, indices: Vec<u32>) -> Result<Value> {
    let neighbours = indices
        .windows(2)
        .all(|two| two[0].checked_add(1) == Some(two[1]));
    if let (true, Some(&first), Some(&last)) = (neighbours, indices.first(), indices.last()) {
        return part(node, x, axis, first, last + 1);
    }
    let axis = axis as u32;
    let id = node.add(Op::Gather(Gather { axis, indices }), &[x.id])?;
    Ok(Value { id, ..x })
}

/// PyTorch writes a copy with strides as all elements in a row, by their places: for other batches there are more.
fn all_elements(
    node: &mut Node<'_>,
    x: Value,
    constant: &Constant,
    ints: &[Int],
) -> Result<Option<Value>> {
    let batch = node.build.batch;
    let in_order = || {
        ints.iter()
            .enumerate()
            .all(|(place, int)| int.at(batch) == place as i64)
    };
    let shape = node.shape(x.id);
    let all = shape.rank() == 1 && shape.count() == ints.len();
    let Some((_, behind)) = constant.dims.split_first().filter(|_| all) else {
        return Ok(None);
    };
    if constant.source() != Source::Batch || !node.build.is_open() || !in_order() {
        return Ok(None);
    }
    node.build.assumes = true;
    let dims: Vec<i64> = std::iter::once(-1)
        .chain(behind.iter().map(|&dim| dim as i64))
        .collect();
    let id = node.reshape(x.id, &dims)?;
    Ok(Some(Value { id, ..x }))
}

pub(super) fn gather(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let axis = node.attributes.int("axis")?.unwrap_or(0);
    let axis = node.axis(x.id, axis, "axis")?;
    let constant = node.constant(1)?;
    let ints = node.ints(1)?;
    if let Some(y) = all_elements(node, x, &constant, &ints)? {
        return Ok(vec![Known::Value(y)]);
    }
    let numbers = node.numbers(&ints);
    let size = i64::from(node.shape(x.id).dim(axis));
    let index = |&number: &i64| {
        let index = if number < 0 {
            number.saturating_add(size)
        } else {
            number
        };
        (0..size)
            .contains(&index)
            .then_some(index as u32)
            .ok_or_else(|| {
                Error::new(number.to_string())
                    .field("input[1]")
                    .expected(format!("-{size} to {}", size - 1))
            })
    };
    let indices = numbers.iter().map(index).collect::<Result<Vec<u32>>>()?;
    // Counting from the end means other elements when the size changes.
    if numbers.iter().any(|&number| number < 0) {
        node.from = node.from.max(Source::Sizes);
    }
    if indices.is_empty() {
        return Err(Error::new("no indices")
            .field("input[1]")
            .expected("at least one"));
    }
    let y = gather_axis(node, x, axis, indices)?;
    if let [_] = constant.dims[..] {
        return Ok(vec![Known::Value(y)]);
    }
    let reshape = Reshape {
        dims: constant.dims.iter().map(|&dim| dim as i64).collect(),
        axis: axis as i32,
        num_axes: 1,
    };
    let id = node.add(Op::Reshape(reshape), &[y.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

pub(super) fn tile(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let mut x = node.value(0)?;
    let ints = node.ints(1)?;
    let repeats = node.numbers(&ints);
    if repeats.len() != node.rank(x.id) {
        return Err(Error::new(format!("{} numbers", repeats.len()))
            .field("input[1]")
            .expected(format!("{}, one for each axis", node.rank(x.id))));
    }
    for (axis, &tiles) in repeats.iter().enumerate() {
        let Some(tiles) = u32::try_from(tiles).ok().filter(|&tiles| tiles > 0) else {
            return Err(Error::new(tiles.to_string())
                .field("input[1]")
                .expected("1 or more"));
        };
        if tiles > 1 {
            let axis = axis as u32;
            x.id = node.add(Op::Tile { axis, tiles }, &[x.id])?;
        }
    }
    Ok(vec![Known::Value(x)])
}

pub(super) fn pad(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let rank = node.rank(x.id);
    let Some(pads) = node.ints_or_attribute(1, "pads")? else {
        return Err(Error::new("nothing").field("pads").expected("numbers"));
    };
    let axes = match node.has(3) {
        false => (0..rank).collect(),
        true => {
            let ints = node.ints(3)?;
            let numbers = node.numbers(&ints);
            super::node::sorted_axes(&numbers, rank, "axes")?;
            let axis = |&number: &i64| absolute(number, rank, "axes");
            numbers.iter().map(axis).collect::<Result<Vec<usize>>>()?
        }
    };
    if pads.len() != 2 * axes.len() {
        return Err(Error::new(format!("{} numbers", pads.len()))
            .field("pads")
            .expected(format!("{}, two for each axis", 2 * axes.len())));
    }
    let value = match (node.has(2), node.attributes.has("value")) {
        (true, false) => node.scalar(2)?,
        _ => node.attributes.float("value", 0.0)?,
    };
    let mode = node.attributes.choice(
        "mode",
        &[
            ("constant", PadMode::Constant { value }),
            ("reflect", PadMode::Reflect),
            ("edge", PadMode::Edge),
            ("wrap", PadMode::Wrap),
        ],
    )?;
    if pads.iter().all(|&pad| pad == 0) {
        return Ok(vec![Known::Value(x)]);
    }
    let (mut begin, mut end) = (vec![0; rank], vec![0; rank]);
    for (index, &axis) in axes.iter().enumerate() {
        for (pad, &number) in [
            (&mut begin[axis], &pads[index]),
            (&mut end[axis], &pads[index + axes.len()]),
        ] {
            *pad = i32::try_from(number).map_err(|_| {
                Error::new(number.to_string())
                    .field("pads")
                    .expected("a number of 32 bits")
            })?;
        }
    }
    let id = node.add(Op::Pad(Pad { begin, end, mode }), &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

fn block(node: &Node<'_>) -> Result<u32> {
    let block = node.attributes.int("blocksize")?.unwrap_or(0);
    u32::try_from(block)
        .ok()
        .filter(|&block| block > 0)
        .ok_or_else(|| {
            Error::new(block.to_string())
                .field("blocksize")
                .expected("1 or more")
        })
}

pub(super) fn depth_to_space(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let block = block(node)?;
    let order = node.attributes.choice(
        "mode",
        &[("DCR", DepthOrder::Dcr), ("CRD", DepthOrder::Crd)],
    )?;
    let id = node.add(Op::DepthToSpace { block, order }, &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

pub(super) fn space_to_depth(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let block = block(node)?;
    let order = node.attributes.choice(
        "mode",
        &[("DCR", DepthOrder::Dcr), ("CRD", DepthOrder::Crd)],
    )?;
    let id = node.add(Op::SpaceToDepth { block }, &[x.id])?;
    let y = Value { id, ..x };
    if order == DepthOrder::Dcr {
        return Ok(vec![Known::Value(y)]);
    }
    // The places within a block come last instead of first.
    let (channels, places) = (node.shape(x.id).dim(1), block.saturating_mul(block));
    skimjit_host::memory::check(4 * u64::from(channels) * u64::from(places))?;
    let indices = (0..channels).flat_map(|c| (0..places).map(move |place| place * channels + c));
    let indices = indices.collect();
    Ok(vec![Known::Value(gather_axis(node, y, 1, indices)?)])
}

/// A sum along an axis of everything up to each element.
pub(super) fn cum_sum(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let ints = node.ints(1)?;
    let [axis] = node.numbers(&ints)[..] else {
        return Err(Error::new("several axes").field("input[1]").expected("one"));
    };
    let op = Op::CumSum {
        axis: node.axis(x.id, axis, "axis")? as u32,
        exclusive: node.attributes.flag("exclusive", false)?,
        reverse: node.attributes.flag("reverse", false)?,
    };
    let id = node.add(op, &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}

/// Kinds of results that are integers.
pub(super) fn integers(id: skimjit_models::ValueId) -> Known {
    Known::Value(Value {
        id,
        kind: Kind::Int,
    })
}
