//! Pictures that end early, and pictures that are whole and too large.

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame, ImageFormat, RgbImage, RgbaImage};
use skimjit_data::picture::{ChannelOrder, MAX_SIDE, Picture};
use std::io::Cursor;

fn decode(file: &[u8]) -> Result<Picture, String> {
    Picture::decode(file, Some(3), ChannelOrder::Rgb).map_err(|error| error.to_string())
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A picture of two frames.
fn moving() -> Vec<u8> {
    let frame = |gray: u8| Frame::new(RgbaImage::from_pixel(9, 5, image::Rgba([gray, 9, 9, 255])));
    let mut file = Vec::new();
    let mut encoder = GifEncoder::new(&mut file);
    encoder.encode_frames([frame(10), frame(200)]).unwrap();
    drop(encoder);
    file
}

#[test]
fn every_end_that_is_cut_off_is_refused() {
    let image = DynamicImage::ImageRgb8(RgbImage::from_fn(37, 29, |x, y| {
        image::Rgb([(x * 7 + y * 3) as u8, 9, y as u8])
    }));
    for (name, file) in [
        ("png", encoded(&image, ImageFormat::Png)),
        ("gif", encoded(&image, ImageFormat::Gif)),
        ("two frames", moving()),
    ] {
        decode(&file).unwrap();
        // What follows the end is nobody's business.
        decode(&[&file[..], b"more"].concat()).unwrap();
        for length in 0..file.len() {
            let text = decode(&file[..length]).err();
            let text = text.unwrap_or_else(|| panic!("{name}: {length} of {}", file.len()));
            assert!(text.contains("no readable picture"), "{text}");
        }
    }
}

#[test]
fn a_whole_picture_that_is_too_large_is_told_so() {
    for (width, height) in [(MAX_SIDE + 1, 4), (4, MAX_SIDE + 1)] {
        let image = DynamicImage::ImageRgb8(RgbImage::new(width, height));
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
            ImageFormat::Pnm,
        ] {
            let text = decode(&encoded(&image, format)).err().unwrap();
            let words =
                format!("found a picture of {width}x{height}, expected sides of 1 to 16384");
            assert!(text.contains(&words), "{format:?}: {text}");
            assert!(!text.contains("damaged"), "{format:?}: {text}");
        }
    }
}
