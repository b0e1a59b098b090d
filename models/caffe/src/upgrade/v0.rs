//! V0 layers: one flat list of parameters for all types, and padding as a layer of its own.

use super::super::proto::v1_layer_parameter::LayerType;
use super::super::proto::{
    V0LayerParameter, V1LayerParameter, pooling_parameter, v0_layer_parameter,
};
use super::super::unknown::moved;
use skimjit_models::{Error, Result};
use std::collections::HashMap;

/// V1 forms of V0 layers; layers that are V1 already stay.
pub(super) fn upgrade(layers: Vec<V1LayerParameter>) -> Result<Vec<V1LayerParameter>> {
    fold_padding(layers)?.into_iter().map(layer).collect()
}

/// Removes padding layers and gives their pad to the layers that read them.
fn fold_padding(layers: Vec<V1LayerParameter>) -> Result<Vec<V1LayerParameter>> {
    /// What a padding layer makes of another blob.
    struct Padding {
        bottom: String,
        pad: u32,
    }
    let mut paddings: HashMap<String, Padding> = HashMap::new();
    let mut kept = Vec::new();
    for mut layer in layers {
        let kind = layer
            .layer
            .as_deref()
            .map(|old| old.r#type().to_owned())
            .unwrap_or_default();
        if kind == "padding" {
            let pad = layer.layer.as_deref().and_then(|old| old.pad).unwrap_or(0);
            let ([bottom], [top]) = (layer.bottom.as_slice(), layer.top.as_slice()) else {
                return Err(fault(&layer, "bottom", "another number of bottoms or tops")
                    .expected("one bottom and one top of a padding layer"));
            };
            paddings.insert(
                top.clone(),
                Padding {
                    bottom: bottom.clone(),
                    pad,
                },
            );
            continue;
        }
        if let Some(padding) = layer.bottom.iter().find_map(|bottom| paddings.get(bottom)) {
            let takes_pad = matches!(kind.as_str(), "conv" | "pool") && layer.bottom.len() == 1;
            let Some(old) = layer.layer.as_deref_mut().filter(|_| takes_pad) else {
                return Err(fault(&layer, "bottom", "the result of a padding layer")
                    .expected("a conv or pool layer with one bottom behind every padding layer"));
            };
            old.pad = Some(padding.pad);
            layer.bottom = vec![padding.bottom.clone()];
        }
        // The name can be made anew by a later layer.
        layer.top.iter().for_each(|top| drop(paddings.remove(top)));
        kept.push(layer);
    }
    Ok(kept)
}

fn fault(layer: &V1LayerParameter, field: &str, found: impl Into<String>) -> Error {
    let name = layer
        .layer
        .as_deref()
        .map(|old| old.name())
        .unwrap_or_default();
    Error::new(found).layer(name).field(field)
}

fn layer(mut layer: V1LayerParameter) -> Result<V1LayerParameter> {
    let Some(old) = layer.layer.take() else {
        return Ok(layer);
    };
    let mut old = *old;
    let name = old.name().to_owned();
    layer.name = old.name.take();
    layer.blobs = std::mem::take(&mut old.blobs);
    layer.blobs_lr = std::mem::take(&mut old.blobs_lr);
    layer.weight_decay = std::mem::take(&mut old.weight_decay);
    if let Some(kind) = old.r#type.take() {
        let new = layer_type(&kind).ok_or_else(|| {
            Error::new(format!("layer type {kind:?}"))
                .layer(&name)
                .field("type")
                .expected("a type of the first format, such as conv or innerproduct")
        })?;
        layer.r#type = Some(new.into());
    }
    let unknown = std::mem::take(&mut old.unknown_fields);
    layer
        .unknown_fields
        .extend(moved(unknown, "V0LayerParameter"));
    move_fields(&mut old, &mut layer);
    // Everything that had a place is taken.
    if old != V0LayerParameter::default() {
        return Err(Error::new("parameters of another type of layer")
            .layer(name)
            .expected("those of its own type only"));
    }
    Ok(layer)
}

/// Moves every field to where the layer's type has it.
fn move_fields(old: &mut V0LayerParameter, layer: &mut V1LayerParameter) {
    move_transform(old, layer);
    match layer.r#type() {
        LayerType::Convolution => move_convolution(old, layer),
        LayerType::InnerProduct => {
            let p = layer.inner_product_param.get_or_insert_default();
            p.num_output = old.num_output.take();
            p.bias_term = old.biasterm.take();
            p.weight_filler = old.weight_filler.take();
            p.bias_filler = old.bias_filler.take();
        }
        LayerType::Pooling => move_pooling(old, layer),
        LayerType::Dropout => {
            layer.dropout_param.get_or_insert_default().dropout_ratio = old.dropout_ratio.take();
        }
        LayerType::Lrn => {
            let p = layer.lrn_param.get_or_insert_default();
            p.local_size = old.local_size.take();
            p.alpha = old.alpha.take();
            p.beta = old.beta.take();
            p.k = old.k.take();
        }
        LayerType::Concat => {
            layer.concat_param.get_or_insert_default().concat_dim = old.concat_dim.take();
        }
        LayerType::InfogainLoss => {
            layer.infogain_loss_param.get_or_insert_default().source = old.source.take();
        }
        LayerType::Hdf5Output => {
            layer.hdf5_output_param = old.hdf5_output_param.take().map(Box::new)
        }
        _ => move_data(old, layer),
    }
}

