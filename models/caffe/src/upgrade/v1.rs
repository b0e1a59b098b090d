//! V1 layers: a type enum, and learning rates beside the blobs.

use super::super::proto::v1_layer_parameter::LayerType;
use super::super::proto::{LayerParameter, ParamSpec, TransformationParameter, V1LayerParameter};
use super::super::unknown::moved;
use skimjit_models::{Error, Result};

/// Today's form of a V1 layer.
pub(super) fn upgrade(mut old: V1LayerParameter) -> Result<LayerParameter> {
    move_transform(&mut old);
    let kind = LayerType::try_from(old.r#type.unwrap_or_default()).map_err(|_| {
        Error::new(format!(
            "layer type number {}",
            old.r#type.unwrap_or_default()
        ))
        .layer(old.name())
        .field("type")
        .expected("0 to 39")
        .hint("another fork of Caffe wrote this file")
    })?;
    let param = specs(&old);
    Ok(LayerParameter {
        r#type: Some(type_name(kind).to_owned()),
        param,
        name: old.name,
        bottom: old.bottom,
        top: old.top,
        loss_weight: old.loss_weight,
        blobs: old.blobs,
        include: old.include,
        exclude: old.exclude,
        transform_param: old.transform_param,
        loss_param: old.loss_param,
        accuracy_param: old.accuracy_param,
        argmax_param: old.argmax_param,
        concat_param: old.concat_param,
        contrastive_loss_param: old.contrastive_loss_param,
        convolution_param: old.convolution_param,
        data_param: old.data_param,
        dropout_param: old.dropout_param,
        dummy_data_param: old.dummy_data_param,
        eltwise_param: old.eltwise_param,
        exp_param: old.exp_param,
        hdf5_data_param: old.hdf5_data_param,
        hdf5_output_param: old.hdf5_output_param,
        hinge_loss_param: old.hinge_loss_param,
        image_data_param: old.image_data_param,
        infogain_loss_param: old.infogain_loss_param,
        inner_product_param: old.inner_product_param,
        lrn_param: old.lrn_param,
        memory_data_param: old.memory_data_param,
        mvn_param: old.mvn_param,
        pooling_param: old.pooling_param,
        power_param: old.power_param,
        relu_param: old.relu_param,
        sigmoid_param: old.sigmoid_param,
        slice_param: old.slice_param,
        softmax_param: old.softmax_param,
        tanh_param: old.tanh_param,
        threshold_param: old.threshold_param,
        window_data_param: old.window_data_param,
        unknown_fields: moved(old.unknown_fields, "V1LayerParameter"),
        ..LayerParameter::default()
    })
}

/// Moves what data layers once said themselves into `transform_param`.
fn move_transform(old: &mut V1LayerParameter) {
    let fields = match old.r#type() {
        LayerType::Data => old.data_param.as_deref_mut().map(|p| {
            (
                p.scale.take(),
                p.mean_file.take(),
                p.crop_size.take(),
                p.mirror.take(),
            )
        }),
        LayerType::ImageData => old.image_data_param.as_deref_mut().map(|p| {
            (
                p.scale.take(),
                p.mean_file.take(),
                p.crop_size.take(),
                p.mirror.take(),
            )
        }),
        LayerType::WindowData => old.window_data_param.as_deref_mut().map(|p| {
            (
                p.scale.take(),
                p.mean_file.take(),
                p.crop_size.take(),
                p.mirror.take(),
            )
        }),
        _ => None,
    };
    let Some((scale, mean_file, crop_size, mirror)) = fields else {
        return;
    };
    if scale.is_none() && mean_file.is_none() && crop_size.is_none() && mirror.is_none() {
        return;
    }
    let transform: &mut TransformationParameter = old.transform_param.get_or_insert_default();
    transform.scale = scale.or(transform.scale);
    transform.mean_file = mean_file.or(transform.mean_file.take());
    transform.crop_size = crop_size.or(transform.crop_size);
    transform.mirror = mirror.or(transform.mirror);
}

/// Names, share modes, learning rates and decays, which were four lists, as one list.
fn specs(old: &V1LayerParameter) -> Vec<ParamSpec> {
    let counts = [
        old.param.len(),
        old.blob_share_mode.len(),
        old.blobs_lr.len(),
        old.weight_decay.len(),
    ];
    let count = counts.into_iter().max().unwrap_or(0);
    let spec = |index: usize| ParamSpec {
        name: old.param.get(index).cloned(),
        share_mode: old.blob_share_mode.get(index).copied(),
        lr_mult: old.blobs_lr.get(index).copied(),
        decay_mult: old.weight_decay.get(index).copied(),
        ..ParamSpec::default()
    };
    (0..count).map(spec).collect()
}

fn type_name(kind: LayerType) -> &'static str {
    match kind {
        LayerType::None => "",
        LayerType::Accuracy => "Accuracy",
        LayerType::Bnll => "BNLL",
        LayerType::Concat => "Concat",
        LayerType::Convolution => "Convolution",
        LayerType::Data => "Data",
        LayerType::Dropout => "Dropout",
        LayerType::EuclideanLoss => "EuclideanLoss",
        LayerType::Flatten => "Flatten",
        LayerType::Hdf5Data => "HDF5Data",
        LayerType::Hdf5Output => "HDF5Output",
        LayerType::Im2col => "Im2col",
        LayerType::ImageData => "ImageData",
        LayerType::InfogainLoss => "InfogainLoss",
        LayerType::InnerProduct => "InnerProduct",
        LayerType::Lrn => "LRN",
        LayerType::MultinomialLogisticLoss => "MultinomialLogisticLoss",
        LayerType::Pooling => "Pooling",
        LayerType::Relu => "ReLU",
        LayerType::Sigmoid => "Sigmoid",
        LayerType::Softmax => "Softmax",
        LayerType::SoftmaxLoss => "SoftmaxWithLoss",
        LayerType::Split => "Split",
        LayerType::Tanh => "TanH",
        LayerType::WindowData => "WindowData",
        LayerType::Eltwise => "Eltwise",
        LayerType::Power => "Power",
        LayerType::SigmoidCrossEntropyLoss => "SigmoidCrossEntropyLoss",
        LayerType::HingeLoss => "HingeLoss",
        LayerType::MemoryData => "MemoryData",
        LayerType::Argmax => "ArgMax",
        LayerType::Threshold => "Threshold",
        LayerType::DummyData => "DummyData",
        LayerType::Slice => "Slice",
        LayerType::Mvn => "MVN",
        LayerType::Absval => "AbsVal",
        LayerType::Silence => "Silence",
        LayerType::ContrastiveLoss => "ContrastiveLoss",
        LayerType::Exp => "Exp",
        LayerType::Deconvolution => "Deconvolution",
    }
}
