//! The layer types: one row each.

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
    /// What is not supported, or not obvious.
    pub note: &'static str,
}

const ANY: usize = usize::MAX;

const fn row(
    name: &'static str,
    bottoms: RangeInclusive<usize>,
    tops: RangeInclusive<usize>,
    convert: Convert,
    note: &'static str,
) -> LayerType {
    LayerType {
        name,
        bottoms,
        tops,
        convert,
        note,
    }
}

const AS_PLAIN: &str = "SkimCaffe; same as the plain type";
const DEPTHWISE: &str = "a convolution with a group for each channel, unless group is given";
const LABELS: &str = "dropped with the labels when data layers become inputs";

/// All layer types that are understood, sorted by name.
pub(super) static SUPPORTED: &[LayerType] = &[
    row("AbsVal", 1..=1, 1..=1, activation::abs_val, ""),
    row("Accuracy", 2..=2, 1..=2, loss::accuracy, LABELS),
    row(
        "AnnotatedData",
        0..=0,
        1..=2,
        input::file_data,
        "SSD; only as network input",
    ),
    row("ArgMax", 1..=1, 1..=1, shape::arg_max, ""),
    row("BNLL", 1..=1, 1..=1, activation::bnll, ""),
    row(
        "BatchNorm",
        1..=1,
        1..=1,
        normalization::batch_norm,
        "statistics of the batch with use_global_stats: false; scale_bias: true or 5 blobs are NVIDIA's, with scale and offset",
    ),
    row(
        "BatchReindex",
        2..=2,
        1..=1,
        batch::batch_reindex,
        "an index that is no image gives NaN",
    ),
    row("Bias", 1..=2, 1..=1, arithmetic::bias, ""),
    row("Clip", 1..=1, 1..=1, activation::clip, ""),
    row("Concat", 1..=ANY, 1..=1, shape::concat, ""),
    row("ContrastiveLoss", 3..=3, 0..=1, loss::contrastive, LABELS),
    row(
        "Convolution",
        1..=ANY,
        1..=ANY,
        convolution::convolution,
        "two-dimensional; conv_mode is ignored",
    ),
    row(
        "ConvolutionDepthwise",
        1..=ANY,
        1..=ANY,
        convolution::convolution,
        DEPTHWISE,
    ),
    row(
        "ConvolutionReLU",
        1..=ANY,
        1..=ANY,
        fused::convolution_relu,
        "SkimCaffe",
    ),
    row(
        "ConvolutionReLUPool",
        1..=1,
        1..=2,
        fused::convolution_relu_pool,
        "SkimCaffe; MAX only",
    ),
    row(
        "ConvolutionReLUPoolLRN",
        1..=1,
        1..=1,
        fused::convolution_relu_pool_lrn,
        "SkimCaffe; MAX, across channels",
    ),
    row("Crop", 2..=2, 1..=1, shape::crop, ""),
    row(
        "Data",
        0..=0,
        1..=2,
        input::file_data,
        "only as network input",
    ),
    row(
        "Deconvolution",
        1..=ANY,
        1..=ANY,
        convolution::deconvolution,
        "two-dimensional",
    ),
    row(
        "DepthwiseConvolution",
        1..=ANY,
        1..=ANY,
        convolution::convolution,
        DEPTHWISE,
    ),
    row(
        "DetectionOutput",
        3..=3,
        1..=1,
        detection::detection_output,
        "SSD; as many rows as there can be, -1 behind the last detection",
    ),
    row(
        "Dropout",
        1..=1,
        1..=1,
        activation::dropout,
        "copies at test time",
    ),
    row(
        "DummyData",
        0..=0,
        1..=ANY,
        input::dummy_data,
        "a constant: fillers that draw numbers do so once",
    ),
    row("ELU", 1..=1, 1..=1, activation::elu, ""),
    row("Eltwise", 2..=ANY, 1..=1, arithmetic::eltwise, ""),
    row(
        "Embed",
        1..=1,
        1..=1,
        inner_product::embed,
        "an index that is no row gives NaN",
    ),
    row("EuclideanLoss", 2..=2, 0..=1, loss::euclidean, LABELS),
    row("Exp", 1..=1, 1..=1, activation::exp, ""),
    row(
        "Filter",
        2..=ANY,
        1..=ANY,
        batch::filter,
        "the chosen images, then zeros for the rest of the batch; refused before layers that mix images",
    ),
    row("Flatten", 1..=1, 1..=1, shape::flatten, ""),
    row(
        "HDF5Data",
        0..=0,
        1..=ANY,
        input::file_data,
        "only as network input",
    ),
    row(
        "HDF5Output",
        1..=2,
        0..=0,
        input::hdf5_output,
        "its bottoms are results; no file is written on the way",
    ),
    row("HingeLoss", 2..=2, 0..=1, loss::hinge, LABELS),
    row(
        "Im2col",
        1..=1,
        1..=1,
        convolution::im2col,
        "two-dimensional",
    ),
    row(
        "ImageData",
        0..=0,
        1..=2,
        input::file_data,
        "only as network input",
    ),
    row(
        "InfogainLoss",
        2..=3,
        0..=2,
        loss::infogain,
        "operands are probabilities unless there is an axis or a second top",
    ),
    row(
        "InnerProduct",
        1..=1,
        1..=1,
        inner_product::inner_product,
        "gemm_mode is ignored",
    ),
    row(
        "InnerProductReLUDropout",
        1..=1,
        1..=1,
        fused::inner_product_relu_dropout,
        "SkimCaffe",
    ),
    row("Input", 0..=0, 1..=ANY, input::input, ""),
    row("LRN", 1..=1, 1..=1, normalization::lrn, ""),
    row(
        "LSTM",
        2..=5,
        1..=3,
        recurrent::lstm,
        "the state starts at zero in every run unless it is exposed",
    ),
    row("LSTMUnit", 3..=3, 2..=2, recurrent::lstm_unit, ""),
    row("Log", 1..=1, 1..=1, activation::log, ""),
    row(
        "MKLBatchNorm",
        1..=1,
        1..=1,
        normalization::mkl_batch_norm,
        "SkimCaffe; use_weight_bias: false only",
    ),
    row(
        "MKLConvolution",
        1..=ANY,
        1..=ANY,
        convolution::convolution,
        AS_PLAIN,
    ),
    row(
        "MKLLRN",
        1..=1,
        1..=1,
        normalization::mkl_lrn,
        "SkimCaffe; across channels",
    ),
    row("MKLPooling", 1..=1, 1..=2, pooling::pooling, AS_PLAIN),
    row("MKLReLU", 1..=1, 1..=1, activation::relu, AS_PLAIN),
    row("MVN", 1..=1, 1..=1, normalization::mvn, ""),
    row(
        "MemoryData",
        0..=0,
        1..=2,
        input::memory_data,
        "tops are network inputs",
    ),
    row(
        "MultinomialLogisticLoss",
        2..=2,
        0..=1,
        loss::multinomial_logistic,
        LABELS,
    ),
    row("Normalize", 1..=1, 1..=1, detection::normalize, "SSD"),
    row("PReLU", 1..=1, 1..=1, activation::prelu, ""),
    row("Parameter", 0..=0, 1..=1, input::parameter, ""),
    row("Permute", 1..=1, 1..=1, shape::permute, "SSD"),
    row(
        "Pooling",
        1..=1,
        1..=2,
        pooling::pooling,
        "MAX, AVE, and STOCHASTIC as at test time; an AVE of a window wholly outside gives 0 (Caffe: NaN)",
    ),
    row("Power", 1..=1, 1..=1, activation::power, ""),
    row(
        "PriorBox",
        2..=2,
        1..=1,
        detection::prior_box,
        "SSD; fractions of pixels are dropped",
    ),
    row(
        "RNN",
        2..=4,
        1..=2,
        recurrent::rnn,
        "the state starts at zero in every run unless it is exposed",
    ),
    row("ReLU", 1..=1, 1..=1, activation::relu, ""),
    row("ReLU6", 1..=1, 1..=1, activation::relu6, "MobileNet"),
    row(
        "ReLUPooling",
        1..=1,
        1..=2,
        pooling::relu_pooling,
        "SkimCaffe; MAX only",
    ),
    row("Reduction", 1..=1, 1..=1, shape::reduction, ""),
    row("Reshape", 1..=1, 1..=1, shape::reshape, ""),
    row("SPP", 1..=1, 1..=1, pooling::spp, "MAX and AVE"),
    row("Scale", 1..=2, 1..=1, arithmetic::scale, ""),
    row("Sigmoid", 1..=1, 1..=1, activation::sigmoid, ""),
    row(
        "SigmoidCrossEntropyLoss",
        2..=2,
        0..=1,
        loss::sigmoid_cross_entropy,
        LABELS,
    ),
    row("Silence", 1..=ANY, 0..=0, shape::silence, ""),
    row("Slice", 1..=1, 1..=ANY, shape::slice, ""),
    row("Softmax", 1..=1, 1..=1, normalization::softmax, ""),
    row(
        "SoftmaxWithLoss",
        2..=2,
        0..=2,
        loss::softmax_with_loss,
        "becomes Softmax when losses are stripped",
    ),
    row("Split", 1..=1, 1..=ANY, shape::split, ""),
    row("Swish", 1..=1, 1..=1, activation::swish, ""),
    row("TanH", 1..=1, 1..=1, activation::tanh, ""),
    row("Threshold", 1..=1, 1..=1, activation::threshold, ""),
    row("Tile", 1..=1, 1..=1, shape::tile, ""),
    row(
        "WindowData",
        0..=0,
        1..=2,
        input::file_data,
        "only as network input",
    ),
    row(
        "Winograd",
        1..=ANY,
        1..=ANY,
        convolution::winograd,
        "SkimCaffe; kernels 3x3 and 5x5, weights spatial or transformed",
    ),
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

/// The tables as Markdown, for SUPPORTED.md.
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "# Layer types\n\nWritten by `SKIMJIT_BLESS=1 cargo test -p skimjit-caffe --test \
         import_table`; do not edit.\n\n## Supported\n\n| Type | Bottoms | Tops | Notes |\n\
         |---|---|---|---|\n",
    );
    for row in SUPPORTED {
        let (bottoms, tops) = (range(&row.bottoms), range(&row.tops));
        text.push_str(&format!(
            "| {} | {bottoms} | {tops} | {} |\n",
            row.name, row.note
        ));
    }
    text.push_str("\n## Known and refused\n\n| Type | Reason |\n|---|---|\n");
    for (name, reason) in REFUSED {
        text.push_str(&format!("| {name} | {reason} |\n"));
    }
    text
}

/// A range of numbers in words.
pub(super) fn range(range: &RangeInclusive<usize>) -> String {
    match (*range.start(), *range.end()) {
        (start, ANY) => format!("{start} or more"),
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    }
}
