//! Layers that move elements: Concat, Slice, Split, Flatten, Reshape, Permute, Crop, Tile; and
//! those that choose or sum them: ArgMax, Reduction.

use super::layer::{Layer, param};
use crate::proto::reduction_parameter::ReductionOp as Operation;
use skimjit_models::ops::{ArgMax, Crop, Reduction, ReductionOp, Reshape, Slice};
use skimjit_models::{Op, Result, Shape};

/// Axis of Concat and Slice, whose old fields count from the front only.
fn part_axis(
    layer: &Layer<'_>,
    [old_field, field]: [&str; 2],
    old: Option<u32>,
    axis: Option<i32>,
    shape: &Shape,
) -> Result<u32> {
    match (old, axis) {
        (Some(_), Some(_)) => Err(layer
            .fault(field, format!("{field} together with {old_field}"))
            .expected("one or the other")),
        (Some(old), None) => layer.axis(old_field, i32::try_from(old).unwrap_or(i32::MAX), shape),
        (None, axis) => layer.axis(field, axis.unwrap_or(1), shape),
    }
}

/// Concat.
pub(super) fn concat(layer: &mut Layer<'_>) -> Result<()> {
    let concat = param(&layer.def.concat_param);
    let fields = ["concat_param.concat_dim", "concat_param.axis"];
    let axis = part_axis(
        layer,
        fields,
        concat.concat_dim,
        concat.axis,
        &layer.shape(0),
    )?;
    layer.node(Op::Concat { axis })
}

/// Slice: one node per top.
pub(super) fn slice(layer: &mut Layer<'_>) -> Result<()> {
    let slice = param(&layer.def.slice_param);
    let input = layer.shape(0);
    let fields = ["slice_param.slice_dim", "slice_param.axis"];
    let axis = part_axis(layer, fields, slice.slice_dim, slice.axis, &input)?;
    let bounds = slice_bounds(layer, input.dim(axis as usize), &slice.slice_point)?;
    let source = layer.inputs[0];
    for (index, ends) in bounds.windows(2).enumerate() {
        let op = Slice {
            axis,
            begin: ends[0],
            end: ends[1],
        };
        layer.top(index, Op::Slice(op), vec![source])?;
    }
    Ok(())
}

/// Ends of the parts: 0, the slice points, the whole.
fn slice_bounds(layer: &Layer<'_>, dim: u32, points: &[u32]) -> Result<Vec<u32>> {
    let tops = layer.tops() as u32;
    let fault = |found: String| layer.fault("slice_param.slice_point", found);
    if points.is_empty() {
        if !dim.is_multiple_of(tops) {
            return Err(fault("nothing".to_owned()).expected(format!(
                "slice points, as {dim} elements do not divide by {tops} tops"
            )));
        }
        return Ok((0..=tops).map(|part| part * (dim / tops)).collect());
    }
    if points.len() + 1 != layer.tops() {
        return Err(fault(format!("{} points", points.len()))
            .expected(format!("{}, one less than tops", tops - 1)));
    }
    let bounds: Vec<u32> = std::iter::once(0)
        .chain(points.iter().copied())
        .chain([dim])
        .collect();
    if bounds.windows(2).any(|ends| ends[0] >= ends[1]) {
        return Err(
            fault(format!("{points:?}")).expected(format!("ascending points between 0 and {dim}"))
        );
    }
    Ok(bounds)
}

/// Split: one copy per top.
pub(super) fn split(layer: &mut Layer<'_>) -> Result<()> {
    let source = layer.inputs[0];
    (0..layer.tops()).try_for_each(|top| layer.top(top, Op::Identity, vec![source]).map(drop))
}

/// Silence uses its operands up.
pub(super) fn silence(_layer: &mut Layer<'_>) -> Result<()> {
    Ok(())
}

/// Flatten.
pub(super) fn flatten(layer: &mut Layer<'_>) -> Result<()> {
    let flatten = param(&layer.def.flatten_param);
    let input = layer.shape(0);
    let axis = layer.axis("flatten_param.axis", flatten.axis(), &input)?;
    let end_axis = layer.axis("flatten_param.end_axis", flatten.end_axis(), &input)?;
    layer.node(Op::Flatten { axis, end_axis })
}

/// Reshape.
pub(super) fn reshape(layer: &mut Layer<'_>) -> Result<()> {
    let reshape = param(&layer.def.reshape_param);
    let (axis, num_axes) = (reshape.axis(), reshape.num_axes());
    let Some(shape) = reshape.shape else {
        return Err(layer
            .fault("reshape_param.shape", "nothing")
            .expected("dims"));
    };
    layer.node(Op::Reshape(Reshape {
        dims: shape.dim,
        axis,
        num_axes,
    }))
}

/// Permute: axes that the order leaves out follow in their old order.
pub(super) fn permute(layer: &mut Layer<'_>) -> Result<()> {
    let mut order = param(&layer.def.permute_param).order;
    for axis in 0..layer.shape(0).rank() as u32 {
        if !order.contains(&axis) {
            order.push(axis);
        }
    }
    layer.node(Op::Permute { order })
}

/// Crop.
pub(super) fn crop(layer: &mut Layer<'_>) -> Result<()> {
    let crop = param(&layer.def.crop_param);
    let axis = layer.axis("crop_param.axis", crop.axis(), &layer.shape(0))?;
    layer.node(Op::Crop(Crop {
        axis,
        offset: crop.offset,
    }))
}

/// Tile.
pub(super) fn tile(layer: &mut Layer<'_>) -> Result<()> {
    let tile = param(&layer.def.tile_param);
    let axis = layer.axis("tile_param.axis", tile.axis(), &layer.shape(0))?;
    let tiles = match tile.tiles.map(u32::try_from) {
        Some(Err(_)) => {
            return Err(layer
                .fault("tile_param.tiles", tile.tiles().to_string())
                .expected("at least 1"));
        }
        Some(Ok(tiles)) => Some(tiles),
        None => None,
    };
    let tiles = layer.positive("tile_param.tiles", tiles)?;
    layer.node(Op::Tile { axis, tiles })
}

/// ArgMax.
pub(super) fn arg_max(layer: &mut Layer<'_>) -> Result<()> {
    let arg_max = param(&layer.def.argmax_param);
    let top_k = layer.positive("argmax_param.top_k", Some(arg_max.top_k()))?;
    let (out_max_val, axis) = (arg_max.out_max_val(), arg_max.axis);
    layer.node(Op::ArgMax(ArgMax {
        top_k,
        out_max_val,
        axis,
    }))
}

/// Reduction.
pub(super) fn reduction(layer: &mut Layer<'_>) -> Result<()> {
    let reduction = param(&layer.def.reduction_param);
    let op = match reduction.operation() {
        Operation::Sum => ReductionOp::Sum,
        Operation::Asum => ReductionOp::AbsSum,
        Operation::Sumsq => ReductionOp::SumOfSquares,
        Operation::Mean => ReductionOp::Mean,
    };
    let (axis, coeff) = (reduction.axis(), reduction.coeff());
    layer.node(Op::Reduction(Reduction { op, axis, coeff }))
}
