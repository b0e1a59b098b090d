//! LRN, BatchNorm, MVN, Softmax.

use super::layer::{Layer, param};
use super::store::Wanted;
use crate::proto::BatchNormParameter;
use crate::proto::lrn_parameter::NormRegion;
use skimjit_models::ops::{BatchNorm, Lrn, Mvn, Scale};
use skimjit_models::{Op, Result, Shape};

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
    if is_scaled(layer)? {
        return scaled_batch_norm(layer);
    }
    let norm = param(&layer.def.batch_norm_param);
    let channels = channels(layer)?;
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
        running: norm.use_global_stats.unwrap_or(!layer.training()),
        momentum: norm.moving_average_fraction(),
        eps: norm.eps(),
    }))
}

/// Elements of a layer's statistics.
fn channels(layer: &Layer<'_>) -> Result<u32> {
    let input = layer.shape(0);
    match input.rank() {
        0 => Err(layer
            .fault("bottom[0]", "a scalar")
            .expected("1 axis or more")),
        1 => Ok(1),
        _ => Ok(input.dim(1)),
    }
}

/// Blobs of NVIDIA's BatchNorm with `scale_bias`.
const SCALED_BLOBS: usize = 5;

/// The least that NVIDIA's BatchNorm adds to a variance.
const LEAST_EPS: f32 = 1e-5;

/// The field that gives a BatchNorm scale and offset: `scale_bias`, or a filler of one of them.
fn scaling_field(norm: &BatchNormParameter) -> Option<&'static str> {
    let fields = [
        (norm.scale_bias(), "batch_norm_param.scale_bias"),
        (norm.scale_filler.is_some(), "batch_norm_param.scale_filler"),
        (norm.bias_filler.is_some(), "batch_norm_param.bias_filler"),
    ];
    let set = fields.into_iter().find(|(set, _)| *set);
    set.map(|(_, field)| field)
}

/// Whether a BatchNorm is NVIDIA's with scale and offset, as its fields say, or else its blobs.
fn is_scaled(layer: &mut Layer<'_>) -> Result<bool> {
    let norm = param(&layer.def.batch_norm_param);
    let stored = layer.stored_blobs();
    match (scaling_field(&norm), stored) {
        (Some(_), None | Some(SCALED_BLOBS)) => Ok(true),
        (Some(field), Some(count)) => Err(layer
            .fault(
                field,
                format!("scale and offset in a layer of {count} blobs"),
            )
            .expected("5 blobs: mean, variance, 1, scale, offset")
            .hint("without that field it is a BatchNorm of 3 blobs; a Scale layer may follow it")),
        (None, Some(SCALED_BLOBS)) if norm.scale_bias == Some(false) => Err(layer
            .fault("batch_norm_param.scale_bias", "false in a layer of 5 blobs")
            .expected("true, or 3 blobs")
            .hint("with scale_bias: true the last two blobs are scale and offset")),
        (None, Some(SCALED_BLOBS)) => {
            if !layer.keeps_blobs() {
                layer.warn(
                    "found 5 blobs, as NVIDIA's BatchNorm with scale_bias has: read as mean, variance, 1, \
                     scale and offset",
                );
            }
            Ok(true)
        }
        (None, _) => Ok(false),
    }
}

/// NVIDIA's BatchNorm with `scale_bias`: mean, variance, 1, scale and offset. It uses its statistics in
/// tests whatever `use_global_stats` says.
fn scaled_batch_norm(layer: &mut Layer<'_>) -> Result<()> {
    let advice =
        "use a BatchNorm layer with the first three blobs and a Scale layer with the others";
    let param = param(&layer.def.batch_norm_param);
    if layer.keeps_blobs() {
        let field = scaling_field(&param).unwrap_or("blobs");
        return Err(layer
            .fault(
                field,
                "NVIDIA's BatchNorm with scale and offset, of 5 blobs",
            )
            .expected("3 blobs in training")
            .hint(advice));
    }
    if layer.shape(0).rank() < 2 {
        let found = format!("shape {}", layer.shape(0));
        return Err(layer.fault("bottom[0]", found).expected("2 axes or more"));
    }
    let count = channels(layer)?;
    let mut wanted = Vec::new();
    for (count, filler, value) in [
        (count, None, 0.0),
        (count, None, 0.0),
        (1, None, 1.0),
        (count, param.scale_filler.clone(), 1.0),
        (count, param.bias_filler.clone(), 0.0),
    ] {
        wanted.push(Wanted::or_value(Shape::new([count])?, filler, value));
    }
    let ids = layer.weights(&wanted)?;
    // Where it is another number, versions of the layer differ in whether they divide by it.
    let factor = layer.weight(ids[2]).data().first().copied();
    if factor != Some(1.0) {
        let found = format!(
            "{} in NVIDIA's BatchNorm with scale and offset",
            factor.unwrap_or_default()
        );
        let fault = layer.fault("blobs[2]", found).expected("1");
        return Err(fault.hint(advice));
    }
    let norm = Op::BatchNorm(BatchNorm {
        statistics: Some([ids[0], ids[1], ids[2]]),
        running: true,
        momentum: param.moving_average_fraction(),
        eps: param.eps().max(LEAST_EPS),
    });
    let input = layer.inputs[0];
    let normalized = layer.hidden("norm", norm, vec![input])?;
    let scale = Op::Scale(Scale {
        axis: 1,
        scale: Some(ids[3]),
        bias: Some(ids[4]),
        add_operand: false,
    });
    layer.top(0, scale, vec![normalized]).map(drop)
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
