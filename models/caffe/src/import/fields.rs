//! Which fields of its parameters each layer type takes. This is the one place that says so: a set
//! field that is not listed here keeps a layer from being imported, and `SUPPORTED.md` is written from
//! here.

use crate::fields::{self, Described};
use crate::proto::LayerParameter;
use skimjit_models::{Error, Result};

/// What a layer type does with the fields of a parameter message. What is not listed is refused.
pub(super) struct Part {
    parameter: &'static str,
    /// Fields that the result depends on.
    read: &'static [&'static str],
    /// Fields without influence on a forward pass.
    ignored: &'static [(&'static str, &'static str)],
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

const fn part(
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

const HOW: &str = "chooses an implementation";
const TRAINING: &str = "training";
const DUMP: &str = "diagnostics";
const ENGINE: &[(&str, &str)] = &[("engine", HOW)];

const CONVOLUTION: Part = part(
    "convolution_param",
    &[
        "num_output",
        "bias_term",
        "pad",
        "kernel_size",
        "group",
        "stride",
        "weight_filler",
        "bias_filler",
        "pad_h",
        "pad_w",
        "kernel_h",
        "kernel_w",
        "stride_h",
        "stride_w",
        "axis",
        "dilation",
    ],
    &[
        ("engine", HOW),
        ("force_nd_im2col", HOW),
        ("conv_mode", HOW),
        ("dump_parameter", DUMP),
        ("dump_activation", DUMP),
        ("parameter_sparsity_pattern_histogram", DUMP),
    ],
);
const IM2COL: Part = part(
    "convolution_param",
    &[
        "pad",
        "kernel_size",
        "stride",
        "pad_h",
        "pad_w",
        "kernel_h",
        "kernel_w",
        "stride_h",
        "stride_w",
        "axis",
        "dilation",
    ],
    &[("num_output", "no weights"), ("force_nd_im2col", HOW)],
);
const INNER_PRODUCT: Part = part(
    "inner_product_param",
    &[
        "num_output",
        "bias_term",
        "weight_filler",
        "bias_filler",
        "axis",
        "transpose",
    ],
    &[
        ("gemm_mode", HOW),
        ("spmdm_transpose_in", HOW),
        ("spmdm_transpose_out", HOW),
        ("dump_parameter", DUMP),
        ("dump_activation", DUMP),
    ],
);
const POOLING: Part = part(
    "pooling_param",
    &[
        "pool",
        "kernel_size",
        "stride",
        "pad",
        "kernel_h",
        "kernel_w",
        "stride_h",
        "stride_w",
        "pad_h",
        "pad_w",
        "global_pooling",
        "round_mode",
        "ceil_mode",
    ],
    ENGINE,
);
const RELU: Part = part("relu_param", &["negative_slope"], ENGINE);
const LRN: Part = part(
    "lrn_param",
    &["local_size", "alpha", "beta", "norm_region", "k"],
    ENGINE,
);
const DROPOUT: Part = part("dropout_param", &["dropout_ratio"], &[]);
const NO_DROPOUT: Part = part("dropout_param", &[], &[("dropout_ratio", TRAINING)]);
const SOFTMAX: Part = part("softmax_param", &["axis"], ENGINE);
const LOSS: Part = part(
    "loss_param",
    &["ignore_label", "normalize", "normalization"],
    &[],
);
const BATCH_NORM: Part = part(
    "batch_norm_param",
    &[
        "use_global_stats",
        "eps",
        "scale_bias",
        "scale_filler",
        "bias_filler",
    ],
    &[
        ("moving_average_fraction", TRAINING),
        ("use_weight_bias", "of MKLBatchNorm"),
        ("engine", HOW),
    ],
);
const MKL_BATCH_NORM: Part = part(
    "batch_norm_param",
    &["use_global_stats", "eps", "use_weight_bias"],
    &[("moving_average_fraction", TRAINING)],
);
const RECURRENT: Part = part(
    "recurrent_param",
    &[
        "num_output",
        "weight_filler",
        "bias_filler",
        "expose_hidden",
    ],
    &[("debug_info", DUMP)],
);

/// Types, and the parameters that they take.
static TYPES: &[(&[&str], &[Part])] = &[
    (
        &["Accuracy"],
        &[part(
            "accuracy_param",
            &["top_k", "axis", "ignore_label"],
            &[],
        )],
    ),
    (
        &["ArgMax"],
        &[part("argmax_param", &["out_max_val", "top_k", "axis"], &[])],
    ),
    (&["BatchNorm"], &[BATCH_NORM]),
    (
        &["Bias"],
        &[part("bias_param", &["axis", "num_axes", "filler"], &[])],
    ),
    (&["Clip"], &[part("clip_param", &["min", "max"], &[])]),
    (
        &["Concat"],
        &[part("concat_param", &["concat_dim", "axis"], &[])],
    ),
    (
        &["ContrastiveLoss"],
        &[part(
            "contrastive_loss_param",
            &["margin", "legacy_version"],
            &[],
        )],
    ),
    (
        &[
            "Convolution",
            "ConvolutionDepthwise",
            "Deconvolution",
            "DepthwiseConvolution",
            "MKLConvolution",
            "Winograd",
        ],
        &[CONVOLUTION],
    ),
    (&["ConvolutionReLU"], &[CONVOLUTION, RELU]),
    (&["ConvolutionReLUPool"], &[CONVOLUTION, RELU, POOLING]),
    (
        &["ConvolutionReLUPoolLRN"],
        &[CONVOLUTION, RELU, POOLING, LRN],
    ),
    (&["Crop"], &[part("crop_param", &["axis", "offset"], &[])]),
    (
        &["DetectionOutput"],
        &[part(
            "detection_output_param",
            &[
                "num_classes",
                "share_location",
                "background_label_id",
                "nms_param",
                "code_type",
                "keep_top_k",
                "variance_encoded_in_target",
                "confidence_threshold",
            ],
            &[
                (
                    "save_output_param",
                    "detections are results; a warning says so",
                ),
                ("save_file", "detections are results; a warning says so"),
                ("visualize", "detections are results; a warning says so"),
                ("visualize_threshold", "see visualize"),
            ],
        )],
    ),
    (&["Dropout"], &[DROPOUT]),
    (
        &["DummyData"],
        &[part(
            "dummy_data_param",
            &["data_filler", "num", "channels", "height", "width", "shape"],
            &[],
        )],
    ),
    (&["ELU"], &[part("elu_param", &["alpha"], &[])]),
    (
        &["Eltwise"],
        &[part(
            "eltwise_param",
            &["operation", "coeff"],
            &[("stable_prod_grad", TRAINING)],
        )],
    ),
    (
        &["Embed"],
        &[part(
            "embed_param",
            &[
                "num_output",
                "input_dim",
                "bias_term",
                "weight_filler",
                "bias_filler",
            ],
            &[],
        )],
    ),
    (
        &["Exp"],
        &[part("exp_param", &["base", "scale", "shift"], &[])],
    ),
    (
        &["Flatten"],
        &[part("flatten_param", &["axis", "end_axis"], &[])],
    ),
    (
        &["HDF5Output"],
        &[part(
            "hdf5_output_param",
            &[],
            &[("file_name", "its bottoms are results")],
        )],
    ),
    (&["HingeLoss"], &[part("hinge_loss_param", &["norm"], &[])]),
    (&["Im2col"], &[IM2COL]),
    (
        &["InfogainLoss"],
        &[part("infogain_loss_param", &["source", "axis"], &[]), LOSS],
    ),
    (&["InnerProduct"], &[INNER_PRODUCT]),
    (
        &["InnerProductReLUDropout"],
        &[INNER_PRODUCT, RELU, NO_DROPOUT],
    ),
    (&["Input"], &[part("input_param", &["shape"], &[])]),
    (&["LRN", "MKLLRN"], &[LRN]),
    (&["LSTM", "RNN"], &[RECURRENT]),
    (
        &["Log"],
        &[part("log_param", &["base", "scale", "shift"], &[])],
    ),
    (&["MKLBatchNorm"], &[MKL_BATCH_NORM]),
    (&["MKLPooling", "Pooling"], &[POOLING]),
    (&["MKLReLU", "ReLU"], &[RELU]),
    (
        &["MVN"],
        &[part(
            "mvn_param",
            &["normalize_variance", "across_channels", "eps"],
            &[],
        )],
    ),
    (
        &["MemoryData"],
        &[part(
            "memory_data_param",
            &["batch_size", "channels", "height", "width"],
            &[],
        )],
    ),
    (
        &["Normalize"],
        &[part(
            "norm_param",
            &["across_spatial", "scale_filler", "channel_shared", "eps"],
            &[],
        )],
    ),
    (
        &["PReLU"],
        &[part("prelu_param", &["filler", "channel_shared"], &[])],
    ),
    (&["Parameter"], &[part("parameter_param", &["shape"], &[])]),
    (&["Permute"], &[part("permute_param", &["order"], &[])]),
    (
        &["Power"],
        &[part("power_param", &["power", "scale", "shift"], &[])],
    ),
    (
        &["PriorBox"],
        &[part(
            "prior_box_param",
            &[
                "min_size",
                "max_size",
                "aspect_ratio",
                "flip",
                "clip",
                "variance",
                "img_size",
                "img_h",
                "img_w",
                "step",
                "step_h",
                "step_w",
                "offset",
            ],
            &[],
        )],
    ),
    (&["ReLUPooling"], &[POOLING, RELU]),
    (
        &["Reduction"],
        &[part(
            "reduction_param",
            &["operation", "axis", "coeff"],
            &[],
        )],
    ),
    (
        &["Reshape"],
        &[part("reshape_param", &["shape", "axis", "num_axes"], &[])],
    ),
    (
        &["SPP"],
        &[part("spp_param", &["pyramid_height", "pool"], ENGINE)],
    ),
    (
        &["Scale"],
        &[part(
            "scale_param",
            &["axis", "num_axes", "filler", "bias_term", "bias_filler"],
            &[],
        )],
    ),
    (&["Sigmoid"], &[part("sigmoid_param", &[], ENGINE)]),
    (&["SigmoidCrossEntropyLoss"], &[LOSS]),
    (
        &["Slice"],
        &[part(
            "slice_param",
            &["slice_dim", "slice_point", "axis"],
            &[],
        )],
    ),
    (&["Softmax"], &[SOFTMAX]),
    (&["SoftmaxWithLoss"], &[SOFTMAX, LOSS]),
    (&["Swish"], &[part("swish_param", &["beta"], &[])]),
    (&["TanH"], &[part("tanh_param", &[], ENGINE)]),
    (
        &["Threshold"],
        &[part("threshold_param", &["threshold"], &[])],
    ),
    (&["Tile"], &[part("tile_param", &["axis", "tiles"], &[])]),
];

/// Types whose parameters say where data comes from; what is imported of them is a shape.
const FROM_OUTSIDE: [&str; 5] = [
    "AnnotatedData",
    "Data",
    "HDF5Data",
    "ImageData",
    "WindowData",
];

fn parts(kind: &str) -> &'static [Part] {
    let row = TYPES.iter().find(|(kinds, _)| kinds.contains(&kind));
    row.map_or(&[], |(_, parts)| *parts)
}

