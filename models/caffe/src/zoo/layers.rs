//! Shapes, parameters and work of each layer of a zoo network.
//!
//! Weights cannot be made before their shapes are known, and the importer needs the weights; so the
//! few layer types of the zoo are walked here on their own. It also serves as a second opinion on
//! the importer in tests, and as the table of layer shapes for benches.

use super::Net;
use crate::proto::{ConvolutionParameter, LayerParameter, NetParameter, PoolingParameter};
use skimjit_models::{Error, Result};
use std::collections::HashMap;

/// What is known of a layer without its weights. Shapes leave the batch out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LayerShape {
    /// Layer name.
    pub name: String,
    /// Caffe's layer type.
    pub kind: String,
    /// Dims of each bottom behind the batch.
    pub inputs: Vec<Vec<u32>>,
    /// Dims of the top behind the batch.
    pub output: Vec<u32>,
    /// Dims of each parameter blob, in Caffe's order.
    pub blobs: Vec<Vec<u32>>,
    /// Multiply-adds of one image; 0 for all but convolutions and inner products.
    pub macs: u64,
}

impl LayerShape {
    /// True for the layers whose first blob is pruned: convolutions and inner products.
    pub fn has_weights(&self) -> bool {
        matches!(self.kind.as_str(), "Convolution" | "InnerProduct")
    }
    /// Elements of blob `index`; 0 when there is none.
    pub fn blob_count(&self, index: usize) -> u64 {
        self.blobs.get(index).map_or(0, |dims| product(dims))
    }
}

/// Layers of a network, in the order of its prototxt.
pub fn layers(net: &Net) -> Result<Vec<LayerShape>> {
    layer_shapes(&super::topology(net)?)
}

pub(super) fn layer_shapes(topology: &NetParameter) -> Result<Vec<LayerShape>> {
    let mut blobs: HashMap<&str, Vec<u32>> = HashMap::new();
    let mut result = Vec::with_capacity(topology.layer.len());
    for layer in &topology.layer {
        let inputs = layer
            .bottom
            .iter()
            .map(|name| blobs.get(name.as_str()).cloned());
        let inputs: Option<Vec<_>> = inputs.collect();
        let shape = inputs
            .ok_or_else(|| Error::new("a bottom that no layer before it makes"))
            .and_then(|inputs| layer_shape(layer, inputs))
            .map_err(|error| error.layer(layer.name()))?;
        blobs.extend(
            layer
                .top
                .iter()
                .map(|top| (top.as_str(), shape.output.clone())),
        );
        result.push(shape);
    }
    Ok(result)
}

fn layer_shape(layer: &LayerParameter, inputs: Vec<Vec<u32>>) -> Result<LayerShape> {
    let first = inputs.first().cloned().unwrap_or_default();
    let channels = first.first().copied().unwrap_or(1);
    let (output, blobs) = match layer.r#type() {
        "Input" => (input(layer)?, vec![]),
        "Convolution" => convolution(required(layer.convolution_param.as_deref())?, &first)?,
        "InnerProduct" => {
            let param = required(layer.inner_product_param.as_deref())?;
            let weights = vec![param.num_output(), product(&first) as u32];
            (
                vec![param.num_output()],
                with_bias(weights, param.bias_term()),
            )
        }
        "Pooling" => (
            pooling(required(layer.pooling_param.as_deref())?, &first)?,
            vec![],
        ),
        "Concat" => {
            let axis = layer
                .concat_param
                .as_deref()
                .map_or(1, |param| param.axis());
            let axis = usize::try_from(axis)
                .unwrap_or_default()
                .clamp(1, first.len())
                - 1;
            let mut output = first;
            output[axis] = inputs.iter().map(|dims| dims[axis]).sum();
            (output, vec![])
        }
        "BatchNorm" => (first, vec![vec![channels], vec![channels], vec![1]]),
        "Scale" => {
            let bias = layer
                .scale_param
                .as_deref()
                .is_some_and(|param| param.bias_term());
            (first, with_bias(vec![channels], bias))
        }
        "ReLU" | "LRN" | "Dropout" | "Softmax" | "Eltwise" => (first, vec![]),
        "Permute" | "Flatten" | "Reshape" | "PriorBox" | "DetectionOutput" => {
            (detection(layer, &inputs)?, vec![])
        }
        other => return Err(Error::new(format!("type {other:?}")).expected("a type of the zoo")),
    };
    let per_output = match layer.r#type() {
        "Convolution" | "InnerProduct" => product(&blobs[0][1..]),
        _ => 0,
    };
    Ok(LayerShape {
        name: layer.name().to_owned(),
        kind: layer.r#type().to_owned(),
        macs: product(&output) * per_output,
        inputs,
        output,
        blobs,
    })
}

