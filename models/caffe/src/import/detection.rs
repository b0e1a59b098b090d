//! SSD's layers: Normalize, PriorBox, DetectionOutput.

use super::layer::{Layer, param};
use super::store::Wanted;
use crate::proto::PriorBoxParameter;
use crate::proto::prior_box_parameter::CodeType;
use skimjit_models::ops::{BoxCode, DetectionOutput, Normalize, PriorBox};
use skimjit_models::{Op, Result, Shape};
use std::cmp::Ordering;

/// Normalize.
pub(super) fn normalize(layer: &mut Layer<'_>) -> Result<()> {
    let norm = param(&layer.def.norm_param);
    let input = layer.shape(0);
    let shape = match (norm.channel_shared(), input.rank()) {
        (true, _) => Shape::new([])?,
        (false, 0 | 1) => {
            return Err(layer
                .fault("bottom[0]", format!("shape {input}"))
                .expected("2 axes or more"));
        }
        (false, _) => Shape::new([input.dim(1)])?,
    };
    let wanted = Wanted::or_value(shape, norm.scale_filler.clone(), 1.0);
    let scale = layer.weights(&[wanted])?[0];
    layer.node(Op::Normalize(Normalize {
        across_spatial: norm.across_spatial(),
        eps: norm.eps(),
        scale,
    }))
}

/// Ratios that differ by less are the same.
const SAME_RATIO: f32 = 1e-6;
/// Variances where none are given.
const USUAL_VARIANCE: f32 = 0.1;

/// PriorBox.
pub(super) fn prior_box(layer: &mut Layer<'_>) -> Result<()> {
    let p = param(&layer.def.prior_box_param);
    let variance = match p.variance[..] {
        [] => [USUAL_VARIANCE; 4],
        [all] => [all; 4],
        [x, y, w, h] => [x, y, w, h],
        _ => {
            return Err(layer
                .fault(
                    "prior_box_param.variance",
                    format!("{} values", p.variance.len()),
                )
                .expected("none, 1 or 4"));
        }
    };
    let image = both(
        layer,
        ["img_size", "img_h", "img_w"],
        p.img_size,
        [p.img_h, p.img_w],
    )?;
    let step = both(
        layer,
        ["step", "step_h", "step_w"],
        p.step,
        [p.step_h, p.step_w],
    )?;
    let mut pairs = p.min_size.iter().zip(&p.max_size);
    if let Some((min, max)) = pairs.find(|(min, max)| max <= min) {
        return Err(layer
            .fault("prior_box_param.max_size", max.to_string())
            .expected(format!("more than its min_size, {min}")));
    }
    let op = PriorBox {
        min_sizes: pixels(layer, "min_size", &p.min_size)?,
        max_sizes: pixels(layer, "max_size", &p.max_size)?,
        aspect_ratios: ratios(layer, &p)?,
        clip: p.clip(),
        variance,
        image,
        step,
        offset: p.offset(),
    };
    layer.node(Op::PriorBox(op))
}

/// Sides of boxes; Caffe drops their fractions.
fn pixels(layer: &mut Layer<'_>, field: &str, sizes: &[f32]) -> Result<Vec<u32>> {
    if sizes.iter().any(|size| size.fract() != 0.0) {
        layer.warn(format!(
            "prior_box_param.{field}: fractions of pixels are dropped, as SSD's Caffe does"
        ));
    }
    let pixel = |&size: &f32| match size {
        1.0..1e6 => Ok(size as u32),
        _ => Err(layer
            .fault(&format!("prior_box_param.{field}"), size.to_string())
            .expected("1 to 1000000 pixels")),
    };
    sizes.iter().map(pixel).collect()
}

/// Most ratios of a layer; they are compared with each other.
const MOST_RATIOS: usize = 1 << 10;

/// 1 and each ratio, with its inverse when flipped.
fn ratios(layer: &Layer<'_>, p: &PriorBoxParameter) -> Result<Vec<f32>> {
    let field = "prior_box_param.aspect_ratio";
    if p.aspect_ratio.len() > MOST_RATIOS {
        return Err(layer
            .fault(field, format!("{} ratios", p.aspect_ratio.len()))
            .expected(format!("at most {MOST_RATIOS}")));
    }
    let mut ratios = vec![1.0f32];
    for &ratio in &p.aspect_ratio {
        if !(ratio.is_finite() && ratio > 0.0) {
            return Err(layer
                .fault(field, ratio.to_string())
                .expected("more than 0"));
        }
        if ratios
            .iter()
            .all(|known| (known - ratio).abs() >= SAME_RATIO)
        {
            ratios.push(ratio);
            ratios.extend(p.flip().then_some(1.0 / ratio));
        }
    }
    Ok(ratios)
}

/// A quantity for both axes, or one of its own for each.
fn both<T: Copy + PartialOrd + Default + std::fmt::Display>(
    layer: &Layer<'_>,
    [name, name_h, name_w]: [&str; 3],
    common: Option<T>,
    each: [Option<T>; 2],
) -> Result<Option<[T; 2]>> {
    let fault = |found: String| layer.fault(&format!("prior_box_param.{name}"), found);
    let values = match (common, each) {
        (None, [None, None]) => return Ok(None),
        (Some(both), [None, None]) => [both; 2],
        (None, [Some(h), Some(w)]) => [h, w],
        _ => {
            return Err(fault(format!("{name}, {name_h}, {name_w} in part"))
                .expected(format!("{name}, or {name_h} and {name_w}")));
        }
    };
    let is_positive = |value: &T| value.partial_cmp(&T::default()) == Some(Ordering::Greater);
    match values.into_iter().find(|value| !is_positive(value)) {
        Some(value) => Err(fault(value.to_string()).expected("more than 0")),
        None => Ok(Some(values)),
    }
}

/// DetectionOutput. Nothing is written or shown on the way.
pub(super) fn detection_output(layer: &mut Layer<'_>) -> Result<()> {
    let p = param(&layer.def.detection_output_param);
    let nms = p.nms_param.clone().unwrap_or_default();
    let classes = layer.positive("detection_output_param.num_classes", p.num_classes)?;
    if p.save_output_param.is_some() || p.save_file.is_some() || p.visualize() {
        layer.warn("detections are results of the network; they are not saved or shown on the way");
    }
    let limit = |field: &str, value: i32| match u32::try_from(value) {
        Ok(0) => Err(layer
            .fault(&format!("detection_output_param.{field}"), "0")
            .expected("1 or more, or -1 for all")),
        Ok(most) => Ok(Some(most)),
        Err(_) => Ok(None),
    };
    let op = DetectionOutput {
        classes,
        share_location: p.share_location(),
        background: u32::try_from(p.background_label_id()).ok(),
        code: match p.code_type() {
            CodeType::Corner => BoxCode::Corner,
            CodeType::CenterSize => BoxCode::CenterSize,
            CodeType::CornerSize => BoxCode::CornerSize,
        },
        variance_encoded: p.variance_encoded_in_target(),
        confidence_threshold: p.confidence_threshold,
        nms_threshold: nms.nms_threshold(),
        top_k: limit("nms_param.top_k", nms.top_k.unwrap_or(-1))?,
        eta: nms.eta(),
        keep_top_k: limit("keep_top_k", p.keep_top_k())?,
    };
    layer.node(Op::DetectionOutput(op))
}
