//! Convolution, Deconvolution, Winograd, Im2col.

use super::layer::{Layer, param};
use super::store::Wanted;
use crate::proto::{ConvolutionParameter, FillerParameter};
use skimjit_models::ops::winograd::WinogradTransform;
use skimjit_models::ops::{Convolution, Im2col, PostOps, Window, WinogradConvolution};
use skimjit_models::{Op, Result, Shape, Tensor, WeightId};

/// Types whose groups are the input channels where `group` is not given.
const DEPTHWISE: [&str; 2] = ["ConvolutionDepthwise", "DepthwiseConvolution"];

/// Convolution, MKLConvolution, DepthwiseConvolution. `conv_mode` and `engine` choose an implementation of the same
/// result and are ignored.
pub(super) fn convolution(layer: &mut Layer<'_>) -> Result<()> {
    let op = convolution_op(layer, PostOps::default())?;
    layer.node_per_bottom(&Op::Convolution(op))
}

/// Deconvolution.
pub(super) fn deconvolution(layer: &mut Layer<'_>) -> Result<()> {
    let geometry = Geometry::read(layer)?;
    let [kh, kw] = geometry.window.kernel;
    let dims = vec![geometry.ic, geometry.oc / geometry.groups, kh, kw];
    let op = geometry.with_weights(layer, dims, PostOps::default())?;
    layer.node_per_bottom(&Op::Deconvolution(op))
}

/// Winograd: weights are spatial kernels or lie in the Winograd domain already, where they are brought
/// to be trained.
pub(super) fn winograd(layer: &mut Layer<'_>) -> Result<()> {
    let geometry = Geometry::read(layer)?;
    let Window {
        kernel: [kh, kw],
        stride,
        dilation,
        ..
    } = geometry.window;
    if kh != kw || ![3, 5].contains(&kh) {
        return Err(layer
            .fault("convolution_param.kernel_size", format!("{kh}x{kw}"))
            .expected("3x3 or 5x5"));
    }
    if stride != [1; 2] || dilation != [1; 2] {
        return Err(layer
            .fault(
                "convolution_param.stride",
                "a stride or dilation other than 1",
            )
            .expected("1"));
    }
    // Output tiles are 4 wide, so input tiles are kernel + 3 wide.
    let tile = kh + 3;
    let group_ic = geometry.ic / geometry.groups;
    let transformed = vec![tile, tile, geometry.oc, group_ic];
    let spatial = vec![geometry.oc, group_ic, kh, kw];
    let known = layer.known_shape(0);
    let (weights, bias) = if known.as_ref().map(Shape::dims) == Some(transformed.as_slice()) {
        geometry.weights(layer, transformed)?
    } else if layer.is_to_train() {
        let ids = geometry.weights(layer, spatial)?;
        let shape = layer.checked_shape("convolution_param.num_output", transformed)?;
        layer.transform_weight(ids.0, |kernels| {
            WinogradTransform::of(kh).map(|of| Tensor::new(shape, of.kernels(kernels.data())))
        });
        ids
    } else {
        let op = geometry.with_weights(layer, spatial, PostOps::default())?;
        return layer.node_per_bottom(&Op::Convolution(op));
    };
    let Geometry {
        oc, groups, window, ..
    } = geometry;
    let op = WinogradConvolution {
        kernel: kh,
        pad: window.pad_begin,
        oc,
        groups,
        weights,
        bias,
    };
    layer.node_per_bottom(&Op::WinogradConvolution(op))
}

/// Attributes and weights of a convolution with `post` behind it.
pub(super) fn convolution_op(layer: &mut Layer<'_>, post: PostOps) -> Result<Convolution> {
    let geometry = Geometry::read(layer)?;
    let [kh, kw] = geometry.window.kernel;
    let dims = vec![geometry.oc, geometry.ic / geometry.groups, kh, kw];
    geometry.with_weights(layer, dims, post)
}

/// `convolution_param`, checked.
struct Geometry {
    window: Window,
    ic: u32,
    oc: u32,
    groups: u32,
    /// None without bias.
    bias_filler: Option<FillerParameter>,
    weight_filler: Option<FillerParameter>,
}

