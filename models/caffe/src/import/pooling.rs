//! Pooling, MKLPooling, ReLUPooling, SPP.

use super::layer::{Layer, param};
use crate::proto::PoolingParameter;
use crate::proto::pooling_parameter::{PoolMethod as Method, RoundMode};
use crate::proto::spp_parameter::PoolMethod as SppMethod;
use skimjit_models::ops::{
    Activation, Eltwise, EltwiseOp, PoolMethod, Pooling, PostOps, Rounding, Window,
};
use skimjit_models::{Op, Result, ValueId};

/// Pooling, MKLPooling.
pub(super) fn pooling(layer: &mut Layer<'_>) -> Result<()> {
    if param(&layer.def.pooling_param).pool() == Method::Stochastic {
        return stochastic(layer);
    }
    let op = pooling_op(layer)?;
    let input = layer.inputs[0];
    add_pooling(layer, op, input)
}

/// ReLUPooling: the running maximum starts at 0.
pub(super) fn relu_pooling(layer: &mut Layer<'_>) -> Result<()> {
    super::activation::require_zero_slope(layer)?;
    let op = relu_pooling_op(layer)?;
    let input = layer.inputs[0];
    add_pooling(layer, op, input)
}

/// Attributes of a pooling with ReLU fused.
pub(super) fn relu_pooling_op(layer: &Layer<'_>) -> Result<Pooling> {
    let op = pooling_op(layer)?;
    if op.method != PoolMethod::Max {
        return Err(layer
            .fault("pooling_param.pool", "AVE")
            .expected("MAX")
            .hint("use a ReLU layer and a Pooling layer"));
    }
    Ok(Pooling { relu: true, ..op })
}

/// Adds the pooling as first top and, when there is a second, the indices of the maxima.
pub(super) fn add_pooling(layer: &mut Layer<'_>, op: Pooling, input: ValueId) -> Result<()> {
    layer.top(0, Op::Pooling(op.clone()), vec![input])?;
    if layer.tops() < 2 {
        return Ok(());
    }
    if op.method != PoolMethod::Max {
        return Err(layer.fault("top", "2 tops of an AVE pooling").expected("1"));
    }
    layer
        .top(1, Op::Pooling(Pooling { mask: true, ..op }), vec![input])
        .map(drop)
}

fn pooling_op(layer: &Layer<'_>) -> Result<Pooling> {
    match param(&layer.def.pooling_param).pool() {
        Method::Max => plain_op(layer, PoolMethod::Max),
        Method::Ave => plain_op(layer, PoolMethod::Average),
        Method::Stochastic => Err(layer
            .fault("pooling_param.pool", "STOCHASTIC")
            .expected("MAX")),
    }
}

/// Attributes of a pooling, but for the method.
fn plain_op(layer: &Layer<'_>, method: PoolMethod) -> Result<Pooling> {
    let pool = param(&layer.def.pooling_param);
    Ok(Pooling {
        method,
        window: window(layer, &pool)?,
        global: pool.global_pooling(),
        made_for: None,
        rounding: rounding(layer, &pool)?,
        relu: false,
        mask: false,
    })
}

/// How the number of windows is rounded: what BVLC's `round_mode` says, or `ceil_mode` of forks.
fn rounding(layer: &Layer<'_>, pool: &PoolingParameter) -> Result<Rounding> {
    let by_mode = pool
        .round_mode
        .map(|_| pool.round_mode() == RoundMode::Floor);
    let by_ceil = pool.ceil_mode.map(|up| !up);
    match (by_mode, by_ceil) {
        (Some(mode), Some(ceil)) if mode != ceil => {
            let found = format!(
                "ceil_mode: {} beside round_mode: {}",
                !ceil,
                pool.round_mode().as_str_name()
            );
            Err(layer
                .fault("pooling_param.ceil_mode", found)
                .expected("one rounding: true with CEIL, or false with FLOOR"))
        }
        (mode, ceil) => match mode.or(ceil) {
            Some(true) => Ok(Rounding::Down),
            Some(false) | None => Ok(Rounding::Up),
        },
    }
}

/// Stochastic pooling. In training it draws; at test time it is, as Caffe's GPU layer has it: Σx² / (FLT_MIN + Σx) of each window,
/// the mean of its elements weighted by themselves. Averages stand for the sums, as their divisors are
/// the same.
fn stochastic(layer: &mut Layer<'_>) -> Result<()> {
    let mean = plain_op(layer, PoolMethod::Average)?;
    if mean.window.pad_begin != [0; 2] {
        return Err(layer
            .fault("pooling_param.pad", "a pad of a STOCHASTIC pooling")
            .expected("0"));
    }
    if layer.tops() > 1 {
        return Err(layer
            .fault("top", "2 tops of a STOCHASTIC pooling")
            .expected("1"));
    }
    if layer.training() {
        return layer.node(Op::Pooling(mean));
    }
    let power = |power, shift| {
        Op::Activation(Activation::Power {
            power,
            scale: 1.0,
            shift,
        })
    };
    let mean = Op::Pooling(mean);
    let input = layer.inputs[0];
    let squares = layer.hidden("squares", power(2.0, 0.0), vec![input])?;
    let squares = layer.hidden("mean of squares", mean.clone(), vec![squares])?;
    let sums = layer.hidden("mean", mean, vec![input])?;
    let inverse = layer.hidden("inverse", power(-1.0, f32::MIN_POSITIVE), vec![sums])?;
    let product = Op::Eltwise(Eltwise {
        op: EltwiseOp::Product,
        post: PostOps::default(),
    });
    layer.top(0, product, vec![squares, inverse]).map(drop)
}

