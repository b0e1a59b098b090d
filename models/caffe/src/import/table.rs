//! The layer types: one row each.

use super::fields::*;
use super::layer::Layer;
use super::{
    activation, arithmetic, batch, convolution, detection, fused, inner_product, input, loss,
    normalization,
};
use super::{pooling, recurrent, shape};
use crate::proto::LayerParameter;
use skimjit_models::{Error, Result, closest};
use std::ops::RangeInclusive;

/// Turns a layer into nodes.
pub(super) type Convert = fn(&mut Layer<'_>) -> Result<()>;

/// A layer type that is understood.
pub(super) struct LayerType {
    /// As `layer.type` spells it.
    pub name: &'static str,
    /// Bottoms that it takes.
    pub bottoms: RangeInclusive<usize>,
    /// Tops that it makes.
    pub tops: RangeInclusive<usize>,
    /// Converter.
    pub convert: Convert,
    /// Messages that it takes parameters from, with the fields that count.
    pub parts: &'static [Part],
    /// What is not supported, or not obvious.
    pub note: &'static str,
}

const ANY: usize = usize::MAX;

const fn row(
    name: &'static str,
    bottoms: RangeInclusive<usize>,
    tops: RangeInclusive<usize>,
    convert: Convert,
    parts: &'static [Part],
    note: &'static str,
) -> LayerType {
    LayerType {
        name,
        bottoms,
        tops,
        convert,
        parts,
        note,
    }
}

const AS_PLAIN: &str = "SkimCaffe; same as the plain type";
const DEPTHWISE: &str = "a convolution with a group for each channel, unless group is given";
const LABELS: &str = "dropped with the labels when data layers become inputs";

/// All layer types that are understood, sorted by name.
#[rustfmt::skip]
pub(super) static SUPPORTED: &[LayerType] = &[
    row("AbsVal", 1..=1, 1..=1, activation::abs_val, &[], ""),
    row("Accuracy", 2..=2, 1..=2, loss::accuracy,
        &[part("accuracy_param", &["top_k", "axis", "ignore_label"], &[])],
        LABELS),
    row("AnnotatedData", 0..=0, 1..=2, input::file_data, &[], "SSD; only as network input"),
    row("ArgMax", 1..=1, 1..=1, shape::arg_max, &[part("argmax_param", &["out_max_val", "top_k", "axis"], &[])], ""),
    row("BNLL", 1..=1, 1..=1, activation::bnll, &[], ""),
    row("BatchNorm", 1..=1, 1..=1, normalization::batch_norm,
        &[BATCH_NORM],
        "statistics of the batch with use_global_stats: false; scale_bias: true or 5 blobs are NVIDIA's, with scale and offset"),
    row("BatchReindex", 2..=2, 1..=1, batch::batch_reindex, &[], "an index that is no image gives NaN"),
    row("Bias", 1..=2, 1..=1, arithmetic::bias, &[part("bias_param", &["axis", "num_axes", "filler"], &[])], ""),
    row("Clip", 1..=1, 1..=1, activation::clip, &[part("clip_param", &["min", "max"], &[])], ""),
    row("Concat", 1..=ANY, 1..=1, shape::concat, &[part("concat_param", &["concat_dim", "axis"], &[])], ""),
    row("ContrastiveLoss", 3..=3, 0..=1, loss::contrastive,
        &[part("contrastive_loss_param", &["margin", "legacy_version"], &[])],
        LABELS),
    row("Convolution", 1..=ANY, 1..=ANY, convolution::convolution,
        &[CONVOLUTION],
        "two-dimensional; conv_mode is ignored"),
    row("ConvolutionDepthwise", 1..=ANY, 1..=ANY, convolution::convolution, &[CONVOLUTION], DEPTHWISE),
    row("ConvolutionReLU", 1..=ANY, 1..=ANY, fused::convolution_relu, &[CONVOLUTION, RELU], "SkimCaffe"),
    row("ConvolutionReLUPool", 1..=1, 1..=2, fused::convolution_relu_pool,
        &[CONVOLUTION, RELU, POOLING],
        "SkimCaffe; MAX only"),
    row("ConvolutionReLUPoolLRN", 1..=1, 1..=1, fused::convolution_relu_pool_lrn,
        &[CONVOLUTION, RELU, POOLING, LRN],
        "SkimCaffe; MAX, across channels"),
    row("Crop", 2..=2, 1..=1, shape::crop, &[part("crop_param", &["axis", "offset"], &[])], ""),
    row("Data", 0..=0, 1..=2, input::file_data, &[], "only as network input"),
    row("Deconvolution", 1..=ANY, 1..=ANY, convolution::deconvolution, &[CONVOLUTION], "two-dimensional"),
    row("DepthwiseConvolution", 1..=ANY, 1..=ANY, convolution::convolution, &[CONVOLUTION], DEPTHWISE),
    row("DetectionOutput", 3..=3, 1..=1, detection::detection_output,
        &[part("detection_output_param", &["num_classes", "share_location", "background_label_id", "nms_param",
            "code_type", "keep_top_k", "variance_encoded_in_target", "confidence_threshold"], &[("save_output_param",
            "detections are results; a warning says so"), ("save_file", "detections are results; a warning says so"),
            ("visualize", "detections are results; a warning says so"), ("visualize_threshold", "see visualize")])],
        "SSD; as many rows as there can be, -1 behind the last detection"),
    row("Dropout", 1..=1, 1..=1, activation::dropout, &[DROPOUT], "copies at test time"),
    row("DummyData", 0..=0, 1..=ANY, input::dummy_data,
        &[part("dummy_data_param", &["data_filler", "num", "channels", "height", "width", "shape"], &[])],
        "a constant: fillers that draw numbers do so once"),
    row("ELU", 1..=1, 1..=1, activation::elu, &[part("elu_param", &["alpha"], &[])], ""),
    row("Eltwise", 2..=ANY, 1..=1, arithmetic::eltwise,
        &[part("eltwise_param", &["operation", "coeff"], &[("stable_prod_grad", TRAINING)])],
        ""),
    row("Embed", 1..=1, 1..=1, inner_product::embed,
        &[part("embed_param", &["num_output", "input_dim", "bias_term", "weight_filler", "bias_filler"], &[])],
        "an index that is no row gives NaN"),
    row("EuclideanLoss", 2..=2, 0..=1, loss::euclidean, &[], LABELS),
    row("Exp", 1..=1, 1..=1, activation::exp, &[part("exp_param", &["base", "scale", "shift"], &[])], ""),
    row("Filter", 2..=ANY, 1..=ANY, batch::filter,
        &[],
        "the chosen images, then zeros for the rest of the batch; refused before layers that mix images"),
    row("Flatten", 1..=1, 1..=1, shape::flatten, &[part("flatten_param", &["axis", "end_axis"], &[])], ""),
    row("HDF5Data", 0..=0, 1..=ANY, input::file_data, &[], "only as network input"),
    row("HDF5Output", 1..=2, 0..=0, input::hdf5_output,
        &[part("hdf5_output_param", &[], &[("file_name", "its bottoms are results")])],
        "its bottoms are results; no file is written on the way"),
    row("HingeLoss", 2..=2, 0..=1, loss::hinge, &[part("hinge_loss_param", &["norm"], &[])], LABELS),
    row("Im2col", 1..=1, 1..=1, convolution::im2col, &[IM2COL], "two-dimensional"),
    row("ImageData", 0..=0, 1..=2, input::file_data, &[], "only as network input"),
    row("InfogainLoss", 2..=3, 0..=2, loss::infogain,
        &[part("infogain_loss_param", &["source", "axis"], &[]), LOSS],
        "operands are probabilities unless there is an axis or a second top"),
    row("InnerProduct", 1..=1, 1..=1, inner_product::inner_product, &[INNER_PRODUCT], "gemm_mode is ignored"),
    row("InnerProductReLUDropout", 1..=1, 1..=1, fused::inner_product_relu_dropout,
        &[INNER_PRODUCT, RELU, NO_DROPOUT],
        "SkimCaffe"),
    row("Input", 0..=0, 1..=ANY, input::input, &[part("input_param", &["shape"], &[])], ""),
    row("LRN", 1..=1, 1..=1, normalization::lrn, &[LRN], ""),
    row("LSTM", 2..=5, 1..=3, recurrent::lstm,
        &[RECURRENT],
        "the state starts at zero in every run unless it is exposed"),
    row("LSTMUnit", 3..=3, 2..=2, recurrent::lstm_unit, &[], ""),
    row("Log", 1..=1, 1..=1, activation::log, &[part("log_param", &["base", "scale", "shift"], &[])], ""),
    row("MKLBatchNorm", 1..=1, 1..=1, normalization::mkl_batch_norm,
        &[MKL_BATCH_NORM],
        "SkimCaffe; use_weight_bias: false only"),
    row("MKLConvolution", 1..=ANY, 1..=ANY, convolution::convolution, &[CONVOLUTION], AS_PLAIN),
    row("MKLLRN", 1..=1, 1..=1, normalization::mkl_lrn, &[LRN], "SkimCaffe; across channels"),
    row("MKLPooling", 1..=1, 1..=2, pooling::pooling, &[POOLING], AS_PLAIN),
    row("MKLReLU", 1..=1, 1..=1, activation::relu, &[RELU], AS_PLAIN),
    row("MVN", 1..=1, 1..=1, normalization::mvn,
        &[part("mvn_param", &["normalize_variance", "across_channels", "eps"], &[])],
        ""),
    row("MemoryData", 0..=0, 1..=2, input::memory_data,
        &[part("memory_data_param", &["batch_size", "channels", "height", "width"], &[])],
        "tops are network inputs"),
    row("MultinomialLogisticLoss", 2..=2, 0..=1, loss::multinomial_logistic, &[], LABELS),
    row("Normalize", 1..=1, 1..=1, detection::normalize,
        &[part("norm_param", &["across_spatial", "scale_filler", "channel_shared", "eps"], &[])],
        "SSD"),
    row("PReLU", 1..=1, 1..=1, activation::prelu, &[part("prelu_param", &["filler", "channel_shared"], &[])], ""),
    row("Parameter", 0..=0, 1..=1, input::parameter, &[part("parameter_param", &["shape"], &[])], ""),
    row("Permute", 1..=1, 1..=1, shape::permute, &[part("permute_param", &["order"], &[])], "SSD"),
    row("Pooling", 1..=1, 1..=2, pooling::pooling,
        &[POOLING],
        "MAX, AVE, and STOCHASTIC as at test time; an AVE of a window wholly outside gives 0 (Caffe: NaN)"),
    row("Power", 1..=1, 1..=1, activation::power, &[part("power_param", &["power", "scale", "shift"], &[])], ""),
    row("PriorBox", 2..=2, 1..=1, detection::prior_box,
        &[part("prior_box_param", &["min_size", "max_size", "aspect_ratio", "flip", "clip", "variance",
            "img_size", "img_h", "img_w", "step", "step_h", "step_w", "offset"], &[])],
        "SSD; fractions of pixels are dropped"),
    row("RNN", 2..=4, 1..=2, recurrent::rnn,
        &[RECURRENT],
        "the state starts at zero in every run unless it is exposed"),
    row("ReLU", 1..=1, 1..=1, activation::relu, &[RELU], ""),
    row("ReLU6", 1..=1, 1..=1, activation::relu6, &[], "MobileNet"),
    row("ReLUPooling", 1..=1, 1..=2, pooling::relu_pooling, &[POOLING, RELU], "SkimCaffe; MAX only"),
    row("Reduction", 1..=1, 1..=1, shape::reduction,
        &[part("reduction_param", &["operation", "axis", "coeff"], &[])],
        ""),
    row("Reshape", 1..=1, 1..=1, shape::reshape, &[part("reshape_param", &["shape", "axis", "num_axes"], &[])], ""),
    row("SPP", 1..=1, 1..=1, pooling::spp, &[part("spp_param", &["pyramid_height", "pool"], ENGINE)], "MAX and AVE"),
    row("Scale", 1..=2, 1..=1, arithmetic::scale,
        &[part("scale_param", &["axis", "num_axes", "filler", "bias_term", "bias_filler"], &[])],
        ""),
    row("Sigmoid", 1..=1, 1..=1, activation::sigmoid, &[part("sigmoid_param", &[], ENGINE)], ""),
    row("SigmoidCrossEntropyLoss", 2..=2, 0..=1, loss::sigmoid_cross_entropy, &[LOSS], LABELS),
    row("Silence", 1..=ANY, 0..=0, shape::silence, &[], ""),
    row("Slice", 1..=1, 1..=ANY, shape::slice,
        &[part("slice_param", &["slice_dim", "slice_point", "axis"], &[])],
        ""),
    row("Softmax", 1..=1, 1..=1, normalization::softmax, &[SOFTMAX], ""),
    row("SoftmaxWithLoss", 2..=2, 0..=2, loss::softmax_with_loss,
        &[SOFTMAX, LOSS],
        "becomes Softmax when losses are stripped"),
    row("Split", 1..=1, 1..=ANY, shape::split, &[], ""),
    row("Swish", 1..=1, 1..=1, activation::swish, &[part("swish_param", &["beta"], &[])], ""),
    row("TanH", 1..=1, 1..=1, activation::tanh, &[part("tanh_param", &[], ENGINE)], ""),
    row("Threshold", 1..=1, 1..=1, activation::threshold, &[part("threshold_param", &["threshold"], &[])], ""),
    row("Tile", 1..=1, 1..=1, shape::tile, &[part("tile_param", &["axis", "tiles"], &[])], ""),
    row("WindowData", 0..=0, 1..=2, input::file_data, &[], "only as network input"),
    row("Winograd", 1..=ANY, 1..=ANY, convolution::winograd,
        &[CONVOLUTION],
        "SkimCaffe; kernels 3x3 and 5x5, weights spatial or transformed"),
];

/// Layer types that are known and refused, with the reason, sorted by name.
pub(super) static REFUSED: &[(&str, &str)] = &[
    (
        "Axpy",
        "scales one blob by another and adds a third (SENet); Scale and Eltwise layers do the same",
    ),
    (
        "BN",
        "batch normalisation of SegNet and others, with scale and shift; forks differ in the blobs that \
      they store: use a BatchNorm layer and a Scale layer",
    ),
    ("ChannelShuffle", "another name of ShuffleChannel"),
    (
        "CropCenter",
        "cuts pixels off at the edges (waifu2x); a Crop layer with a blob of the wanted size does the same",
    ),
    (
        "DeformableConvolution",
        "convolution with learned offsets, of Deformable ConvNets",
    ),
    ("DetectionEvaluate", "needs boxes of a labelled data set"),
    (
        "Interp",
        "bilinear resizing of PSPNet and DeepLab; a Deconvolution with a bilinear filler resizes by whole factors",
    ),
    ("MultiBoxLoss", "needs boxes of a labelled data set"),
    (
        "PSROIPooling",
        "position-sensitive pooling of regions, of R-FCN",
    ),
    (
        "PriorBoxClustered",
        "boxes of given widths and heights, of OpenVINO; not the sizes of PriorBox",
    ),
    ("Proposal", "regions of Faster R-CNN"),
    ("Python", "code outside the model"),
    (
        "ROIAlign",
        "pooling of regions with interpolation, of Mask R-CNN",
    ),
    (
        "ROIPooling",
        "pooling of regions, of Fast R-CNN; the part of the network before it runs when it is cut off",
    ),
    ("Region", "boxes of YOLO"),
    ("Reorg", "moves pixels into channels, of YOLO v2"),
    (
        "SELU",
        "an activation; an ELU of alpha 1.67326 and a Power of scale 1.0507 do the same",
    ),
    (
        "SeLu",
        "an activation; an ELU of alpha 1.67326 and a Power of scale 1.0507 do the same",
    ),
    (
        "ShuffleChannel",
        "changes the order of channels between groups, of ShuffleNet; Reshape, Permute and Reshape do the same",
    ),
    ("SmoothL1Loss", "a loss of Fast R-CNN"),
    (
        "Upsample",
        "copies or unpools pixels; forks differ in its meaning: SegNet takes the indices of a Pooling, YOLO a factor",
    ),
];

/// Row of a layer's type, or an error that helps.
pub(super) fn find(layer: &LayerParameter) -> Result<&'static LayerType> {
    let kind = layer.r#type();
    if let Some(row) = SUPPORTED.iter().find(|row| row.name == kind) {
        return Ok(row);
    }
    let error = Error::new(format!("layer type {}", named(layer))).field("type");
    if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == kind) {
        return Err(error
            .expected("a supported type")
            .hint(format!("{kind} is known but not supported: {reason}")));
    }
    let names: Vec<&str> = SUPPORTED.iter().map(|row| row.name).collect();
    let error = error.expected(format!("one of {}", names.join(", ")));
    Err(match closest(kind, names) {
        Some(closest) => error.hint(format!("the closest is {closest}")),
        None => error
            .hint("none of them is spelt alike: it is a layer of another Caffe, or of your own"),
    })
}

/// The type; of a Python layer also what it runs.
fn named(layer: &LayerParameter) -> String {
    let kind = layer.r#type();
    match layer.python_param.as_deref() {
        Some(python) if kind == "Python" => {
            format!("{kind:?} ({}.{})", python.module(), python.layer())
        }
        _ => format!("{kind:?}"),
    }
}

/// A range of numbers in words.
pub(super) fn range(range: &RangeInclusive<usize>) -> String {
    match (*range.start(), *range.end()) {
        (start, ANY) => format!("{start} or more"),
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    }
}