impl Part {
    fn use_of(&self, field: &str) -> Use {
        if self.read.contains(&field) {
            return Use::Honoured;
        }
        let ignored = self.ignored.iter().find(|(name, _)| *name == field);
        ignored.map_or(Use::Refused, |(_, reason)| Use::Ignored(reason))
    }
}

/// The message of a layer type that has a field; of several that of the op, which is one of those that the
/// layer consists of.
pub(super) fn parameter_of(kind: &str, op: &str, field: &str) -> Option<&'static str> {
    let has = |part: &&Part| part.use_of(field) != Use::Refused;
    let of_op = |part: &&Part| {
        let name = part.parameter.replace('_', "");
        name.strip_suffix("param") == Some(&op.to_ascii_lowercase())
    };
    let mut with = parts(kind).iter().filter(has);
    let own = parts(kind).iter().filter(has).find(of_op);
    own.or(with.next()).map(|part| part.parameter)
}

/// Refuses fields that the type has no use for; parameters of other types are warnings, as Caffe
/// reads none of them.
pub(super) fn check(layer: &LayerParameter) -> Result<Vec<String>> {
    let kind = layer.r#type();
    if FROM_OUTSIDE.contains(&kind) {
        return Ok(Vec::new());
    }
    let mut foreign: Vec<&str> = Vec::new();
    for set in fields::set_by(layer) {
        let part = parts(kind)
            .iter()
            .find(|part| part.parameter == set.parameter);
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

/// A field of a layer type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldUse {
    /// Message it is in: `convolution_param`.
    pub parameter: &'static str,
    /// The field.
    pub field: Described,
    /// What happens to it.
    pub usage: Use,
}

/// Fields of a layer type's parameters.
pub fn of_type(kind: &str) -> Vec<FieldUse> {
    let of_part = |part: &'static Part| {
        let fields = fields::of_parameter(part.parameter).into_iter();
        fields.map(|field| FieldUse {
            parameter: part.parameter,
            usage: part.use_of(field.name),
            field,
        })
    };
    parts(kind).iter().flat_map(of_part).collect()
}

