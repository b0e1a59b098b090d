//! Elementwise functions, PReLU, and layers that copy at test time.

use super::layer::{Layer, param};
use super::store::Wanted;
use skimjit_models::ops::{Activation, PRelu};
use skimjit_models::{Op, Result, Shape};

/// ReLU, MKLReLU.
pub(super) fn relu(layer: &mut Layer<'_>) -> Result<()> {
    let slope = relu_slope(layer);
    activation(layer, Activation::ReLU { slope })
}

/// ReLU6: between 0 and 6.
pub(super) fn relu6(layer: &mut Layer<'_>) -> Result<()> {
    activation(layer, Activation::Clip { min: 0.0, max: 6.0 })
}

/// `relu_param.negative_slope`.
pub(super) fn relu_slope(layer: &Layer<'_>) -> f32 {
    param(&layer.def.relu_param).negative_slope()
}

/// Refuses a slope where the fused layers have none.
pub(super) fn require_zero_slope(layer: &Layer<'_>) -> Result<()> {
    let slope = relu_slope(layer);
    if slope == 0.0 {
        return Ok(());
    }
    Err(layer
        .fault("relu_param.negative_slope", slope.to_string())
        .expected("0"))
}

/// PReLU.
pub(super) fn prelu(layer: &mut Layer<'_>) -> Result<()> {
    let input = layer.shape(0);
    if input.rank() < 2 {
        return Err(layer
            .fault("bottom[0]", format!("shape {input}"))
            .expected("2 axes or more"));
    }
    let p = param(&layer.def.prelu_param);
    let shape = if p.channel_shared() {
        Shape::new([])?
    } else {
        Shape::new([input.dim(1)])?
    };
    let ids = layer.weights(&[Wanted::or_value(shape, p.filler, 0.25)])?;
    layer.node(Op::PRelu(PRelu { slope: ids[0] }))
}

/// ELU.
pub(super) fn elu(layer: &mut Layer<'_>) -> Result<()> {
    let alpha = param(&layer.def.elu_param).alpha();
    activation(layer, Activation::Elu { alpha })
}

/// Sigmoid.
pub(super) fn sigmoid(layer: &mut Layer<'_>) -> Result<()> {
    activation(layer, Activation::Sigmoid)
}

/// TanH.
pub(super) fn tanh(layer: &mut Layer<'_>) -> Result<()> {
    activation(layer, Activation::TanH)
}

/// AbsVal.
pub(super) fn abs_val(layer: &mut Layer<'_>) -> Result<()> {
    activation(layer, Activation::AbsVal)
}

/// BNLL.
pub(super) fn bnll(layer: &mut Layer<'_>) -> Result<()> {
    activation(layer, Activation::Bnll)
}

/// Power.
pub(super) fn power(layer: &mut Layer<'_>) -> Result<()> {
    let p = param(&layer.def.power_param);
    let (power, scale, shift) = (p.power(), p.scale(), p.shift());
    activation(
        layer,
        Activation::Power {
            power,
            scale,
            shift,
        },
    )
}

/// Exp.
pub(super) fn exp(layer: &mut Layer<'_>) -> Result<()> {
    let p = param(&layer.def.exp_param);
    let (base, scale, shift) = (p.base(), p.scale(), p.shift());
    require_base(layer, "exp_param.base", base)?;
    activation(layer, Activation::Exp { base, scale, shift })
}

/// Log.
pub(super) fn log(layer: &mut Layer<'_>) -> Result<()> {
    let p = param(&layer.def.log_param);
    let (base, scale, shift) = (p.base(), p.scale(), p.shift());
    require_base(layer, "log_param.base", base)?;
    activation(layer, Activation::Log { base, scale, shift })
}

fn require_base(layer: &Layer<'_>, field: &str, base: f32) -> Result<()> {
    if base == -1.0 || base > 0.0 {
        return Ok(());
    }
    Err(layer
        .fault(field, base.to_string())
        .expected("more than 0, or -1 for e"))
}

/// Threshold.
pub(super) fn threshold(layer: &mut Layer<'_>) -> Result<()> {
    let threshold = param(&layer.def.threshold_param).threshold();
    activation(layer, Activation::Threshold { threshold })
}

/// Swish.
pub(super) fn swish(layer: &mut Layer<'_>) -> Result<()> {
    let beta = param(&layer.def.swish_param).beta();
    activation(layer, Activation::Swish { beta })
}

/// Clip.
pub(super) fn clip(layer: &mut Layer<'_>) -> Result<()> {
    let clip = param(&layer.def.clip_param);
    let (Some(min), Some(max)) = (clip.min, clip.max) else {
        return Err(layer
            .fault("clip_param", "no min or no max")
            .expected("both"));
    };
    if min > max {
        return Err(layer
            .fault("clip_param.min", min.to_string())
            .expected(format!("at most the maximum, {max}")));
    }
    activation(layer, Activation::Clip { min, max })
}

/// Dropout.
pub(super) fn dropout(layer: &mut Layer<'_>) -> Result<()> {
    let ratio = param(&layer.def.dropout_param).dropout_ratio();
    // In tests nothing is dropped, whatever the share; in training, what is kept is divided by its share.
    let (right, expected) = match layer.training() {
        true => ((0.0..1.0).contains(&ratio), "0 or more and less than 1"),
        false => ((0.0..=1.0).contains(&ratio), "0 to 1"),
    };
    if !right {
        return Err(layer
            .fault("dropout_param.dropout_ratio", ratio.to_string())
            .expected(expected));
    }
    layer.node(Op::Dropout { ratio })
}

fn activation(layer: &mut Layer<'_>, activation: Activation) -> Result<()> {
    layer.node(Op::Activation(activation))
}