/// Output of the layers between the feature maps and the detections of SSD.
fn detection(layer: &LayerParameter, inputs: &[Vec<u32>]) -> Result<Vec<u32>> {
    let first = inputs.first().map_or(&[][..], Vec::as_slice);
    match (layer.r#type(), first) {
        ("Permute", &[c, h, w]) => Ok(vec![h, w, c]),
        ("Flatten", dims) => Ok(vec![product(dims) as u32]),
        ("Reshape", dims) => {
            let param = required(layer.reshape_param.as_deref())?;
            let last = param.shape.as_ref().and_then(|shape| shape.dim.last());
            let last = last.map_or(1, |&dim| dim.max(1) as u32);
            Ok(vec![product(dims) as u32 / last, last])
        }
        ("PriorBox", &[_, h, w]) => {
            let param = required(layer.prior_box_param.as_deref())?;
            let ratios = 1 + 2 * param.aspect_ratio.len();
            let priors = param.min_size.len() * ratios + param.max_size.len();
            Ok(vec![2, h * w * 4 * priors as u32])
        }
        ("DetectionOutput", _) => {
            let param = required(layer.detection_output_param.as_deref())?;
            Ok(vec![1, param.keep_top_k().max(1) as u32, 7])
        }
        (_, dims) => Err(not_an_image(dims)),
    }
}

fn required<T>(param: Option<&T>) -> Result<&T> {
    param.ok_or_else(|| Error::new("no parameters"))
}

/// Blobs of a layer: its weights, and one bias per element of their first dim.
fn with_bias(weights: Vec<u32>, bias: bool) -> Vec<Vec<u32>> {
    let bias = bias.then(|| vec![weights[0]]);
    std::iter::once(weights).chain(bias).collect()
}

fn input(layer: &LayerParameter) -> Result<Vec<u32>> {
    let shape = layer
        .input_param
        .as_deref()
        .and_then(|param| param.shape.first());
    let dims = shape.map(|shape| {
        shape
            .dim
            .iter()
            .skip(1)
            .map(|&dim| u32::try_from(dim))
            .collect()
    });
    match dims {
        Some(Ok(dims)) => Ok(dims),
        _ => Err(Error::new("no input shape")),
    }
}

fn convolution(param: &ConvolutionParameter, input: &[u32]) -> Result<(Vec<u32>, Vec<Vec<u32>>)> {
    let &[channels, height, width] = input else {
        return Err(not_an_image(input));
    };
    let kernel = param.kernel_size.first().copied().unwrap_or(1);
    let stride = param.stride.first().copied().unwrap_or(1).max(1);
    let pad = param.pad.first().copied().unwrap_or(0);
    let out = |size: u32| (size + 2 * pad - kernel) / stride + 1;
    let weights = vec![
        param.num_output(),
        channels / param.group().max(1),
        kernel,
        kernel,
    ];
    let output = vec![param.num_output(), out(height), out(width)];
    Ok((output, with_bias(weights, param.bias_term())))
}

fn pooling(param: &PoolingParameter, input: &[u32]) -> Result<Vec<u32>> {
    let &[channels, height, width] = input else {
        return Err(not_an_image(input));
    };
    if param.global_pooling() {
        return Ok(vec![channels, 1, 1]);
    }
    let (kernel, stride, pad) = (param.kernel_size(), param.stride().max(1), param.pad());
    let out = |size: u32| {
        let out = (size + 2 * pad - kernel).div_ceil(stride) + 1;
        // The last window must start inside the image or its leading padding.
        if pad > 0 && (out - 1) * stride >= size + pad {
            out - 1
        } else {
            out
        }
    };
    Ok(vec![channels, out(height), out(width)])
}

fn not_an_image(dims: &[u32]) -> Error {
    Error::new(format!("an input of dims {dims:?}")).expected("channels, height, width")
}

fn product(dims: &[u32]) -> u64 {
    dims.iter().map(|&dim| u64::from(dim)).product()
}
