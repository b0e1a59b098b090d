//! Attributes of convolutions and poolings.

use super::node::Node;
use crate::constant::Source;
use skimjit_models::ops::Reshape;
use skimjit_models::ops::Window;
use skimjit_models::{Error, Op, Result, ValueId, Weight};

/// How the pads are said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// By the attribute `pads`.
    No,
    Valid,
    /// As many outputs as strides fit into the input; an odd pad goes to the end.
    Upper,
    /// The same; an odd pad goes to the beginning.
    Lower,
}

pub(super) fn auto_pad(node: &Node<'_>) -> Result<AutoPad> {
    let auto = node.attributes.choice(
        "auto_pad",
        &[
            ("NOTSET", AutoPad::No),
            ("VALID", AutoPad::Valid),
            ("SAME_UPPER", AutoPad::Upper),
            ("SAME_LOWER", AutoPad::Lower),
        ],
    )?;
    match (auto, node.attributes.ints("pads")?) {
        (AutoPad::No, _) | (_, None) => Ok(auto),
        // Exporters write zeros beside it.
        (_, Some(pads)) if pads.iter().all(|&pad| pad == 0) => Ok(auto),
        (_, Some(_)) => Err(Error::new("pads and auto_pad")
            .field("pads")
            .expected("one of both")),
    }
}

/// Strides, dilations and pads for kernels of one or two axes; of one axis, it is the second.
pub(super) fn window(node: &mut Node<'_>, x: ValueId, kernel: &[u32]) -> Result<Window> {
    let mut window = Window {
        kernel: planar(kernel, 1),
        ..Window::square(1, 1, 0)
    };
    let axes = kernel.len();
    window.stride = planar(&steps(node, "strides", axes, 1)?, 1);
    window.dilation = planar(&steps(node, "dilations", axes, 1)?, 1);
    match auto_pad(node)? {
        AutoPad::No => {
            let pads = steps(node, "pads", 2 * axes, 0)?;
            window.pad_begin = planar(&pads[..axes], 0);
            window.pad_end = planar(&pads[axes..], 0);
        }
        AutoPad::Valid => {}
        auto => pad_same(node, x, &mut window, auto),
    }
    Ok(window)
}

/// The pads of `SAME_UPPER` and `SAME_LOWER`: the outputs are the inputs over the stride, rounded up.
fn pad_same(node: &mut Node<'_>, x: ValueId, window: &mut Window, auto: AutoPad) {
    let sizes = *node.shape(x).dims().last_chunk::<2>().unwrap_or(&[1, 1]);
    for (axis, &size) in sizes.iter().enumerate() {
        let (size, stride) = (i64::from(size), i64::from(window.stride[axis].max(1)));
        let outputs = (size + stride - 1) / stride;
        let extent = i64::from(window.dilation[axis]) * (i64::from(window.kernel[axis]) - 1) + 1;
        let pads = ((outputs - 1) * stride + extent - size).max(0) as u32;
        let (small, large) = (pads / 2, pads - pads / 2);
        [window.pad_begin[axis], window.pad_end[axis]] = match auto {
            AutoPad::Lower => [large, small],
            _ => [small, large],
        };
        if stride > 1 {
            node.from = node.from.max(Source::Sizes);
        }
    }
}

/// A list of sizes of one attribute, `default` where it is missing.
pub(super) fn steps(node: &Node<'_>, name: &str, count: usize, default: u32) -> Result<Vec<u32>> {
    let Some(found) = node.attributes.ints(name)? else {
        return Ok(vec![default; count]);
    };
    if found.len() != count {
        return Err(Error::new(format!("{} numbers", found.len()))
            .field(name)
            .expected(format!("{count}")));
    }
    let step = |&value: &i64| {
        u32::try_from(value).map_err(|_| {
            Error::new(value.to_string())
                .field(name)
                .expected("sizes, not negative")
        })
    };
    found.iter().map(step).collect()
}

/// Values for two axes of those for one or two.
pub(super) fn planar(values: &[u32], first: u32) -> [u32; 2] {
    match *values {
        [one] => [first, one],
        [one, two, ..] => [one, two],
        [] => [first; 2],
    }
}

/// An image of an operand with one or two axes behind the channels: one axis becomes the width.
pub(super) fn image(node: &mut Node<'_>, x: ValueId) -> Result<ValueId> {
    match node.rank(x) {
        4 => Ok(x),
        3 => {
            let height = Reshape {
                dims: vec![1],
                axis: 2,
                num_axes: 0,
            };
            node.add(Op::Reshape(height), &[x])
        }
        rank => Err(Error::new(format!("{rank} axes ({})", node.shape(x)))
            .field("input[0]")
            .expected("3 or 4: N, C and one or two of space")),
    }
}

/// The result for an operand whose [`image`] gave `y`.
pub(super) fn like(node: &mut Node<'_>, x: ValueId, y: ValueId) -> Result<ValueId> {
    if node.rank(x) == 4 {
        return Ok(y);
    }
    let height = Reshape {
        dims: Vec::new(),
        axis: 2,
        num_axes: 1,
    };
    node.add(Op::Reshape(height), &[y])
}

/// Weights with other dims, which have the same elements and the same first axis.
pub(super) fn reshaped(weight: &Weight, dims: &[u32]) -> Result<Weight> {
    let shape = skimjit_models::Shape::new(dims)?;
    Ok(match weight.elements() {
        Some(elements) => Weight::sparse(shape, elements.clone()),
        None => Weight::dense(shape, weight.data().to_vec()),
    })
}
