//! Elements in other places and under other shapes.

use super::writer::{Value, Writer};
use Value::{Float, Int, Ints, Text};
use skimjit_models::ops::{
    Coordinates, Crop, DepthOrder, Gather, NearestRounding, Pad, PadMode, Reshape, Resize,
    ResizeMethod, ResizeSize, Slice,
};
use skimjit_models::{Error, Node, Result};

pub(super) fn concat(to: &mut Writer<'_>, axis: u32, node: &Node) -> String {
    let names: Vec<String> = (0..node.inputs.len())
        .map(|index| to.operand(node, index))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    to.add("Concat", &names, &[("axis", Int(axis.into()))])
}

fn part(to: &mut Writer<'_>, axis: i64, begin: i64, end: i64, x: &str) -> String {
    let [begin, end, axis] = [begin, end, axis].map(|number| to.ints(&[number]));
    to.add("Slice", &[x, &begin, &end, &axis], &[])
}

pub(super) fn slice(to: &mut Writer<'_>, op: &Slice, x: &str) -> String {
    part(to, op.axis.into(), op.begin.into(), op.end.into(), x)
}

pub(super) fn crop(to: &mut Writer<'_>, op: &Crop, node: &Node, x: &str) -> String {
    let (before, after) = (
        to.graph.shape(node.inputs[0]).clone(),
        to.graph.shape(node.output).clone(),
    );
    let mut y = x.to_owned();
    for axis in op.axis as usize..before.rank() {
        let offset = match op.offset.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(axis - op.axis as usize).copied().unwrap_or(0),
        };
        if before.dim(axis) != after.dim(axis) {
            let begin = i64::from(offset);
            y = part(
                to,
                axis as i64,
                begin,
                begin + i64::from(after.dim(axis)),
                &y,
            );
        }
    }
    match y == x {
        true => to.add("Identity", &[x], &[]),
        false => y,
    }
}

/// A Reshape to dims of which the first are copied; sizes of the axes behind the change are those of the graph.
pub(super) fn flatten(
    to: &mut Writer<'_>,
    axis: u32,
    end_axis: u32,
    node: &Node,
    x: &str,
) -> String {
    let shape = to.graph.shape(node.inputs[0]).clone();
    if axis == 1 && end_axis as usize + 1 == shape.rank() {
        return to.add("Flatten", &[x], &[("axis", Int(1))]);
    }
    let mut dims = vec![0; axis as usize];
    dims.push(-1);
    dims.extend(
        shape.dims()[end_axis as usize + 1..]
            .iter()
            .map(|&dim| i64::from(dim)),
    );
    let dims = to.ints(&dims);
    to.add("Reshape", &[x, &dims], &[])
}

pub(super) fn reshape(to: &mut Writer<'_>, op: &Reshape, node: &Node, x: &str) -> String {
    let shape = to.graph.shape(node.inputs[0]).clone();
    let rank = shape.rank() as i64;
    let axis = i64::from(op.axis);
    let begin = if axis < 0 { axis + rank + 1 } else { axis } as usize;
    let end = match op.num_axes {
        -1 => rank as usize,
        axes => begin + axes as usize,
    };
    let mut dims: Vec<i64> = vec![0; begin];
    // A 0 copies the operand's axis of the same place here and there.
    dims.extend(&op.dims);
    let has_rest = op.dims.contains(&-1);
    let behind = shape.dims()[end..].iter().enumerate();
    let moved = begin + op.dims.len() != end;
    dims.extend(behind.map(|(index, &dim)| match moved {
        false => 0,
        // One axis may be what is left, so that it can have another size.
        true if index == 0 && !has_rest => -1,
        true => i64::from(dim),
    }));
    let dims = to.ints(&dims);
    to.add("Reshape", &[x, &dims], &[])
}

pub(super) fn permute(to: &mut Writer<'_>, order: &[u32], x: &str) -> String {
    let order = order.iter().map(|&axis| axis.into()).collect();
    to.add("Transpose", &[x], &[("perm", Ints(order))])
}

pub(super) fn tile(to: &mut Writer<'_>, axis: u32, tiles: u32, rank: usize, x: &str) -> String {
    let mut repeats = vec![1; rank];
    repeats[axis as usize] = tiles.into();
    let repeats = to.ints(&repeats);
    to.add("Tile", &[x, &repeats], &[])
}

