//! Train_val prototxts of the zoo's networks: data layers before them, losses and accuracies behind.

use super::{Net, topology};
use crate::definition::Definition;
use crate::proto::{
    AccuracyParameter, BlobShape, DataParameter, DummyDataParameter, FillerParameter,
    LayerParameter, NetStateRule, ParamSpec, Phase, TransformationParameter, data_parameter::Db,
};
use skimjit_models::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// Where a training network gets its data from, and for how many classes.
#[derive(Clone, Debug, Default)]
pub struct TrainVal {
    /// LMDBs for training and testing. Without them, data are random and the same in every batch: for
    /// trying out and timing.
    pub data: Option<[String; 2]>,
    /// Images of a training and of a test batch.
    pub batch: [u32; 2],
    /// Classes, when not those of the published network.
    pub classes: Option<u32>,
    /// Mean of each channel, or one for all.
    pub mean: Vec<f32>,
    /// Factor of pixels, see [`usual_scale`]; weights of published networks go with 1 (LeNet: 1/256).
    pub scale: f32,
    /// Random mirrors in training.
    pub mirror: bool,
}

/// The network with data layers for both phases, `SoftmaxWithLoss` and `Accuracy` in place of each
/// Softmax, fillers, and Caffe's usual multipliers (bias: twice the rate, no decay).
///
/// Pictures of the data bases are cropped to the network's input. Weights are filled with variance
/// 2 / fan-in (He et al., 2015), classifiers with a standard deviation of 0.01. Auxiliary heads weigh 0.3.
pub fn train_val(net: &Net, options: &TrainVal) -> Result<Definition> {
    let mut result = topology(net)?;
    let layers = std::mem::take(&mut result.layer);
    if let Some(layer) = layers.iter().find(|layer| layer.r#type() == "PriorBox") {
        return Err(
            Error::new(format!("{} with layers of type PriorBox", net.name))
                .layer(layer.name())
                .expected("a network that classifies: detectors are not trained here"),
        );
    }
    let classifiers = classifiers(&layers);
    for mut layer in layers {
        match layer.r#type() {
            "Input" => result.layer.extend(data_layers(net, options)),
            "Softmax" => result.layer.extend(losses(&layer, options, net)),
            _ => {
                let last = classifiers.contains(layer.name());
                prepare(&mut layer, last, options.classes);
                result.layer.push(layer);
            }
        }
    }
    Definition::new(result, Path::new(net.name))
}

/// Factor that brings pixels of 0 to 255 to a size that He's fillers are made for.
pub fn usual_scale(net: &Net) -> f32 {
    if net.input_std < 1.0 {
        1.0 / 256.0
    } else {
        1.0 / 64.0
    }
}

