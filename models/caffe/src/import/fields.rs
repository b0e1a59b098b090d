//! What layer types take of their parameters: a set field that a type's row does not list keeps a layer from
//! being imported, and `SUPPORTED.md` is written from the rows.

use crate::fields;
use crate::proto::LayerParameter;
use skimjit_models::{Error, Result};

/// What a layer type does with the fields of a parameter message. What is not listed is refused.
#[derive(PartialEq)]
pub(super) struct Part {
    pub parameter: &'static str,
    /// Fields that the result depends on.
    pub read: &'static [&'static str],
    /// Fields without influence on a forward pass.
    pub ignored: &'static [(&'static str, &'static str)],
}

/// What happens to a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Its value counts; values that cannot be honoured are refused.
    Honoured,
    /// Its value has no influence on a forward pass, for this reason.
    Ignored(&'static str),
    /// Any value but the default is refused.
    Refused,
}

pub(super) const fn part(
    parameter: &'static str,
    read: &'static [&'static str],
    ignored: &'static [(&'static str, &'static str)],
) -> Part {
    Part {
        parameter,
        read,
        ignored,
    }
}

pub(super) const HOW: &str = "chooses an implementation";
pub(super) const TRAINING: &str = "training";
pub(super) const DUMP: &str = "diagnostics";
pub(super) const ENGINE: &[(&str, &str)] = &[("engine", HOW)];

#[rustfmt::skip]
pub(super) const CONVOLUTION: Part = part(
    "convolution_param", &["num_output", "bias_term", "pad", "kernel_size", "group", "stride", "weight_filler",
        "bias_filler", "pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w", "axis", "dilation"],
        &[("engine", HOW), ("force_nd_im2col", HOW), ("conv_mode", HOW), ("dump_parameter", DUMP),
        ("dump_activation", DUMP), ("parameter_sparsity_pattern_histogram", DUMP)]);
#[rustfmt::skip]
pub(super) const IM2COL: Part = part(
    "convolution_param", &["pad", "kernel_size", "stride", "pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h",
        "stride_w", "axis", "dilation"], &[("num_output", "no weights"), ("force_nd_im2col", HOW)]);
#[rustfmt::skip]
pub(super) const INNER_PRODUCT: Part = part(
    "inner_product_param", &["num_output", "bias_term", "weight_filler", "bias_filler", "axis", "transpose"],
        &[("gemm_mode", HOW), ("spmdm_transpose_in", HOW), ("spmdm_transpose_out", HOW), ("dump_parameter", DUMP),
        ("dump_activation", DUMP)]);
#[rustfmt::skip]
pub(super) const POOLING: Part = part(
    "pooling_param", &["pool", "kernel_size", "stride", "pad", "kernel_h", "kernel_w", "stride_h", "stride_w",
        "pad_h", "pad_w", "global_pooling", "round_mode", "ceil_mode"], ENGINE);
pub(super) const RELU: Part = part("relu_param", &["negative_slope"], ENGINE);
#[rustfmt::skip]
pub(super) const LRN: Part = part("lrn_param", &["local_size", "alpha", "beta", "norm_region", "k"], ENGINE);
pub(super) const DROPOUT: Part = part("dropout_param", &["dropout_ratio"], &[]);
pub(super) const NO_DROPOUT: Part = part("dropout_param", &[], &[("dropout_ratio", TRAINING)]);
pub(super) const SOFTMAX: Part = part("softmax_param", &["axis"], ENGINE);
#[rustfmt::skip]
pub(super) const LOSS: Part = part("loss_param", &["ignore_label", "normalize", "normalization"], &[]);
#[rustfmt::skip]
pub(super) const BATCH_NORM: Part = part(
    "batch_norm_param", &["use_global_stats", "eps", "scale_bias", "scale_filler", "bias_filler"],
        &[("moving_average_fraction", TRAINING), ("use_weight_bias", "of MKLBatchNorm"), ("engine", HOW)]);
#[rustfmt::skip]
pub(super) const MKL_BATCH_NORM: Part = part(
    "batch_norm_param", &["use_global_stats", "eps", "use_weight_bias"], &[("moving_average_fraction",
        TRAINING)]);
#[rustfmt::skip]
pub(super) const RECURRENT: Part = part(
    "recurrent_param", &["num_output", "weight_filler", "bias_filler", "expose_hidden"], &[("debug_info", DUMP)]);

/// Types whose parameters say where data comes from; what is imported of them is a shape.
const FROM_OUTSIDE: [&str; 5] = [
    "AnnotatedData",
    "Data",
    "HDF5Data",
    "ImageData",
    "WindowData",
];

impl Part {
    pub(super) fn use_of(&self, field: &str) -> Use {
        if self.read.contains(&field) {
            return Use::Honoured;
        }
        let ignored = self.ignored.iter().find(|(name, _)| *name == field);
        ignored.map_or(Use::Refused, |(_, reason)| Use::Ignored(reason))
    }
}

/// The message of a layer type that has a field; of several that of the op, which is one of those that the
/// layer consists of.
pub(super) fn parameter_of(parts: &[Part], op: &str, field: &str) -> Option<&'static str> {
    let has = |part: &&Part| part.use_of(field) != Use::Refused;
    let of_op = |part: &&Part| {
        let name = part.parameter.replace('_', "");
        name.strip_suffix("param") == Some(&op.to_ascii_lowercase())
    };
    let mut with = parts.iter().filter(has);
    let own = parts.iter().filter(has).find(of_op);
    own.or(with.next()).map(|part| part.parameter)
}

/// Refuses fields that the type has no use for; parameters of other types are warnings, as Caffe
/// reads none of them.
pub(super) fn check(layer: &LayerParameter, parts: &[Part]) -> Result<Vec<String>> {
    let kind = layer.r#type();
    if FROM_OUTSIDE.contains(&kind) {
        return Ok(Vec::new());
    }
    let mut foreign: Vec<&str> = Vec::new();
    for set in fields::set_by(layer) {
        let part = parts.iter().find(|part| part.parameter == set.parameter);
        let refused = part.is_some_and(|part| part.use_of(set.field) == Use::Refused);
        if refused && !set.is_default {
            return Err(Error::new("a value other than the default")
                .field(format!("{}.{}", set.parameter, set.field))
                .expected(format!("a field that is supported for {kind} layers"))
                .hint("SUPPORTED.md lists them"));
        }
        if part.is_none() && !foreign.contains(&set.parameter) {
            foreign.push(set.parameter);
        }
    }
    let without = |parameter| format!("{parameter} has no effect on a {kind} layer");
    Ok(foreign.into_iter().map(without).collect())
}
