//! Conv and ConvTranspose.

use super::build::Known;
use super::node::{Node, floats};
use super::volume;
use super::window::{AutoPad, auto_pad, image, like, planar, reshaped, steps, window};
use crate::constant::Source;
use skimjit_models::ops::{Convolution, Pad, PadMode, PostOps, Window};
use skimjit_models::{Error, Op, Result, ValueId, Weight, WeightId};
use std::sync::Arc;

/// What both kinds read alike.
struct Parts {
    x: ValueId,
    /// With one axis of space made two.
    image: ValueId,
    weights: WeightId,
    kernel: Vec<u32>,
    /// Dims of the weights: the first two.
    channels: [u32; 2],
    groups: u32,
}

fn parts(node: &mut Node<'_>) -> Result<Parts> {
    let x = node.float(0)?;
    let image = image(node, x)?;
    let weight = node.weights(1)?;
    let dims = weight.shape().dims().to_vec();
    if dims.len() != node.rank(x) {
        return Err(Error::new(format!("weights of dims {}", weight.shape()))
            .field("input[1]")
            .expected(format!("{} axes, like the input", node.rank(x))));
    }
    let kernel = dims[2..].to_vec();
    if let Some(said) = node.attributes.ints("kernel_shape")?
        && !said
            .iter()
            .copied()
            .eq(kernel.iter().map(|&size| i64::from(size)))
    {
        return Err(Error::new(format!("{said:?}"))
            .field("kernel_shape")
            .expected(format!("{kernel:?}, as the weights have")));
    }
    let groups = groups(node)?;
    let weights = match kernel.len() {
        1 => planar_weights(node, &weight, &dims)?,
        _ => node.build.weight(&weight),
    };
    Ok(Parts {
        x,
        image,
        weights,
        kernel,
        channels: [dims[0], dims[1]],
        groups,
    })
}

fn groups(node: &Node<'_>) -> Result<u32> {
    let groups = node.attributes.int("group")?.unwrap_or(1);
    u32::try_from(groups).map_err(|_| {
        Error::new(groups.to_string())
            .field("group")
            .expected("1 or more")
    })
}

fn planar_weights(node: &mut Node<'_>, weight: &Weight, dims: &[u32]) -> Result<WeightId> {
    let planar = reshaped(weight, &[dims[0], dims[1], 1, dims[2]])?;
    Ok(node.build.weight(&Arc::new(planar)))
}

/// The bias, one number for each output channel.
fn bias(node: &mut Node<'_>, outputs: u32) -> Result<Option<WeightId>> {
    if !node.has(2) {
        return Ok(None);
    }
    let bias = node.weights(2)?;
    if bias.shape().dims() != [outputs] {
        return Err(Error::new(format!("a bias of dims {}", bias.shape()))
            .field("input[2]")
            .expected(format!("{outputs}, one for each output channel"))
            .hint("some exporters write wrong ones: export again, with another version or without dynamo"));
    }
    Ok(Some(node.build.weight(&bias)))
}

pub(super) fn conv(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let x = node.float(0)?;
    if node.rank(x) == volume::RANK {
        let (groups, outputs) = (groups(node)?, node.weights(1)?.shape().dim(0));
        let bias = bias(node, outputs)?;
        return volume::conv(node, bias, groups);
    }
    let parts = parts(node)?;
    let oc = parts.channels[0];
    let convolution = Convolution {
        window: window(node, parts.image, &parts.kernel)?,
        oc,
        groups: parts.groups,
        weights: parts.weights,
        bias: bias(node, oc)?,
        post: PostOps::default(),
    };
    let y = node.add(Op::Convolution(convolution), &[parts.image])?;
    Ok(floats(like(node, parts.x, y)?))
}