impl Geometry {
    fn read(layer: &Layer<'_>) -> Result<Self> {
        let conv = param(&layer.def.convolution_param);
        let input = layer.shape(0);
        check_two_dimensional(layer, &conv)?;
        let oc = layer.positive("convolution_param.num_output", conv.num_output)?;
        let ic = input.dim(1);
        let groups = match conv.group {
            None if DEPTHWISE.contains(&layer.def.r#type()) => ic,
            _ => layer.positive("convolution_param.group", Some(conv.group()))?,
        };
        for (what, channels) in [("input", ic), ("output", oc)] {
            if !channels.is_multiple_of(groups) {
                return Err(layer
                    .fault("convolution_param.group", groups.to_string())
                    .expected(format!("a divisor of the {channels} {what} channels")));
            }
        }
        let window = window(layer, &conv)?;
        Ok(Self {
            window,
            ic,
            oc,
            groups,
            bias_filler: conv
                .bias_term()
                .then(|| conv.bias_filler.clone().unwrap_or_default()),
            weight_filler: conv.weight_filler,
        })
    }

    fn weights(
        &self,
        layer: &mut Layer<'_>,
        dims: Vec<u32>,
    ) -> Result<(WeightId, Option<WeightId>)> {
        let shape = layer.checked_shape("convolution_param.num_output", dims)?;
        let mut expected = vec![Wanted::new(shape, self.weight_filler.clone())];
        if let Some(filler) = self.bias_filler.clone() {
            expected.push(Wanted::new(Shape::new([self.oc])?, Some(filler)));
        }
        let ids = layer.prunable_weights(&expected)?;
        Ok((ids[0], ids.get(1).copied()))
    }

    fn with_weights(
        self,
        layer: &mut Layer<'_>,
        dims: Vec<u32>,
        post: PostOps,
    ) -> Result<Convolution> {
        let (weights, bias) = self.weights(layer, dims)?;
        let Self {
            window, oc, groups, ..
        } = self;
        Ok(Convolution {
            window,
            oc,
            groups,
            weights,
            bias,
            post,
        })
    }
}

/// Im2col.
pub(super) fn im2col(layer: &mut Layer<'_>) -> Result<()> {
    let conv = param(&layer.def.convolution_param);
    check_two_dimensional(layer, &conv)?;
    let window = window(layer, &conv)?;
    layer.node(Op::Im2col(Im2col { window }))
}

/// Refuses channels anywhere but in axis 1 of 4.
fn check_two_dimensional(layer: &Layer<'_>, conv: &ConvolutionParameter) -> Result<()> {
    let input = layer.shape(0);
    let axis = layer.axis("convolution_param.axis", conv.axis(), &input)?;
    if input.rank() == 4 && axis == 1 {
        return Ok(());
    }
    Err(layer
        .fault(
            "bottom[0]",
            format!("shape {input}, channels in axis {axis}"),
        )
        .expected("4 axes: N, C, H, W")
        .hint("only two-dimensional convolutions are supported"))
}

fn window(layer: &Layer<'_>, conv: &ConvolutionParameter) -> Result<Window> {
    let kernel = spatial(
        layer,
        "kernel_size",
        &conv.kernel_size,
        [conv.kernel_h, conv.kernel_w],
    )?
    .ok_or_else(|| {
        layer
            .fault("convolution_param.kernel_size", "nothing")
            .expected("kernel_size, or kernel_h and kernel_w")
    })?;
    let stride = spatial(
        layer,
        "stride",
        &conv.stride,
        [conv.stride_h, conv.stride_w],
    )?;
    let pad = spatial(layer, "pad", &conv.pad, [conv.pad_h, conv.pad_w])?;
    let dilation = spatial(layer, "dilation", &conv.dilation, [None; 2])?;
    let window = Window {
        kernel,
        stride: stride.unwrap_or([1; 2]),
        pad_begin: pad.unwrap_or([0; 2]),
        pad_end: pad.unwrap_or([0; 2]),
        dilation: dilation.unwrap_or([1; 2]),
    };
    for (field, values) in [
        ("kernel_size", window.kernel),
        ("stride", window.stride),
        ("dilation", window.dilation),
    ] {
        if values.contains(&0) {
            return Err(layer
                .fault(&format!("convolution_param.{field}"), "0")
                .expected("at least 1"));
        }
    }
    Ok(window)
}

/// A quantity per axis: one value, one per axis, or the `_h` and `_w` fields; `None` when absent.
fn spatial(
    layer: &Layer<'_>,
    field: &str,
    list: &[u32],
    [h, w]: [Option<u32>; 2],
) -> Result<Option<[u32; 2]>> {
    let name = format!("convolution_param.{field}");
    if h.is_some() || w.is_some() {
        if !list.is_empty() {
            return Err(layer
                .fault(&name, format!("{field} together with its _h and _w fields"))
                .expected("one or the other"));
        }
        // An absent half of kernel_h/kernel_w or stride_h/stride_w is 0 in Caffe, which it refuses.
        return Ok(Some([h.unwrap_or(0), w.unwrap_or(0)]));
    }
    match list {
        [] => Ok(None),
        [both] => Ok(Some([*both; 2])),
        [h, w] => Ok(Some([*h, *w])),
        _ => Err(layer
            .fault(&name, format!("{} values", list.len()))
            .expected("1 or 2")),
    }
}