fn move_convolution(old: &mut V0LayerParameter, layer: &mut V1LayerParameter) {
    let p = layer.convolution_param.get_or_insert_default();
    p.num_output = old.num_output.take();
    p.bias_term = old.biasterm.take();
    p.weight_filler = old.weight_filler.take();
    p.bias_filler = old.bias_filler.take();
    p.pad.extend(old.pad.take());
    p.kernel_size.extend(old.kernelsize.take());
    p.group = old.group.take();
    p.stride.extend(old.stride.take());
}

fn move_pooling(old: &mut V0LayerParameter, layer: &mut V1LayerParameter) {
    use pooling_parameter::PoolMethod as New;
    use v0_layer_parameter::PoolMethod as Old;
    let p = layer.pooling_param.get_or_insert_default();
    let method = match old.pool() {
        Old::Max => New::Max,
        Old::Ave => New::Ave,
        Old::Stochastic => New::Stochastic,
    };
    p.pool = old.pool.take().map(|_| method.into());
    p.pad = old.pad.take();
    p.kernel_size = old.kernelsize.take();
    p.stride = old.stride.take();
}

fn move_transform(old: &mut V0LayerParameter, layer: &mut V1LayerParameter) {
    if old.scale.is_none()
        && old.meanfile.is_none()
        && old.cropsize.is_none()
        && old.mirror.is_none()
    {
        return;
    }
    let p = layer.transform_param.get_or_insert_default();
    p.scale = old.scale.take();
    p.mean_file = old.meanfile.take();
    p.crop_size = old.cropsize.take();
    p.mirror = old.mirror.take();
}

fn move_data(old: &mut V0LayerParameter, layer: &mut V1LayerParameter) {
    let size = |size: Option<i32>| size.map(|size| size.max(0) as u32);
    match layer.r#type() {
        LayerType::Data => {
            let p = layer.data_param.get_or_insert_default();
            p.source = old.source.take();
            p.batch_size = old.batchsize.take();
            p.rand_skip = old.rand_skip.take();
        }
        LayerType::Hdf5Data => {
            let p = layer.hdf5_data_param.get_or_insert_default();
            p.source = old.source.take();
            p.batch_size = old.batchsize.take();
        }
        LayerType::ImageData => {
            let p = layer.image_data_param.get_or_insert_default();
            p.source = old.source.take();
            p.batch_size = old.batchsize.take();
            p.rand_skip = old.rand_skip.take();
            p.shuffle = old.shuffle_images.take();
            p.new_height = size(old.new_height.take());
            p.new_width = size(old.new_width.take());
        }
        LayerType::WindowData => {
            let p = layer.window_data_param.get_or_insert_default();
            p.source = old.source.take();
            p.batch_size = old.batchsize.take();
            p.fg_threshold = old.det_fg_threshold.take();
            p.bg_threshold = old.det_bg_threshold.take();
            p.fg_fraction = old.det_fg_fraction.take();
            p.context_pad = old.det_context_pad.take();
            p.crop_mode = old.det_crop_mode.take();
        }
        _ => {}
    }
}

fn layer_type(name: &str) -> Option<LayerType> {
    Some(match name {
        "accuracy" => LayerType::Accuracy,
        "bnll" => LayerType::Bnll,
        "concat" => LayerType::Concat,
        "conv" => LayerType::Convolution,
        "data" => LayerType::Data,
        "dropout" => LayerType::Dropout,
        "euclidean_loss" => LayerType::EuclideanLoss,
        "flatten" => LayerType::Flatten,
        "hdf5_data" => LayerType::Hdf5Data,
        "hdf5_output" => LayerType::Hdf5Output,
        "im2col" => LayerType::Im2col,
        "images" => LayerType::ImageData,
        "infogain_loss" => LayerType::InfogainLoss,
        "innerproduct" => LayerType::InnerProduct,
        "lrn" => LayerType::Lrn,
        "multinomial_logistic_loss" => LayerType::MultinomialLogisticLoss,
        "pool" => LayerType::Pooling,
        "relu" => LayerType::Relu,
        "sigmoid" => LayerType::Sigmoid,
        "softmax" => LayerType::Softmax,
        "softmax_loss" => LayerType::SoftmaxLoss,
        "split" => LayerType::Split,
        "tanh" => LayerType::Tanh,
        "window_data" => LayerType::WindowData,
        _ => return None,
    })
}