pub(super) fn conv_transpose(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let parts = parts(node)?;
    let oc = parts.channels[1].saturating_mul(parts.groups);
    let (window, behind) = transposed_window(node, &parts)?;
    let bias = bias(node, oc)?;
    let mut convolution = Convolution {
        window,
        oc,
        groups: parts.groups,
        weights: parts.weights,
        bias,
        post: PostOps::default(),
    };
    if behind == [0, 0] {
        let y = node.add(Op::Deconvolution(convolution), &[parts.image])?;
        return Ok(floats(like(node, parts.x, y)?));
    }
    // Outputs that no input reaches are the bias alone.
    convolution.bias = None;
    let y = node.add(Op::Deconvolution(convolution), &[parts.image])?;
    let pad = Pad {
        begin: vec![0; 4],
        end: vec![0, 0, behind[0], behind[1]],
        mode: PadMode::Constant { value: 0.0 },
    };
    let mut y = node.add(Op::Pad(pad), &[y])?;
    if bias.is_some() {
        y = node.scale(y, 1, None, bias)?;
    }
    Ok(floats(like(node, parts.x, y)?))
}

/// The window, and how many outputs lie behind those that it gives.
fn transposed_window(node: &mut Node<'_>, parts: &Parts) -> Result<(Window, [i32; 2])> {
    let axes = parts.kernel.len();
    let stride = planar(&steps(node, "strides", axes, 1)?, 1);
    let dilation = planar(&steps(node, "dilations", axes, 1)?, 1);
    let extra = planar(&steps(node, "output_padding", axes, 0)?, 0);
    let auto = auto_pad(node)?;
    let mut window = Window {
        kernel: planar(&parts.kernel, 1),
        stride,
        dilation,
        ..Window::square(1, 1, 0)
    };
    let said = match node.attributes.has("output_shape") {
        true => Some(planar(&output_shape(node, axes)?, 1)),
        false => None,
    };
    let sizes = *node
        .shape(parts.image)
        .dims()
        .last_chunk::<2>()
        .unwrap_or(&[1, 1]);
    let pads = steps(node, "pads", 2 * axes, 0)?;
    let (begin, end) = (planar(&pads[..axes], 0), planar(&pads[axes..], 0));
    let mut behind = [0; 2];
    for axis in 0..2 {
        let full = |of: u32| i64::from(of);
        let extent = full(dilation[axis]) * (full(window.kernel[axis]) - 1) + 1;
        let unpadded = full(stride[axis]) * (full(sizes[axis]) - 1) + full(extra[axis]) + extent;
        let wanted = match (said, auto) {
            (Some(said), _) => Some(full(said[axis])),
            (None, AutoPad::Upper | AutoPad::Lower) => Some(full(sizes[axis]) * full(stride[axis])),
            _ => None,
        };
        let [first, last] = match wanted {
            None if auto == AutoPad::Valid => [0, 0],
            None => [full(begin[axis]), full(end[axis])],
            Some(wanted) => {
                node.from = node.from.max(Source::Sizes);
                let pads = (unpadded - wanted).max(0);
                match auto {
                    AutoPad::Upper => [pads / 2, pads - pads / 2],
                    _ => [pads - pads / 2, pads / 2],
                }
            }
        };
        // What output_padding adds is not cut off by the pad at the end, or lies behind it.
        let last = last - full(extra[axis]);
        let missing = wanted.map_or(0, |wanted| (wanted - unpadded).max(0));
        window.pad_begin[axis] = first as u32;
        window.pad_end[axis] = last.max(0) as u32;
        behind[axis] = ((-last).max(0) + missing) as i32;
    }
    Ok((window, behind))
}

/// Sizes of the output, of which some files give all axes.
fn output_shape(node: &Node<'_>, axes: usize) -> Result<Vec<u32>> {
    let said = node.attributes.ints("output_shape")?.unwrap_or_default();
    let sizes = said
        .get(said.len().saturating_sub(axes)..)
        .unwrap_or_default();
    let size = |&size: &i64| u32::try_from(size).ok().filter(|&size| size > 0);
    let sizes: Option<Vec<u32>> = sizes.iter().map(size).collect();
    sizes.filter(|sizes| sizes.len() == axes).ok_or_else(|| {
        Error::new(format!("{said:?}"))
            .field("output_shape")
            .expected(format!("{axes} sizes"))
    })
}
