//! What data layers say about pictures: `transform_param` survives the data layer.

use super::inputs::DATA_TYPES;
use super::layer::param;
use crate::proto::{LayerParameter, NetParameter, NetStateRule, Phase};
use crate::proto::{TransformationParameter, resize_parameter::ResizeMode};
use crate::read_mean;
use skimjit_host::octets;
use skimjit_models::preprocess::{Mean, Preprocess, Resize};
use skimjit_models::{Error, Result};
use std::path::Path;

/// What the data layer of a definition does to pictures; `None` where there is none, or several.
///
/// A mirror is not kept: Caffe mirrors at random, in both phases.
pub(super) fn of(net: &NetParameter, file: Option<&Path>) -> Result<Option<Preprocess>> {
    let data = |layer: &&LayerParameter| DATA_TYPES.contains(&layer.r#type());
    let mut layers: Vec<&LayerParameter> = net.layer.iter().filter(data).collect();
    if layers.iter().any(|layer| !is_of(layer, Phase::Train)) {
        layers.retain(|layer| is_of(layer, Phase::Test));
    }
    let [layer] = layers[..] else {
        return Ok(None);
    };
    let preprocess = of_layer(layer, file.and_then(Path::parent));
    preprocess.map_err(|error| {
        let error = error.layer(layer.name());
        file.iter().fold(error, |error, file| error.file(file))
    })
}

/// Whether a layer can be part of the network of a phase, as far as its rules say.
fn is_of(layer: &LayerParameter, phase: Phase) -> bool {
    let of = |rule: &NetStateRule| rule.phase.is_none_or(|own| own == phase as i32);
    let only = |rule: &NetStateRule| rule.phase == Some(phase as i32);
    let included = layer.include.is_empty() || layer.include.iter().any(of);
    included && !layer.exclude.iter().any(only)
}

fn of_layer(layer: &LayerParameter, folder: Option<&Path>) -> Result<Option<Preprocess>> {
    let transform = param(&layer.transform_param);
    let resize = match layer.r#type() {
        // The values are used as they are.
        "HDF5Data" => return Ok(None),
        "ImageData" => {
            let p = param(&layer.image_data_param);
            exact(p.new_width(), p.new_height())
        }
        // A window is brought to the size of the crop, whatever its aspect ratio.
        "WindowData" => exact(transform.crop_size(), transform.crop_size()),
        "AnnotatedData" => match &transform.resize_param {
            None => None,
            Some(p) if p.resize_mode() == ResizeMode::Warp => exact(p.width(), p.height()),
            Some(_) => return Ok(None),
        },
        _ => None,
    };
    let preprocess = Preprocess {
        resize,
        crop: Some(transform.crop_size()).filter(|&side| side > 0),
        mean: mean(&transform, folder)?,
        scale: transform.scale(),
        ..Preprocess::default()
    };
    let preprocess = preprocess.sized_by_mean();
    let in_transform = |mut error: Error| {
        error.field = error.field.map(|field| format!("transform_param.{field}"));
        error
    };
    preprocess.check().map_err(in_transform)?;
    Ok(Some(preprocess))
}

fn exact(width: u32, height: u32) -> Option<Resize> {
    (width > 0 && height > 0).then_some(Resize::Exact(width, height))
}

/// A file that is missing is no error: the network computes without it, until a picture comes.
fn mean(transform: &TransformationParameter, folder: Option<&Path>) -> Result<Mean> {
    let Some(name) = &transform.mean_file else {
        return Ok(match &transform.mean_value[..] {
            [] => Mean::None,
            values => Mean::Values(values.to_vec()),
        });
    };
    if !transform.mean_value.is_empty() {
        return Err(Error::new("mean_file and mean_value")
            .field("transform_param.mean_file")
            .expected("one of them"));
    }
    let path = octets::path(name);
    let beside = folder.map(|folder| folder.join(&path));
    let mut places = std::iter::once(path).chain(beside);
    match places.find(|path| path.is_file()) {
        Some(path) => Ok(Mean::Image(read_mean(&path)?)),
        None => Ok(Mean::Missing(name.clone())),
    }
}