/// SPP: poolings with 1, 2, 4, … windows per axis, one behind the other. A pyramid of one level stays
/// an image blob.
pub(super) fn spp(layer: &mut Layer<'_>) -> Result<()> {
    let spp = param(&layer.def.spp_param);
    let height = layer.positive("spp_param.pyramid_height", spp.pyramid_height)?;
    let method = match spp.pool() {
        SppMethod::Max => PoolMethod::Max,
        SppMethod::Ave => PoolMethod::Average,
        SppMethod::Stochastic => {
            return Err(layer
                .fault("spp_param.pool", "STOCHASTIC")
                .expected("MAX or AVE"));
        }
    };
    let input = layer.inputs[0];
    let mut parts = Vec::new();
    for level in 0..height {
        let pooling = Op::Pooling(Pooling {
            method,
            window: pyramid_window(layer, level)?,
            global: false,
            made_for: Some([layer.shape(0).dim(2), layer.shape(0).dim(3)]),
            rounding: Rounding::Up,
            relu: false,
            mask: false,
        });
        if height == 1 {
            return layer.top(0, pooling, vec![input]).map(drop);
        }
        let pooled = layer.hidden(&format!("pool{level}"), pooling, vec![input])?;
        let flatten = Op::Flatten {
            axis: 1,
            end_axis: 3,
        };
        parts.push(layer.hidden(&format!("flat{level}"), flatten, vec![pooled])?);
    }
    layer.top(0, Op::Concat { axis: 1 }, parts).map(drop)
}

/// Window of the level with 2^level of them along each axis. The last may reach behind the input, and
/// so the input is padded by half of that, rounded up, on both sides.
fn pyramid_window(layer: &Layer<'_>, level: u32) -> Result<Window> {
    let input = layer.shape(0);
    if input.rank() != 4 {
        return Err(layer
            .fault("bottom[0]", format!("shape {input}"))
            .expected("4 axes: N, C, H, W"));
    }
    let windows = 1u64.checked_shl(level).unwrap_or(0).max(1);
    let axis = |axis: usize| {
        let size = u64::from(input.dim(axis));
        let kernel = size.div_ceil(windows);
        let pad = (kernel * windows - size).div_ceil(2);
        (pad < kernel).then_some([kernel as u32, pad as u32])
    };
    let (Some([kh, pad_h]), Some([kw, pad_w])) = (axis(2), axis(3)) else {
        return Err(layer
            .fault(
                "spp_param.pyramid_height",
                format!("{windows}x{windows} windows in level {level} for an input of {input}"),
            )
            .expected("windows that are larger than their padding")
            .hint("lower pyramid_height, or enlarge the input"));
    };
    Ok(Window {
        kernel: [kh, kw],
        stride: [kh, kw],
        pad_begin: [pad_h, pad_w],
        pad_end: [pad_h, pad_w],
        dilation: [1; 2],
    })
}

fn window(layer: &Layer<'_>, pool: &PoolingParameter) -> Result<Window> {
    let stride = pair(layer, "stride", pool.stride, [pool.stride_h, pool.stride_w])?;
    let pad = pair(layer, "pad", pool.pad, [pool.pad_h, pool.pad_w])?;
    let (stride, pad) = (stride.unwrap_or([1; 2]), pad.unwrap_or([0; 2]));
    let kernel = pair(
        layer,
        "kernel_size",
        pool.kernel_size,
        [pool.kernel_h, pool.kernel_w],
    )?;
    if stride.contains(&0) {
        return Err(layer
            .fault("pooling_param.stride", "0")
            .expected("at least 1"));
    }
    if pool.global_pooling() {
        if kernel.is_some() {
            return Err(layer
                .fault(
                    "pooling_param.kernel_size",
                    "a kernel size with global_pooling",
                )
                .expected("one or the other"));
        }
        if stride != [1; 2] || pad != [0; 2] {
            return Err(layer
                .fault(
                    "pooling_param.global_pooling",
                    "a stride or pad with global_pooling",
                )
                .expected("stride 1 and pad 0"));
        }
        return Ok(Window::square(1, 1, 0));
    }
    let kernel = kernel.ok_or_else(|| {
        layer
            .fault("pooling_param.kernel_size", "nothing")
            .expected("kernel_size, kernel_h and kernel_w, or global_pooling")
    })?;
    if kernel.contains(&0) {
        return Err(layer
            .fault("pooling_param.kernel_size", "0")
            .expected("at least 1"));
    }
    if pad[0] >= kernel[0] || pad[1] >= kernel[1] {
        return Err(layer
            .fault("pooling_param.pad", format!("{}x{}", pad[0], pad[1]))
            .expected(format!("less than the kernel, {}x{}", kernel[0], kernel[1])));
    }
    Ok(Window {
        kernel,
        stride,
        pad_begin: pad,
        pad_end: pad,
        dilation: [1; 2],
    })
}

/// A quantity per axis: one value, or both the `_h` and `_w` fields; `None` when absent.
fn pair(
    layer: &Layer<'_>,
    field: &str,
    both: Option<u32>,
    [h, w]: [Option<u32>; 2],
) -> Result<Option<[u32; 2]>> {
    let name = format!("pooling_param.{field}");
    match (both, h, w) {
        (both, None, None) => Ok(both.map(|value| [value; 2])),
        (None, Some(h), Some(w)) => Ok(Some([h, w])),
        (Some(_), ..) => Err(layer
            .fault(&name, format!("{field} together with its _h and _w fields"))
            .expected("one or the other")),
        _ => Err(layer
            .fault(
                &name,
                format!("only one of the _h and _w fields of {field}"),
            )
            .expected("both")),
    }
}