/// Layers whose results, or what layers without weights make of them, are softmaxed.
fn classifiers(layers: &[LayerParameter]) -> BTreeSet<String> {
    let softmaxes = layers
        .iter()
        .enumerate()
        .filter(|(_, l)| l.r#type() == "Softmax");
    let weighted =
        |layer: &LayerParameter| matches!(layer.r#type(), "Convolution" | "InnerProduct");
    let mut found = BTreeSet::new();
    for (index, softmax) in softmaxes {
        let mut blob = softmax.bottom[0].as_str();
        for layer in layers[..index].iter().rev() {
            if !layer.top.iter().any(|top| top == blob) {
                continue;
            }
            if weighted(layer) {
                found.insert(layer.name().to_owned());
                break;
            }
            blob = layer.bottom.first().map_or("", String::as_str);
        }
    }
    found
}

/// Fillers, multipliers and the number of classes.
fn prepare(layer: &mut LayerParameter, classifier: bool, classes: Option<u32>) {
    let filler = Some(if classifier {
        // All classes start alike.
        FillerParameter {
            r#type: Some("gaussian".to_owned()),
            std: Some(0.01),
            ..FillerParameter::default()
        }
    } else {
        FillerParameter {
            r#type: Some("msra".to_owned()),
            ..FillerParameter::default()
        }
    });
    let classes = classes.filter(|_| classifier);
    let bias = if let Some(param) = &mut layer.convolution_param {
        param.weight_filler = filler;
        param.num_output = classes.or(param.num_output);
        param.bias_term()
    } else if let Some(param) = &mut layer.inner_product_param {
        param.weight_filler = filler;
        param.num_output = classes.or(param.num_output);
        param.bias_term()
    } else {
        return;
    };
    let spec = |rate, decay| ParamSpec {
        lr_mult: Some(rate),
        decay_mult: Some(decay),
        ..ParamSpec::default()
    };
    layer.param = vec![spec(1.0, 1.0)];
    layer.param.extend(bias.then(|| spec(2.0, 0.0)));
}

fn in_phase(phase: Phase) -> Vec<NetStateRule> {
    vec![NetStateRule {
        phase: Some(phase as i32),
        ..NetStateRule::default()
    }]
}

/// The layers that bring pictures and labels, one for each phase.
fn data_layers(net: &Net, options: &TrainVal) -> Vec<LayerParameter> {
    let phases = [Phase::Train, Phase::Test];
    let layer = |(index, phase): (usize, Phase)| {
        let mut layer = LayerParameter {
            name: Some("data".to_owned()),
            top: vec!["data".to_owned(), "label".to_owned()],
            include: in_phase(phase),
            ..LayerParameter::default()
        };
        let batch = options.batch[index];
        match &options.data {
            Some(sources) => {
                layer.r#type = Some("Data".to_owned());
                layer.data_param = Some(Box::new(DataParameter {
                    source: Some(sources[index].clone()),
                    batch_size: Some(batch),
                    backend: Some(Db::Lmdb as i32),
                    ..DataParameter::default()
                }));
                layer.transform_param = Some(Box::new(TransformationParameter {
                    crop_size: Some(net.input_shape[2]),
                    mirror: (options.mirror && phase == Phase::Train).then_some(true),
                    mean_value: options.mean.clone(),
                    scale: Some(options.scale),
                    ..TransformationParameter::default()
                }));
            }
            None => {
                layer.r#type = Some("DummyData".to_owned());
                layer.dummy_data_param = Some(Box::new(made_up(net, options, batch)));
            }
        }
        layer
    };
    phases.into_iter().enumerate().map(layer).collect()
}

/// Normal pixels and uniform labels.
fn made_up(net: &Net, options: &TrainVal, batch: u32) -> DummyDataParameter {
    let [_, c, h, w] = net.input_shape.map(i64::from);
    let classes = options.classes.unwrap_or(published_classes(net));
    let shape = |dim: &[i64]| BlobShape {
        dim: dim.to_vec(),
        ..BlobShape::default()
    };
    DummyDataParameter {
        shape: vec![shape(&[batch.into(), c, h, w]), shape(&[batch.into()])],
        data_filler: vec![
            FillerParameter {
                r#type: Some("gaussian".to_owned()),
                std: Some(net.input_std.min(1.0)),
                ..FillerParameter::default()
            },
            FillerParameter {
                r#type: Some("uniform".to_owned()),
                min: Some(0.0),
                // What is behind the decimal point of a label does not count.
                max: Some(classes as f32 - 0.01),
                ..FillerParameter::default()
            },
        ],
        ..DummyDataParameter::default()
    }
}

fn published_classes(net: &Net) -> u32 {
    if net.input_shape[2] < 100 { 10 } else { 1000 }
}

/// The loss of a head, and in tests its accuracy, for pictures of many classes also among the best five.
fn losses(softmax: &LayerParameter, options: &TrainVal, net: &Net) -> Vec<LayerParameter> {
    let head = softmax.name().strip_suffix("prob").unwrap_or_default();
    let bottoms = vec![softmax.bottom[0].clone(), "label".to_owned()];
    let layer = |name: &str, kind: &str| LayerParameter {
        name: Some(format!("{head}{name}")),
        r#type: Some(kind.to_owned()),
        bottom: bottoms.clone(),
        top: vec![format!("{head}{name}")],
        ..LayerParameter::default()
    };
    let mut loss = layer("loss", "SoftmaxWithLoss");
    if !head.is_empty() {
        loss.loss_weight = vec![0.3];
    }
    let mut accuracy = layer("accuracy", "Accuracy");
    accuracy.include = in_phase(Phase::Test);
    let mut layers = vec![loss, accuracy];
    if options.classes.unwrap_or(published_classes(net)) > 20 {
        let mut best = layer("accuracy_top5", "Accuracy");
        best.include = in_phase(Phase::Test);
        best.accuracy_param = Some(Box::new(AccuracyParameter {
            top_k: Some(5),
            ..AccuracyParameter::default()
        }));
        layers.push(best);
    }
    layers
}
