//! Pooling, MKLPooling, ReLUPooling.

use super::layer::{Layer, param};
use crate::caffe::proto::PoolingParameter;
use crate::caffe::proto::pooling_parameter::{PoolMethod as Method, RoundMode};
use crate::ops::{PoolMethod, Pooling, Window};
use crate::{Op, Result, ValueId};

/// Pooling, MKLPooling.
pub(super) fn pooling(layer: &mut Layer<'_>) -> Result<()> {
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
    let pool = param(&layer.def.pooling_param);
    let method = match pool.pool() {
        Method::Max => PoolMethod::Max,
        Method::Ave => PoolMethod::Average,
        Method::Stochastic => {
            return Err(layer
                .fault("pooling_param.pool", "STOCHASTIC")
                .expected("MAX or AVE")
                .hint("stochastic pooling has no inference on a CPU"));
        }
    };
    let global = pool.global_pooling();
    let window = window(layer, &pool)?;
    let round_down = pool.round_mode() == RoundMode::Floor;
    Ok(Pooling {
        method,
        window,
        global,
        round_down,
        relu: false,
        mask: false,
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
        pad,
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