/// All fields of all types as Markdown, types with the same fields together.
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "\n## Parameters\n\nA field that is *refused* may be given with its default value only. \
         Parameters of other layer types are ignored with a warning. Fields of every layer: name, type, \
         bottom, top, blobs, include, exclude and param (name, share_mode) are honoured; loss_weight, \
         propagate_down, phase, connectivity_mode and the multipliers in param are for training and \
         ignored.\n\nA field that is not known at all, anywhere inside a layer that is used, is refused by \
         name and line: it may change what the layer means. `--ignore-unknown-fields` reads the layer \
         without it, with a warning. Unknown fields are warnings outside of layers and in layers that are \
         not used: those of the other phase, data layers that become inputs, losses that are dropped. In a \
         caffemodel that says its own topology the same goes by numbers; where a prototxt is given, the \
         definition inside a caffemodel does not count.\n\nNames may be in any encoding, as in Caffe. The bytes \
         of a string that is not UTF-8 are kept, so that names of a prototxt and a caffemodel match when their \
         bytes do, and files that are written have them; a terminal shows `\\xe9`, JSON and artifacts have \
         U+EF80 to U+EFFF for the bytes 0x80 to 0xFF. One warning for each file tells of them. Paths in a \
         prototxt have to be UTF-8, and names in HDF5 that is written.\n",
    );
    for (kinds, parts) in TYPES {
        let rows = |part: &Part| -> String {
            let fields = fields::of_parameter(part.parameter);
            let row = |field: &Described| {
                let usage = match part.use_of(field.name) {
                    Use::Honoured => "honoured".to_owned(),
                    Use::Ignored(reason) => format!("ignored: {reason}"),
                    Use::Refused => "refused".to_owned(),
                };
                let (name, kind, default) = (field.name, &field.kind, &field.default);
                format!(
                    "| {}.{name} | {kind} | {default} | {usage} |\n",
                    part.parameter
                )
            };
            fields.iter().map(row).collect()
        };
        text.push_str(&format!(
            "\n### {}\n\n| Field | Type | Default | Use |\n|---|---|---|---|\n",
            kinds.join(", ")
        ));
        text.extend(parts.iter().map(rows));
    }
    text
}

/// Names that the tables have and layers do not: mistakes of this file.
#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    #[test]
    fn every_name_exists() {
        for (kinds, parts) in TYPES {
            for kind in *kinds {
                assert!(
                    table::SUPPORTED.iter().any(|row| row.name == *kind),
                    "{kind}"
                );
            }
            for part in *parts {
                let known = fields::of_parameter(part.parameter);
                let ignored = part.ignored.iter().map(|(name, _)| name);
                for name in part.read.iter().chain(ignored) {
                    let found = known.iter().any(|field| field.name == *name);
                    assert!(found, "{}.{name}", part.parameter);
                }
            }
        }
    }
}
