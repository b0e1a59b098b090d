//! Convolutions and poolings with three axes of space, made of those with two and one.

use super::build::Known;
use super::node::{Node, floats};
use super::window::steps;
use crate::constant::Source;
use skimjit_models::ops::{
    Convolution, Eltwise, EltwiseOp, Gather, Pad, PadMode, Pooling, PostOps, Reshape, Window,
};
use skimjit_models::{Error, Op, Result, ValueId, Weight, WeightId};
use std::sync::Arc;

/// Axes of an operand: batch, channels, depth, height, width.
pub(super) const RANK: usize = 5;

/// Stride, dilation and pads of one axis.
#[derive(Clone, Copy)]
struct Steps {
    stride: u32,
    dilation: u32,
    pads: [u32; 2],
}

/// The kernel's steps along depth, height and width.
fn axes(node: &Node<'_>) -> Result<[Steps; 3]> {
    if node.attributes.text("auto_pad", "NOTSET")? != "NOTSET" {
        return Err(Error::new("pads by a rule, for three axes")
            .field("auto_pad")
            .expected("NOTSET and pads"));
    }
    let (strides, dilations) = (
        steps(node, "strides", 3, 1)?,
        steps(node, "dilations", 3, 1)?,
    );
    let pads = steps(node, "pads", 6, 0)?;
    Ok([0, 1, 2].map(|axis| Steps {
        stride: strides[axis],
        dilation: dilations[axis],
        pads: [pads[axis], pads[axis + 3]],
    }))
}

/// A window over two axes.
fn window(kernel: [u32; 2], steps: [Steps; 2]) -> Window {
    Window {
        kernel,
        stride: steps.map(|one| one.stride),
        pad_begin: steps.map(|one| one.pads[0]),
        pad_end: steps.map(|one| one.pads[1]),
        dilation: steps.map(|one| one.dilation),
    }
}

/// A convolution: for each tap along the depth, one of two axes over the planes that it reads; then their sum.
pub(super) fn conv(node: &mut Node<'_>, bias: Option<WeightId>, groups: u32) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let weights = node.weights(1)?;
    let &[oc, ic, kd, kh, kw] = weights.shape().dims() else {
        return Err(Error::new(format!("weights of dims {}", weights.shape()))
            .field("input[1]")
            .expected("5 axes, like the input"));
    };
    let [depth, height, width] = axes(node)?;
    let planes = outputs(node, x, kd, depth)?;
    let pad = |pads: u32| vec![0, 0, pads as i32, 0, 0];
    let padded = match depth.pads {
        [0, 0] => x,
        [begin, end] => {
            let mode = PadMode::Constant { value: 0.0 };
            let (begin, end) = (pad(begin), pad(end));
            node.add(Op::Pad(Pad { begin, end, mode }), &[x])?
        }
    };
    node.from = node.from.max(Source::Sizes);
    let mut parts = Vec::new();
    for tap in 0..kd {
        let indices = (0..planes).map(|plane| plane * depth.stride + tap * depth.dilation);
        let gather = Gather {
            axis: 2,
            indices: indices.collect(),
        };
        let read = node.add(Op::Gather(gather), &[padded])?;
        let order = vec![0, 2, 1, 3, 4];
        let read = node.add(Op::Permute { order }, &[read])?;
        let (axis, end_axis) = (0, 1);
        let images = node.add(Op::Flatten { axis, end_axis }, &[read])?;
        let weights = tap_of(&weights, [oc * ic, kd, kh * kw], tap, [oc, ic, kh, kw])?;
        let convolution = Convolution {
            window: window([kh, kw], [height, width]),
            oc,
            groups,
            weights: node.build.weight(&Arc::new(weights)),
            bias: bias.filter(|_| tap == 0),
            post: PostOps::default(),
        };
        parts.push(node.add(Op::Convolution(convolution), &[images])?);
    }
    let sum = match parts[..] {
        [only] => only,
        _ => {
            let op = EltwiseOp::Sum {
                coefficients: vec![1.0; parts.len()],
            };
            let post = PostOps::default();
            node.add(Op::Eltwise(Eltwise { op, post }), &parts)?
        }
    };
    let volumes = Reshape {
        dims: vec![-1, planes.into()],
        axis: 0,
        num_axes: 1,
    };
    let volumes = node.add(Op::Reshape(volumes), &[sum])?;
    let order = vec![0, 2, 1, 3, 4];
    node.result(Op::Permute { order }, &[volumes])
}

