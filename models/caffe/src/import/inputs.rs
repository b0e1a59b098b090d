//! Makes a network out of a training or test definition: data layers become inputs, and what needs
//! labels goes.

use super::ImportOptions;
use super::layer::param;
use crate::proto::{BlobShape, InputParameter, LayerParameter, NetParameter};
use skimjit_models::{Error, Result, Shape};
use std::collections::HashSet;

/// Layer types that bring data from outside.
pub(super) const DATA_TYPES: [&str; 6] = [
    "AnnotatedData",
    "Data",
    "HDF5Data",
    "ImageData",
    "MemoryData",
    "WindowData",
];

/// Channels of images whose number the definition does not tell.
const COLOR_CHANNELS: u32 = 3;

/// Applies the options that change the topology.
pub(super) fn prepare(net: &mut NetParameter, options: &ImportOptions) -> Result<()> {
    feed(net, &options.data_shapes);
    let before: HashSet<String> = consumed(net);
    let mut gone = HashSet::new();
    if options.data_to_input {
        for layer in net
            .layer
            .iter_mut()
            .filter(|layer| DATA_TYPES.contains(&layer.r#type()))
        {
            gone.extend(data_to_input(layer, options)?);
        }
    }
    if options.data_to_input || options.strip_losses {
        strip(net, gone, options.strip_losses);
        drop_unused_inputs(net, &before);
    }
    if let Some(shape) = &options.input_shape {
        override_shape(net, shape)?;
    }
    Ok(())
}

/// Makes inputs of the layers that bring blobs of given shapes.
fn feed(net: &mut NetParameter, shapes: &[(String, Shape)]) {
    let shape_of = |top: &String| {
        let mut found = shapes.iter().filter(|(name, _)| name == top);
        found.next().map(|(_, shape)| message(shape))
    };
    for layer in &mut net.layer {
        let shapes: Option<Vec<BlobShape>> = layer.top.iter().map(shape_of).collect();
        let source = layer.bottom.is_empty() && !layer.top.is_empty();
        if let (true, Some(shape)) = (source, shapes) {
            *layer = LayerParameter {
                name: layer.name.clone(),
                r#type: Some("Input".to_owned()),
                top: std::mem::take(&mut layer.top),
                input_param: Some(Box::new(InputParameter {
                    shape,
                    ..InputParameter::default()
                })),
                ..LayerParameter::default()
            };
        }
    }
}

/// Rewrites a data layer; returns its labels.
fn data_to_input(layer: &mut LayerParameter, options: &ImportOptions) -> Result<Vec<String>> {
    let shape = match &options.input_shape {
        Some(shape) => shape.clone(),
        None => deduced_shape(layer)?,
    };
    let labels = layer.top.split_off(layer.top.len().min(1));
    *layer = LayerParameter {
        name: layer.name.clone(),
        r#type: Some("Input".to_owned()),
        top: std::mem::take(&mut layer.top),
        input_param: Some(Box::new(InputParameter {
            shape: vec![message(&shape)],
            ..InputParameter::default()
        })),
        ..LayerParameter::default()
    };
    Ok(labels)
}

/// Shape of the data that a layer reads, as far as its parameters tell.
fn deduced_shape(layer: &LayerParameter) -> Result<Shape> {
    let transform = param(&layer.transform_param);
    let (batch, [height, width], color) = match layer.r#type() {
        "MemoryData" => {
            let p = param(&layer.memory_data_param);
            let dims = [p.batch_size(), p.channels(), p.height(), p.width()];
            return Shape::new(dims).map_err(|error| error.layer(layer.name()));
        }
        "ImageData" => {
            let p = param(&layer.image_data_param);
            (
                Some(p.batch_size()),
                [p.new_height(), p.new_width()],
                p.is_color(),
            )
        }
        "WindowData" => {
            let p = param(&layer.window_data_param);
            (p.batch_size, [p.crop_size(); 2], true)
        }
        // SSD brings pictures to one size.
        "AnnotatedData" => {
            let p = transform.resize_param.clone().unwrap_or_default();
            (
                param(&layer.data_param).batch_size,
                [p.height(), p.width()],
                true,
            )
        }
        "HDF5Data" => (param(&layer.hdf5_data_param).batch_size, [0; 2], true),
        _ => (param(&layer.data_param).batch_size, [0; 2], true),
    };
    let size = match transform.crop_size() {
        0 => [height, width],
        crop => [crop; 2],
    };
    if size.contains(&0) {
        return Err(unknown_size(layer));
    }
    let gray = transform.force_gray() || !color;
    let channels = if gray { 1 } else { COLOR_CHANNELS };
    Shape::new([batch.unwrap_or(1), channels, size[0], size[1]])
        .map_err(|error| error.layer(layer.name()))
}

/// Only the files that a layer reads tell the size of its data.
fn unknown_size(layer: &LayerParameter) -> Error {
    let kind = layer.r#type();
    let (field, found) = match kind {
        "HDF5Data" => ("hdf5_data_param.source", "whose files tell its shapes"),
        "ImageData" => (
            "image_data_param.new_height",
            "without new_height and new_width, or transform_param.crop_size",
        ),
        "WindowData" => ("window_data_param.crop_size", "without crop_size"),
        "AnnotatedData" => (
            "transform_param.resize_param",
            "without height and width, or transform_param.crop_size",
        ),
        _ => (
            "transform_param.crop_size",
            "without crop_size, whose data base tells its size",
        ),
    };
    Error::new(format!("a {kind} layer {found}"))
        .layer(layer.name())
        .field(field)
        .expected("the shape of the input")
        .hint("pass --input-shape N,C,H,W")
}

/// Removes layers that need a blob that is gone and, with `losses`, all losses; a Softmax stays of
/// a SoftmaxWithLoss.
fn strip(net: &mut NetParameter, mut gone: HashSet<String>, losses: bool) {
    let namer = SoftmaxNames::new(net);
    for mut layer in std::mem::take(&mut net.layer) {
        if ["Silence", "HDF5Output"].contains(&layer.r#type()) {
            layer.bottom.retain(|bottom| !gone.contains(bottom));
            if !layer.bottom.is_empty() {
                net.layer.push(layer);
            }
            continue;
        }
        let has_scores = layer
            .bottom
            .first()
            .is_some_and(|bottom| !gone.contains(bottom));
        if losses && layer.r#type() == "SoftmaxWithLoss" && has_scores {
            gone.extend(layer.top.iter().cloned());
            let softmax = namer.softmax(layer);
            softmax.top.iter().for_each(|top| {
                gone.remove(top);
            });
            net.layer.push(softmax);
        } else if layer.bottom.iter().any(|bottom| gone.contains(bottom))
            || losses && is_loss(layer.r#type())
        {
            gone.extend(layer.top);
        } else {
            layer.top.iter().for_each(|top| {
                gone.remove(top);
            });
            net.layer.push(layer);
        }
    }
}

fn is_loss(kind: &str) -> bool {
    kind.ends_with("Loss") || kind == "Accuracy"
}

/// How the softmaxes that stay of losses call their results.
struct SoftmaxNames {
    prob_is_free: bool,
}

impl SoftmaxNames {
    fn new(net: &NetParameter) -> Self {
        let losses = net
            .layer
            .iter()
            .filter(|layer| layer.r#type() == "SoftmaxWithLoss")
            .count();
        let taken = net
            .layer
            .iter()
            .any(|layer| layer.top.iter().any(|top| top == "prob"));
        Self {
            prob_is_free: losses == 1 && !taken,
        }
    }

    /// The Softmax layer of a SoftmaxWithLoss layer.
    fn softmax(&self, loss: LayerParameter) -> LayerParameter {
        let mut tops = loss.top.into_iter();
        let name = loss.name.unwrap_or_default();
        let top = match (tops.next(), tops.next()) {
            (_, Some(probabilities)) => probabilities,
            _ if self.prob_is_free => "prob".to_owned(),
            (Some(top), None) => top,
            (None, None) => name.clone(),
        };
        LayerParameter {
            name: Some(name),
            r#type: Some("Softmax".to_owned()),
            bottom: loss.bottom.into_iter().take(1).collect(),
            top: vec![top],
            softmax_param: loss.softmax_param,
            ..LayerParameter::default()
        }
    }
}

fn consumed(net: &NetParameter) -> HashSet<String> {
    net.layer
        .iter()
        .flat_map(|layer| layer.bottom.iter().cloned())
        .collect()
}

/// Drops the inputs (labels) that only layers that are gone used.
fn drop_unused_inputs(net: &mut NetParameter, before: &HashSet<String>) {
    let after = consumed(net);
    for layer in net
        .layer
        .iter_mut()
        .filter(|layer| layer.r#type() == "Input")
    {
        let keep: Vec<bool> = layer
            .top
            .iter()
            .map(|top| after.contains(top) || !before.contains(top))
            .collect();
        if let Some(input) = layer
            .input_param
            .as_deref_mut()
            .filter(|p| p.shape.len() > 1)
        {
            let mut kept = keep.iter().copied();
            input.shape.retain(|_| kept.next().unwrap_or(true));
        }
        let mut kept = keep.iter().copied();
        layer.top.retain(|_| kept.next().unwrap_or(true));
    }
    net.layer
        .retain(|layer| layer.r#type() != "Input" || !layer.top.is_empty());
}

/// Gives the only input another shape.
fn override_shape(net: &mut NetParameter, shape: &Shape) -> Result<()> {
    let mut inputs: Vec<_> = net
        .layer
        .iter_mut()
        .filter(|layer| layer.r#type() == "Input")
        .collect();
    let count: usize = inputs.iter().map(|layer| layer.top.len()).sum();
    match inputs.as_mut_slice() {
        [layer] if count == 1 => {
            layer.input_param = Some(Box::new(InputParameter {
                shape: vec![message(shape)],
                ..InputParameter::default()
            }));
            Ok(())
        }
        _ => Err(Error::new(format!("{count} inputs"))
            .field("input_shape")
            .expected("exactly one input to give a shape to")
            .hint("give the shapes in the prototxt")),
    }
}

fn message(shape: &Shape) -> BlobShape {
    BlobShape {
        dim: shape.dims().iter().map(|&dim| dim.into()).collect(),
        ..BlobShape::default()
    }
}