pub(super) fn expand(to: &mut Writer<'_>, dims: &[u32], x: &str) -> String {
    let dims: Vec<i64> = dims.iter().map(|&dim| dim.into()).collect();
    let dims = to.ints(&dims);
    to.add("Expand", &[x, &dims], &[])
}

pub(super) fn pad(to: &mut Writer<'_>, op: &Pad, x: &str) -> String {
    let pads: Vec<i64> = op
        .begin
        .iter()
        .chain(&op.end)
        .map(|&pad| pad.into())
        .collect();
    let pads = to.ints(&pads);
    let (mode, value) = match op.mode {
        PadMode::Constant { value } => ("constant", to.number(value)),
        PadMode::Reflect => ("reflect", String::new()),
        PadMode::Edge => ("edge", String::new()),
        PadMode::Wrap => ("wrap", String::new()),
    };
    to.add("Pad", &[x, &pads, &value], &[("mode", Text(mode))])
}

pub(super) fn gather(to: &mut Writer<'_>, op: &Gather, x: &str) -> String {
    let indices: Vec<i64> = op.indices.iter().map(|&index| index.into()).collect();
    let indices = to.ints(&indices);
    to.add("Gather", &[x, &indices], &[("axis", Int(op.axis.into()))])
}

pub(super) fn depth_to_space(
    to: &mut Writer<'_>,
    block: u32,
    order: DepthOrder,
    x: &str,
) -> String {
    let mode = match order {
        DepthOrder::Dcr => "DCR",
        DepthOrder::Crd => "CRD",
    };
    to.add(
        "DepthToSpace",
        &[x],
        &[("blocksize", Int(block.into())), ("mode", Text(mode))],
    )
}

pub(super) fn space_to_depth(to: &mut Writer<'_>, block: u32, x: &str) -> String {
    to.add("SpaceToDepth", &[x], &[("blocksize", Int(block.into()))])
}

pub(super) fn resize(to: &mut Writer<'_>, op: &Resize, x: &str) -> Result<String> {
    let coordinates = match op.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::TfCropAndResize => "tf_crop_and_resize",
    };
    let mut attributes = vec![
        ("coordinate_transformation_mode", Text(coordinates)),
        ("antialias", Int(op.antialias.into())),
        ("exclude_outside", Int(op.exclude_outside.into())),
        ("extrapolation_value", Float(op.extrapolation)),
        (
            "axes",
            Ints(op.axes.iter().map(|one| one.axis.into()).collect()),
        ),
    ];
    match op.method {
        ResizeMethod::Nearest(rounding) => {
            let rounding = match rounding {
                NearestRounding::RoundPreferFloor => "round_prefer_floor",
                NearestRounding::RoundPreferCeil => "round_prefer_ceil",
                NearestRounding::Floor => "floor",
                NearestRounding::Ceil => "ceil",
            };
            attributes.extend([("mode", Text("nearest")), ("nearest_mode", Text(rounding))]);
        }
        ResizeMethod::Linear => attributes.push(("mode", Text("linear"))),
        ResizeMethod::Cubic { a } => {
            attributes.extend([("mode", Text("cubic")), ("cubic_coeff_a", Float(a))]);
        }
    }
    let roi = match op.coordinates {
        Coordinates::TfCropAndResize => {
            let ends = [0, 1]
                .into_iter()
                .flat_map(|end| op.axes.iter().map(move |one| one.roi[end]));
            let ends: Vec<f32> = ends.collect();
            to.floats(&[ends.len() as i64], &ends)
        }
        _ => String::new(),
    };
    let scales = op.axes.iter().map(|one| match one.size {
        ResizeSize::Scale(scale) => Some(scale),
        ResizeSize::Size(_) => None,
    });
    let scales: Option<Vec<f32>> = scales.collect();
    let sizes = op.axes.iter().map(|one| match one.size {
        ResizeSize::Size(size) => Some(i64::from(size)),
        ResizeSize::Scale(_) => None,
    });
    let sizes: Option<Vec<i64>> = sizes.collect();
    Ok(match (scales, sizes) {
        (Some(scales), _) => {
            let scales = to.floats(&[scales.len() as i64], &scales);
            to.add("Resize", &[x, &roi, &scales], &attributes)
        }
        (None, Some(sizes)) => {
            let sizes = to.ints(&sizes);
            to.add("Resize", &[x, &roi, "", &sizes], &attributes)
        }
        _ => {
            return Err(
                Error::new("scales of some axes and sizes of others").expected("one of both")
            );
        }
    })
}
