//! Resize and Upsample.

use super::build::{Known, Value};
use super::node::{Node, absolute};
use crate::constant::Source;
use skimjit_models::ops::{
    Coordinates, NearestRounding, Resize, ResizeAxis, ResizeMethod, ResizeSize,
};
use skimjit_models::{Error, Op, Result};

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

const MODES: [(&str, Mode); 4] = [
    ("nearest", Mode::Nearest),
    ("linear", Mode::Linear),
    ("bilinear", Mode::Linear),
    ("cubic", Mode::Cubic),
];

/// The older op: scales alone, coordinates without a shift.
pub(super) fn upsample(node: &mut Node<'_>) -> Result<Vec<Known>> {
    let method = match node.attributes.choice("mode", &MODES)? {
        Mode::Nearest => ResizeMethod::Nearest(NearestRounding::Floor),
        Mode::Linear => ResizeMethod::Linear,
        Mode::Cubic => {
            return Err(Error::new("cubic")
                .field("mode")
                .expected("nearest or linear"));
        }
    };
    let scales = match node.attributes.floats("scales")? {
        Some(scales) => scales.to_vec(),
        None => node.floats(1)?,
    };
    let sizes = scales.into_iter().map(ResizeSize::Scale).collect();
    finish(node, sizes, method, Coordinates::Asymmetric)
}

/// Resize of opset 10 is Upsample with also smaller results; from 11 on it is what it is now.
pub(super) fn resize(node: &mut Node<'_>) -> Result<Vec<Known>> {
    if node.opset < 11 {
        return upsample(node);
    }
    let coordinates = node.attributes.choice(
        "coordinate_transformation_mode",
        &[
            ("half_pixel", Coordinates::HalfPixel),
            ("half_pixel_symmetric", Coordinates::HalfPixelSymmetric),
            ("pytorch_half_pixel", Coordinates::PytorchHalfPixel),
            ("align_corners", Coordinates::AlignCorners),
            ("asymmetric", Coordinates::Asymmetric),
            ("tf_crop_and_resize", Coordinates::TfCropAndResize),
        ],
    )?;
    let rounding = node.attributes.choice(
        "nearest_mode",
        &[
            ("round_prefer_floor", NearestRounding::RoundPreferFloor),
            ("round_prefer_ceil", NearestRounding::RoundPreferCeil),
            ("floor", NearestRounding::Floor),
            ("ceil", NearestRounding::Ceil),
        ],
    )?;
    let a = node.attributes.float("cubic_coeff_a", -0.75)?;
    let method = match node.attributes.choice("mode", &MODES)? {
        Mode::Nearest => ResizeMethod::Nearest(rounding),
        Mode::Linear => ResizeMethod::Linear,
        Mode::Cubic => ResizeMethod::Cubic { a },
    };
    let has_elements = |node: &Node<'_>, index: usize| {
        node.has(index)
            && node
                .constant(index)
                .map_or(true, |constant| constant.count() > 0)
    };
    let sizes = match (has_elements(node, 2), has_elements(node, 3)) {
        (true, false) => node.floats(2)?.into_iter().map(ResizeSize::Scale).collect(),
        (false, true) => return with_sizes(node, method, coordinates),
        _ => {
            return Err(Error::new("scales and sizes, or none of both")
                .field("scales")
                .expected("one of both"));
        }
    };
    finish(node, sizes, method, coordinates)
}

/// The axes that are resized.
fn axes(node: &Node<'_>, rank: usize) -> Result<Vec<usize>> {
    match node.attributes.ints("axes")? {
        None => Ok((0..rank).collect()),
        Some(axes) => axes
            .iter()
            .map(|&axis| absolute(axis, rank, "axes"))
            .collect(),
    }
}

