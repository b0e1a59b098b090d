//! From stored arrays to tensors and back.

use super::proto::blob_proto::Type;
use super::proto::{BlobProto, BlobShape};
use half::f16;
use skimjit_models::{Error, Result, Shape, Tensor};

/// Whether any of num, channels, height, width is present: then they are the shape, whatever
/// `shape` says, and it is compared as Caffe compares old files.
pub fn has_legacy_shape(blob: &BlobProto) -> bool {
    [blob.num, blob.channels, blob.height, blob.width]
        .iter()
        .any(Option::is_some)
}

/// Shape of a blob as stored; four axes when it is a legacy shape.
pub fn shape(blob: &BlobProto) -> Result<Shape> {
    let dims: Vec<i64> = if has_legacy_shape(blob) {
        [blob.num(), blob.channels(), blob.height(), blob.width()]
            .map(i64::from)
            .into()
    } else {
        blob.shape
            .as_ref()
            .map(|shape| shape.dim.clone())
            .unwrap_or_default()
    };
    let dims: Option<Vec<u32>> = dims.iter().map(|&dim| u32::try_from(dim).ok()).collect();
    dims.ok_or_else(|| Error::new(format!("dims {:?}", blob.shape)).expected("dims of 1 or more"))
        .and_then(Shape::new)
        .map_err(|error| error.field("shape"))
}

/// Whether `target` is the shape of a blob as Caffe compares when it copies weights: a legacy shape
/// equals the target's dims with ones in front.
pub fn shape_matches(blob: &BlobProto, target: &Shape) -> bool {
    if !has_legacy_shape(blob) {
        let dims = blob
            .shape
            .as_ref()
            .map(|shape| shape.dim.as_slice())
            .unwrap_or_default();
        return dims
            .iter()
            .copied()
            .eq(target.dims().iter().map(|&dim| i64::from(dim)));
    }
    let Some(ones) = 4_usize.checked_sub(target.rank()) else {
        return false;
    };
    let padded =
        std::iter::repeat_n(1, ones).chain(target.dims().iter().map(|&dim| i64::from(dim)));
    padded.eq([blob.num(), blob.channels(), blob.height(), blob.width()].map(i64::from))
}

/// Whether a blob stands for nothing: HDF5 files leave shared parameters out.
pub fn is_absent(blob: &BlobProto) -> bool {
    *blob == BlobProto::default()
}

/// Moves the values out of a blob, in the shape as stored. Numbers of double or half precision are
/// converted. Refuses a wrong count, and infinities and NaN.
pub fn take_tensor(blob: &mut BlobProto) -> Result<Tensor> {
    let shape = shape(blob)?;
    let values = take_values(blob)?;
    if values.len() != shape.count() {
        return Err(Error::new(format!("{} values", values.len()))
            .field("data")
            .expected(format!("{}, as its shape {shape} says", shape.count())));
    }
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        let value = values.get(index).copied().unwrap_or_default();
        return Err(Error::new(format!("{value} at index {index}"))
            .field("data")
            .expected("finite numbers")
            .hint("the training that made this file has diverged"));
    }
    Ok(Tensor::new(shape, values))
}

/// Moves the values out of a blob, whatever its shape.
pub fn take_values(blob: &mut BlobProto) -> Result<Vec<f32>> {
    if !blob.double_data.is_empty() {
        return Ok(std::mem::take(&mut blob.double_data)
            .into_iter()
            .map(|x| x as f32)
            .collect());
    }
    match blob.raw_data.take() {
        Some(raw) if blob.data.is_empty() => {
            raw_values(&raw, blob.raw_data_type()).map_err(|error| error.field("raw_data"))
        }
        _ => Ok(std::mem::take(&mut blob.data)),
    }
}

/// Elements of NVCaffe's raw data.
fn raw_values(raw: &[u8], kind: Type) -> Result<Vec<f32>> {
    match kind {
        Type::Float16 => elements(raw, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Type::Float => elements(raw, f32::from_le_bytes),
        Type::Double => elements(raw, |bytes| f64::from_le_bytes(bytes) as f32),
        Type::Int | Type::Uint => Err(Error::new(format!(
            "elements of type {}",
            kind.as_str_name()
        ))
        .expected("FLOAT16, FLOAT or DOUBLE")),
    }
}

fn elements<const N: usize>(raw: &[u8], value: impl Fn([u8; N]) -> f32) -> Result<Vec<f32>> {
    let (chunks, []) = raw.as_chunks::<N>() else {
        return Err(
            Error::new(format!("{} bytes", raw.len())).expected(format!("a multiple of {N}"))
        );
    };
    Ok(chunks.iter().map(|&bytes| value(bytes)).collect())
}

/// A blob that holds a tensor, as Caffe writes it today.
pub fn from_tensor(tensor: Tensor) -> BlobProto {
    let dim = tensor
        .shape()
        .dims()
        .iter()
        .map(|&dim| dim.into())
        .collect();
    BlobProto {
        shape: Some(BlobShape {
            dim,
            ..BlobShape::default()
        }),
        data: tensor.into_data(),
        ..BlobProto::default()
    }
}
