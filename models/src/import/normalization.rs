//! LRN, BatchNorm, MVN, Softmax.

use super::layer::{Layer, param};
use super::store::Wanted;
use crate::caffe::proto::lrn_parameter::NormRegion;
use crate::ops::{BatchNorm, Lrn, Mvn};
use crate::{Op, Result, Shape};

/// LRN.
pub(super) fn lrn(layer: &mut Layer<'_>) -> Result<()> {
    let op = lrn_op(layer)?;
    layer.node(Op::Lrn(op))
}

/// MKLLRN: across channels only.
pub(super) fn mkl_lrn(layer: &mut Layer<'_>) -> Result<()> {
    let op = lrn_op(layer)?;
    if op.within_channel {
        return Err(layer
            .fault("lrn_param.norm_region", "WITHIN_CHANNEL")
            .expected("ACROSS_CHANNELS")
            .hint("use the LRN layer type"));
    }
    layer.node(Op::Lrn(op))
}

/// `lrn_param`, checked.
pub(super) fn lrn_op(layer: &Layer<'_>) -> Result<Lrn> {
    let lrn = param(&layer.def.lrn_param);
    let size = lrn.local_size();
    if size.is_multiple_of(2) {
        return Err(layer
            .fault("lrn_param.local_size", size.to_string())
            .expected("an odd number"));
    }
    let within_channel = lrn.norm_region() == NormRegion::WithinChannel;
    Ok(Lrn {
        size,
        alpha: lrn.alpha(),
        beta: lrn.beta(),
        k: lrn.k(),
        within_channel,
    })
}

/// BatchNorm.
pub(super) fn batch_norm(layer: &mut Layer<'_>) -> Result<()> {
    let norm = param(&layer.def.batch_norm_param);
    let input = layer.shape(0);
    let channels = match input.rank() {
        0 => {
            return Err(layer
                .fault("bottom[0]", "a scalar")
                .expected("1 axis or more"));
        }
        1 => 1,
        _ => input.dim(1),
    };
    let statistics = if layer.training() || norm.use_global_stats.unwrap_or(true) {
        let mut wanted = Vec::new();
        for count in [channels, channels, 1] {
            wanted.push(Wanted::new(Shape::new([count])?, None));
        }
        let ids = layer.weights(&wanted)?;
        Some([ids[0], ids[1], ids[2]])
    } else {
        layer.ignore_weights();
        None
    };
    layer.node(Op::BatchNorm(BatchNorm {
        statistics,
        eps: norm.eps(),
    }))
}

/// MKLBatchNorm without its own scale and offset: versions of the layer differ in the blobs that
/// they store for these, and in whose statistics they use then.
pub(super) fn mkl_batch_norm(layer: &mut Layer<'_>) -> Result<()> {
    let norm = param(&layer.def.batch_norm_param);
    if norm.use_weight_bias() {
        return Err(layer
            .fault("batch_norm_param.use_weight_bias", "true")
            .expected("false")
            .hint("use a BatchNorm layer and a Scale layer"));
    }
    batch_norm(layer)
}

/// MVN.
pub(super) fn mvn(layer: &mut Layer<'_>) -> Result<()> {
    let mvn = param(&layer.def.mvn_param);
    layer.node(Op::Mvn(Mvn {
        normalize_variance: mvn.normalize_variance(),
        across_channels: mvn.across_channels(),
        eps: mvn.eps(),
    }))
}

/// Softmax.
pub(super) fn softmax(layer: &mut Layer<'_>) -> Result<()> {
    let axis = softmax_axis(layer)?;
    layer.node(Op::Softmax { axis })
}

/// `softmax_param.axis` of the first operand.
pub(super) fn softmax_axis(layer: &Layer<'_>) -> Result<u32> {
    let axis = param(&layer.def.softmax_param).axis();
    layer.axis("softmax_param.axis", axis, &layer.shape(0))
}