/// Planes of the result.
fn outputs(node: &Node<'_>, x: ValueId, kernel: u32, depth: Steps) -> Result<u32> {
    let window = Window {
        kernel: [kernel, 1],
        stride: [depth.stride, 1],
        pad_begin: [depth.pads[0], 0],
        pad_end: [depth.pads[1], 0],
        dilation: [depth.dilation, 1],
    };
    window.output_size(0, node.shape(x).dim(2))
}

/// One tap along the middle axis of a weight of so many elements along three.
fn tap_of(
    weights: &Weight,
    [outer, taps, inner]: [u32; 3],
    tap: u32,
    dims: [u32; 4],
) -> Result<Weight> {
    let data = weights.data();
    let (taps, inner) = (taps as usize, inner as usize);
    let rows = 0..outer as usize;
    let part = rows.flat_map(|row| &data[(row * taps + tap as usize) * inner..][..inner]);
    let shape = skimjit_models::Shape::new(dims)?;
    Ok(Weight::dense(shape, part.copied().collect()))
}

/// A pooling: over height and width, then over the depth.
pub(super) fn pool(node: &mut Node<'_>, pooling: &Pooling) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    let kernel = steps(node, "kernel_shape", 3, 1)?;
    let [depth, height, width] = axes(node)?;
    let dims = |node: &Node<'_>, id: ValueId, axis: usize| -> Vec<i64> {
        node.shape(id).dims()[axis..axis + 2]
            .iter()
            .map(|&dim| i64::from(dim))
            .collect()
    };
    node.from = node.from.max(Source::Sizes);
    let (before, channels) = (
        Op::Flatten {
            axis: 1,
            end_axis: 2,
        },
        dims(node, x, 1),
    );
    let planes = node.add(before, &[x])?;
    let over_planes = Pooling {
        window: window([kernel[1], kernel[2]], [height, width]),
        ..pooling.clone()
    };
    let planes = node.add(Op::Pooling(over_planes), &[planes])?;
    let sizes = dims(node, planes, 2);
    let volume = whole(node, planes, channels, 1)?;
    let columns = node.add(
        Op::Flatten {
            axis: 3,
            end_axis: 4,
        },
        &[volume],
    )?;
    let one = Steps {
        stride: 1,
        dilation: 1,
        pads: [0; 2],
    };
    let over_depth = Pooling {
        window: window([kernel[0], 1], [depth, one]),
        ..pooling.clone()
    };
    let columns = node.add(Op::Pooling(over_depth), &[columns])?;
    Ok(floats(whole(node, columns, sizes, 3)?))
}

/// Makes two axes of one.
fn whole(node: &mut Node<'_>, id: ValueId, dims: Vec<i64>, axis: i32) -> Result<ValueId> {
    let reshape = Reshape {
        dims,
        axis,
        num_axes: 1,
    };
    node.add(Op::Reshape(reshape), &[id])
}

/// A pooling over everything: the height and the width are one axis.
pub(super) fn global(node: &mut Node<'_>, x: ValueId, pooling: Pooling) -> Result<Vec<Known>> {
    let (axis, end_axis) = (3, 4);
    let plane = node.add(Op::Flatten { axis, end_axis }, &[x])?;
    let y = node.add(Op::Pooling(pooling), &[plane])?;
    Ok(floats(whole(node, y, vec![1, 1], 3)?))
}
