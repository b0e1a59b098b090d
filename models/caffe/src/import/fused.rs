//! SkimCaffe's fused layers: their parts, under the names that bind the weights.

use super::activation::{relu_slope, require_zero_slope};
use super::convolution::convolution_op;
use super::inner_product::add_inner_product;
use super::layer::Layer;
use super::normalization::lrn_op;
use super::pooling::{add_pooling, relu_pooling_op};
use skimjit_models::ops::PostOps;
use skimjit_models::{Op, Result, ValueId};

/// ConvolutionReLU.
pub(super) fn convolution_relu(layer: &mut Layer<'_>) -> Result<()> {
    require_zero_slope(layer)?;
    let op = convolution_op(layer, PostOps::relu(0.0))?;
    layer.node_per_bottom(&Op::Convolution(op))
}

/// ConvolutionReLUPool. The ReLU is the pooling's: its running maximum starts at 0.
pub(super) fn convolution_relu_pool(layer: &mut Layer<'_>) -> Result<()> {
    let convolution = hidden_convolution(layer)?;
    let op = relu_pooling_op(layer)?;
    add_pooling(layer, op, convolution)
}

/// ConvolutionReLUPoolLRN.
pub(super) fn convolution_relu_pool_lrn(layer: &mut Layer<'_>) -> Result<()> {
    let convolution = hidden_convolution(layer)?;
    let pooling = Op::Pooling(relu_pooling_op(layer)?);
    let pooled = layer.hidden("pool", pooling, vec![convolution])?;
    let lrn = lrn_op(layer)?;
    if lrn.within_channel {
        return Err(layer
            .fault("lrn_param.norm_region", "WITHIN_CHANNEL")
            .expected("ACROSS_CHANNELS"));
    }
    layer.top(0, Op::Lrn(lrn), vec![pooled]).map(drop)
}

/// InnerProductReLUDropout; the dropout does nothing at test time.
pub(super) fn inner_product_relu_dropout(layer: &mut Layer<'_>) -> Result<()> {
    let relu = Some(relu_slope(layer));
    add_inner_product(layer, PostOps::from(relu))
}

fn hidden_convolution(layer: &mut Layer<'_>) -> Result<ValueId> {
    require_zero_slope(layer)?;
    let op = convolution_op(layer, PostOps::default())?;
    let input = layer.inputs[0];
    layer.hidden("conv", Op::Convolution(op), vec![input])
}
