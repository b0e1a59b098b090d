//! Pictures for `skimjit.vision`: decoded and resized as the engine does it.

use crate::errors::{detached, exception};
use crate::options::Source;
use numpy::{PyArray1, PyArray3, PyArrayMethods, PyReadonlyArray3, PyUntypedArrayMethods};
use pyo3::prelude::*;
use skimjit::InputError;
use skimjit::picture::{ChannelOrder, Picture};

/// Pixels, row by row, red first: height × width × channels.
type Pixels<'py> = Bound<'py, PyArray3<u8>>;

/// Decodes a picture (JPEG, PNG, BMP, GIF, TIFF, WebP, PNM), a path or bytes, to 3 channels or 1.
#[pyfunction]
pub fn decode<'py>(source: &Bound<'py, PyAny>, channels: u32) -> PyResult<Pixels<'py>> {
    let given = Source::of("picture", source)?;
    let picture = detached(source.py(), || match &given {
        Source::File(path) => Ok(Picture::open(path, channels, ChannelOrder::Rgb)?),
        Source::Bytes(bytes) => Ok(Picture::decode(bytes, Some(channels), ChannelOrder::Rgb)?),
    })?;
    pixels(source.py(), &picture)
}

/// Resizes with bilinear interpolation between the four nearest pixels: OpenCV's, and so Caffe's.
#[pyfunction]
pub fn resize<'py>(
    pixels: PyReadonlyArray3<'py, u8>,
    height: u32,
    width: u32,
) -> PyResult<Pixels<'py>> {
    let py = pixels.py();
    let &[rows, columns, channels] = pixels.shape() else {
        let error = InputError::new("no picture").expected("height × width × channels");
        return Err(exception(error.into()));
    };
    let data: Vec<u8> = pixels.as_array().iter().copied().collect();
    let resized = detached(py, || {
        let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
        let picture = Picture::from_pixels(side(columns), side(rows), side(channels), data)?;
        Ok(picture.resized(width, height)?)
    })?;
    self::pixels(py, &resized)
}

fn pixels<'py>(py: Python<'py>, picture: &Picture) -> PyResult<Pixels<'py>> {
    let sides = [picture.height(), picture.width(), picture.channels()];
    PyArray1::from_slice(py, picture.data()).reshape(sides.map(|side| side as usize))
}
