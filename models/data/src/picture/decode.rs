//! From a file to pixels: whole pictures only, of a size that the budget of memory allows.

use super::failure::Failure;
use super::{MAX_DECODE_BYTES, MAX_SIDE, jpeg};
use image::codecs::jpeg::JpegDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use skimjit_host::{foreign, memory};
use skimjit_models::{Error, Result};
use std::io::Cursor;
use zune_core::colorspace::ColorSpace;

/// Decodes the contents of a file, turned as its camera says.
pub fn decode(file: &[u8]) -> Result<DynamicImage> {
    let decoded = foreign::call(|| decode_any(file));
    let failed = |_| Failure::Damaged("the decoder gave up".to_owned());
    Ok(decoded.map_err(failed).and_then(|decoded| decoded)?)
}

fn decode_any(file: &[u8]) -> std::result::Result<DynamicImage, Failure> {
    if file.starts_with(jpeg::MAGIC) {
        return decode_jpeg(file);
    }
    let reader = ImageReader::new(Cursor::new(file));
    let mut reader = reader.with_guessed_format().map_err(ImageError::from)?;
    let format = reader.format();
    reader.limits(limits());
    let mut decoder = reader.into_decoder()?;
    check_size(&decoder, 0)?;
    let orientation = decoder.orientation()?;
    check_whole(file, format)?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn limits() -> Limits {
    // Sides are left to `check_size`, which says what they are.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODE_BYTES.min(memory::budget()));
    limits
}

/// What the picture takes as pixels, with `more` bytes each that its decoder needs besides.
fn check_size(decoder: &impl ImageDecoder, more: u64) -> std::result::Result<(), Failure> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    let bytes = decoder.total_bytes();
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) || bytes > MAX_DECODE_BYTES {
        let found = format!("a picture of {width}x{height}");
        let most = MAX_DECODE_BYTES >> 20;
        let error = Error::new(found)
            .expected(format!(
                "sides of 1 to {MAX_SIDE} and at most {most} MiB of pixels"
            ))
            .hint("scale it down first");
        return Err(Failure::Large(error));
    }
    // Once more where colours are converted.
    let bytes = bytes.saturating_mul(2).saturating_add(pixels * more);
    memory::check(bytes).map_err(|error| Failure::Large(error.into()))
}

fn decode_jpeg(file: &[u8]) -> std::result::Result<DynamicImage, Failure> {
    let mut decoder = JpegDecoder::new(Cursor::new(file))?;
    // Progressive files are kept as coefficients, of three colours and 16 bits.
    check_size(&decoder, 6)?;
    decoder.set_limits(limits())?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = decoder.dimensions();
    let gray = decoder.color_type().channel_count() == 1;
    let colours = if gray {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    drop(decoder);
    let pixels = jpeg::decode(file, colours)?;
    let image = if gray {
        image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8)
    } else {
        image::RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8)
    };
    let few = || Failure::Damaged("fewer pixels than its size says".to_owned());
    let mut image = image.ok_or_else(few)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Of formats whose decoders are content with a part: that the file goes on to its end.
fn check_whole(file: &[u8], format: Option<ImageFormat>) -> std::result::Result<(), Failure> {
    let whole = match format {
        // The length of what follows the first eight bytes.
        Some(ImageFormat::WebP) => file
            .get(4..8)
            .and_then(|length| length.try_into().ok())
            .is_some_and(|length| file.len() as u64 >= 8 + u64::from(u32::from_le_bytes(length))),
        Some(ImageFormat::Png) => is_whole_png(file).unwrap_or(false),
        Some(ImageFormat::Gif) => is_whole_gif(file).unwrap_or(false),
        _ => true,
    };
    match whole {
        true => Ok(()),
        false => Err(Failure::Damaged(
            "the file ends before the picture does".to_owned(),
        )),
    }
}

/// Whether chunk follows chunk up to the last one, which is whole. `None`: the file ends before that.
fn is_whole_png(file: &[u8]) -> Option<bool> {
    const LAST: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
    let mut rest = file.get(8..)?;
    while !rest.starts_with(LAST) {
        let (length, _) = rest.split_first_chunk::<4>()?;
        // With its kind and its checksum.
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest = rest.get(length.checked_add(12)?..)?;
    }
    Some(true)
}

/// Whether block follows block up to the trailer. `None`: the file ends before that.
fn is_whole_gif(file: &[u8]) -> Option<bool> {
    // The size of a table of colours, by the flags in front of it.
    let colours = |flags: u8| match flags & 0x80 {
        0 => 0,
        _ => 3 << (1 + (flags & 7)),
    };
    let mut rest = file.get(13 + colours(*file.get(10)?)..)?;
    loop {
        let (kind, behind) = rest.split_first()?;
        rest = match kind {
            0x3b => return Some(true),
            0x21 => behind.get(1..)?,
            // With the width of the first codes.
            0x2c => behind.get(10 + colours(*behind.get(8)?)..)?,
            _ => return Some(false),
        };
        // Parts with their lengths in front, up to an empty one.
        loop {
            let (&length, behind) = rest.split_first()?;
            rest = behind.get(usize::from(length)..)?;
            if length == 0 {
                break;
            }
        }
    }
}
