//! Eltwise, Scale, Bias.

use super::layer::{Layer, param};
use super::store::Wanted;
use crate::proto::eltwise_parameter::EltwiseOp as Operation;
use skimjit_models::ops::{Eltwise, EltwiseOp, PostOps, Scale};
use skimjit_models::{Op, Result, Shape};

/// Eltwise.
pub(super) fn eltwise(layer: &mut Layer<'_>) -> Result<()> {
    let eltwise = param(&layer.def.eltwise_param);
    let (operation, coeff) = (eltwise.operation(), eltwise.coeff);
    let first = layer.shape(0);
    for index in 1..layer.inputs.len() {
        let shape = layer.shape(index);
        if shape != first {
            return Err(layer
                .fault(&format!("bottom[{index}]"), format!("shape {shape}"))
                .expected(format!("{first}, as bottom[0] has")));
        }
    }
    if !coeff.is_empty() && (operation != Operation::Sum || coeff.len() != layer.inputs.len()) {
        return Err(layer
            .fault(
                "eltwise_param.coeff",
                format!("{} coefficients", coeff.len()),
            )
            .expected("none, or one per bottom of a SUM"));
    }
    let op = match operation {
        Operation::Prod => EltwiseOp::Product,
        Operation::Max => EltwiseOp::Max,
        Operation::Sum if coeff.is_empty() => EltwiseOp::Sum {
            coefficients: vec![1.0; layer.inputs.len()],
        },
        Operation::Sum => EltwiseOp::Sum {
            coefficients: coeff,
        },
    };
    layer.node(Op::Eltwise(Eltwise {
        op,
        post: PostOps::default(),
    }))
}

/// Scale: the factor is learned, or the second bottom.
pub(super) fn scale(layer: &mut Layer<'_>) -> Result<()> {
    let scale = param(&layer.def.scale_param);
    let (axis, factor) = broadcast(layer, "scale_param", scale.axis(), scale.num_axes())?;
    let learned = layer.inputs.len() == 1;
    let mut expected = Vec::new();
    if learned {
        expected.push(Wanted::or_value(factor.clone(), scale.filler.clone(), 1.0));
    }
    if scale.bias_term() {
        expected.push(Wanted::new(factor, scale.bias_filler.clone()));
    }
    let mut ids = layer.weights(&expected)?.into_iter();
    let scale = if learned { ids.next() } else { None };
    layer.node(Op::Scale(Scale {
        axis,
        scale,
        bias: ids.next(),
        add_operand: false,
    }))
}

/// Bias: the offset is learned, or the second bottom.
pub(super) fn bias(layer: &mut Layer<'_>) -> Result<()> {
    let bias = param(&layer.def.bias_param);
    let (axis, offset) = broadcast(layer, "bias_param", bias.axis(), bias.num_axes())?;
    let add_operand = layer.inputs.len() == 2;
    let expected = if add_operand {
        Vec::new()
    } else {
        vec![Wanted::new(offset, bias.filler)]
    };
    let bias = layer.weights(&expected)?.first().copied();
    layer.node(Op::Scale(Scale {
        axis,
        scale: None,
        bias,
        add_operand,
    }))
}

/// First axis and dims of the factor or offset: the second operand's, or those of the first from
/// `axis` on.
fn broadcast(layer: &Layer<'_>, message: &str, axis: i32, num_axes: i32) -> Result<(u32, Shape)> {
    let input = layer.shape(0);
    let field = format!("{message}.axis");
    if layer.inputs.len() == 2 {
        let second = layer.shape(1);
        let axis = if second.rank() == 0 {
            0
        } else {
            layer.axis(&field, axis, &input)?
        };
        let end = axis as usize + second.rank();
        if second.rank() > 0 && input.dims().get(axis as usize..end) != Some(second.dims()) {
            return Err(layer
                .fault("bottom[1]", format!("shape {second}"))
                .expected(format!("the dims of {input} from axis {axis} on")));
        }
        return Ok((axis, second));
    }
    let axis = layer.axis(&field, axis, &input)?;
    let rest = input.dims().get(axis as usize..).unwrap_or_default();
    let taken = if num_axes == -1 {
        Some(rest.len())
    } else {
        usize::try_from(num_axes).ok()
    };
    let dims = taken.and_then(|taken| rest.get(..taken)).ok_or_else(|| {
        layer
            .fault(&format!("{message}.num_axes"), num_axes.to_string())
            .expected(format!(
                "-1 to {}, the axes from axis {axis} on",
                rest.len()
            ))
    })?;
    Ok((axis, Shape::new(dims)?))
}