fn with_sizes(
    node: &mut Node<'_>,
    method: ResizeMethod,
    coordinates: Coordinates,
) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let axes = axes(node, node.rank(x.id))?;
    let ints = node.ints(3)?;
    if ints.len() != axes.len() {
        return Err(Error::new(format!("{} sizes", ints.len()))
            .field("input[3]")
            .expected(format!("{}, one for each axis", axes.len())));
    }
    let mut sizes = Vec::new();
    for (&axis, &int) in axes.iter().zip(&ints) {
        let here = node.build.dim(x.id, axis);
        let written = axis == 0 && int.images == 0 && node.build.written_batch == Some(int.rest);
        if (here.images, here.rest) == (int.images, int.rest) && here.images != 0
            || written && node.build.is_batch(x.id, 0)
        {
            sizes.push(ResizeSize::Scale(1.0));
            continue;
        }
        let size = node.numbers(&[int])[0];
        let size = u32::try_from(size).ok().filter(|&size| size > 0);
        let size = size.ok_or_else(|| {
            Error::new("a size below 1")
                .field("input[3]")
                .expected("sizes")
        })?;
        sizes.push(ResizeSize::Size(size));
    }
    let sizes = keep_ratio(node, x, &axes, sizes)?;
    finish(node, sizes, method, coordinates)
}

/// Sizes of one scale, where the file wants the ratio of the sides kept.
fn keep_ratio(
    node: &mut Node<'_>,
    x: Value,
    axes: &[usize],
    sizes: Vec<ResizeSize>,
) -> Result<Vec<ResizeSize>> {
    let policy = node.attributes.choice(
        "keep_aspect_ratio_policy",
        &[
            ("stretch", None),
            ("not_larger", Some(false)),
            ("not_smaller", Some(true)),
        ],
    )?;
    let Some(larger) = policy else {
        return Ok(sizes);
    };
    let dims: Vec<f64> = axes
        .iter()
        .map(|&axis| node.shape(x.id).dim(axis).into())
        .collect();
    let scales = sizes.iter().zip(&dims).map(|(size, dim)| match size {
        ResizeSize::Size(size) => f64::from(*size) / dim,
        ResizeSize::Scale(scale) => f64::from(*scale),
    });
    let scale = match larger {
        true => scales.fold(f64::NEG_INFINITY, f64::max),
        false => scales.fold(f64::INFINITY, f64::min),
    };
    node.from = node.from.max(Source::Sizes);
    let size = |dim: &f64| ResizeSize::Size((scale * dim).round() as u32);
    Ok(dims.iter().map(size).collect())
}

fn finish(
    node: &mut Node<'_>,
    sizes: Vec<ResizeSize>,
    method: ResizeMethod,
    coordinates: Coordinates,
) -> Result<Vec<Known>> {
    let x = node.value(0)?;
    let rank = node.rank(x.id);
    let axes = axes(node, rank)?;
    if sizes.len() != axes.len() {
        return Err(Error::new(format!("{} scales", sizes.len()))
            .field("scales")
            .expected(format!("{}, one for each axis", axes.len())));
    }
    let roi = match coordinates {
        Coordinates::TfCropAndResize => node.floats(1)?,
        _ => vec![0.0; 2 * axes.len()],
    };
    if roi.len() != 2 * axes.len() {
        return Err(Error::new(format!("{} numbers", roi.len()))
            .field("roi")
            .expected(format!("{}, two for each axis", 2 * axes.len())));
    }
    let resized = |(index, (&axis, size)): (usize, (&usize, ResizeSize))| ResizeAxis {
        axis: axis as u32,
        size,
        roi: [roi[index], roi[index + axes.len()]],
    };
    let stays = |one: &ResizeAxis| {
        let whole = coordinates != Coordinates::TfCropAndResize;
        // For planes of other sizes, a size that is the same here is another one.
        let dim = node.shape(x.id).dim(one.axis as usize);
        let same = one.axis < 2 && one.size == ResizeSize::Size(dim);
        whole && (one.size == ResizeSize::Scale(1.0) || same)
    };
    let all: Vec<ResizeAxis> = axes.iter().zip(sizes).enumerate().map(resized).collect();
    let axes: Vec<ResizeAxis> = all.into_iter().filter(|axis| !stays(axis)).collect();
    if axes.is_empty() {
        return Ok(vec![Known::Value(x)]);
    }
    let resize = Resize {
        axes,
        method,
        coordinates,
        antialias: node.attributes.flag("antialias", false)?,
        exclude_outside: node.attributes.flag("exclude_outside", false)?,
        extrapolation: node.attributes.float("extrapolation_value", 0.0)?,
    };
    let id = node.add(Op::Resize(resize), &[x.id])?;
    Ok(vec![Known::Value(Value { id, ..x })])
}
