//! Pictures (JPEG, PNG, BMP, GIF, TIFF, WebP, PNM) as network inputs.
//!
//! The steps and their order are Caffe's: decode, resize, crop the centre, subtract the mean, scale.
//! Transparency is ignored and a camera's orientation mark is obeyed, as OpenCV does for Caffe; 16 bits
//! become 8; of moving pictures the first is taken. A file that is cut off is an error, never half a
//! picture; in PNG and GIF that is so for every byte up to the mark of the end.

mod decode;
mod failure;
mod jpeg;

pub use failure::FORMATS;

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{DynamicImage, ExtendedColorType, ImageEncoder};
use skimjit_host::memory;
pub use skimjit_models::preprocess::{ChannelOrder, MAX_SIDE, Mean, Preprocess, Resize};
use skimjit_models::{Error, Result, Shape, Tensor};
use std::path::Path;

/// Bytes of the pixels of one picture.
pub const MAX_DECODE_BYTES: u64 = 1 << 29;
/// Largest file of a picture, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Quality of JPEG files that are made: OpenCV's, and so Caffe's.
const JPEG_QUALITY: u8 = 95;

/// Kind of a picture file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Smaller, with small errors.
    Jpeg,
    /// Exact.
    Png,
}

impl FileKind {
    /// By the ending of a file's name.
    pub fn of(path: &Path) -> Option<Self> {
        let end = path.extension()?.to_string_lossy().to_ascii_lowercase();
        match end.as_str() {
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }
}

/// Pixels of 8 bits, interleaved, with 1 channel or 3 in the network's order.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    channels: u32,
    data: Vec<u8>,
}

/// Reads a picture for a network input of `[C, H, W]`; the result has that shape.
pub fn load(path: &Path, input: [u32; 3], preprocess: &Preprocess) -> Result<Tensor> {
    let picture = Picture::open(path, input[0], preprocess.channel_order)?;
    picture
        .input(preprocess, input)
        .map_err(|error| error.file(path))
}

/// Reads a picture for a network that takes any size; the result is `[C, H, W]` of the size that the
/// picture has after resizing and cropping.
pub fn load_any_size(path: &Path, channels: u32, preprocess: &Preprocess) -> Result<Tensor> {
    let picture = Picture::open(path, channels, preprocess.channel_order)?;
    picture
        .input_of_any_size(preprocess)
        .map_err(|error| error.file(path))
}

/// From a picture to an input.
impl Picture {
    /// The input of a network of `[C, H, W]`, made as `preprocess` says.
    pub fn input(self, preprocess: &Preprocess, input: [u32; 3]) -> Result<Tensor> {
        self.prepared(preprocess, Some(input))
    }
    /// The input of a network that takes any size.
    pub fn input_of_any_size(self, preprocess: &Preprocess) -> Result<Tensor> {
        self.prepared(preprocess, None)
    }
    fn prepared(self, preprocess: &Preprocess, input: Option<[u32; 3]>) -> Result<Tensor> {
        let picture = match preprocess.resize {
            None => self,
            Some(Resize::Exact(width, height)) => self.resized(width, height)?,
            Some(Resize::Short(side)) => {
                let (width, height) = self.size_with_short_side(side);
                self.resized(width, height)?
            }
        };
        let input = match input {
            Some(input) => input,
            None => {
                let (_, _, width, height) = picture.window(preprocess)?;
                [picture.channels, height, width]
            }
        };
        let mut data = Vec::new();
        picture.append(preprocess, input, &mut data)?;
        Ok(Tensor::new(Shape::new(input)?, data))
    }
    /// The steps after resizing (crop, subtract the mean, scale) with the result behind `data`.
    fn append(&self, preprocess: &Preprocess, input: [u32; 3], data: &mut Vec<f32>) -> Result<()> {
        let (left, top, width, height) = self.window(preprocess)?;
        let [channels, in_height, in_width] = input;
        if (width, height) != (in_width, in_height) || self.channels != channels {
            return Err(Error::new(format!(
                "a picture of {}x{width}x{height} (channels, width, height)",
                self.channels
            ))
            .expected(format!(
                "{channels}x{in_width}x{in_height}, the network's input"
            ))
            .hint(
                "bring it to that size with --resize or --crop, or keep its own with --reshape",
            ));
        }
        let mean = self.mean(preprocess)?;
        let scale = preprocess.scale;
        data.reserve((channels * width * height) as usize);
        for c in 0..channels as usize {
            for y in top..top + height {
                let first = y as usize * self.width as usize + left as usize;
                let pixels = first * channels as usize..;
                let pixels = self.data[pixels].chunks_exact(channels as usize);
                let values = pixels.take(width as usize).map(|pixel| f32::from(pixel[c]));
                match mean.row(c, first, width as usize) {
                    Row::Constant(mean) => data.extend(values.map(|x| (x - mean) * scale)),
                    Row::Values(means) => {
                        let values = values.zip(means);
                        data.extend(values.map(|(x, mean)| (x - mean) * scale));
                    }
                }
            }
        }
        Ok(())
    }
    /// Left, top, width and height of what is kept.
    fn window(&self, preprocess: &Preprocess) -> Result<(u32, u32, u32, u32)> {
        let (width, height) = (self.width, self.height);
        match preprocess.crop {
            None => Ok((0, 0, width, height)),
            Some(side) if (1..=width.min(height)).contains(&side) => {
                Ok(((width - side) / 2, (height - side) / 2, side, side))
            }
            Some(side) => Err(Error::new(format!("a picture of {width}x{height}"))
                .expected(format!("at least {side}x{side}, the crop"))
                .hint("enlarge it with --resize, or crop less")),
        }
    }
    fn mean<'a>(&self, preprocess: &'a Preprocess) -> Result<MeanView<'a>> {
        let channels = self.channels as usize;
        match &preprocess.mean {
            Mean::None => Ok(MeanView::Constants(&[0.0])),
            Mean::Values(values) if values.len() == 1 || values.len() == channels => {
                Ok(MeanView::Constants(values))
            }
            Mean::Values(values) => Err(Error::new(format!("{} mean values", values.len()))
                .expected(format!("1 or {channels}, one per channel"))),
            Mean::Image(image) => {
                let wanted = [self.channels, self.height, self.width];
                let dims = image.shape().dims();
                if dims.strip_prefix(&[1]).unwrap_or(dims) != wanted && dims != wanted {
                    return Err(Error::new(format!("a mean image of {}", image.shape()))
                        .expected(format!("{}x{}x{}", wanted[0], wanted[1], wanted[2]))
                        .hint("it must be as large as the picture before it is cropped"));
                }
                let plane = self.width as usize * self.height as usize;
                Ok(MeanView::Planes(image.data(), plane))
            }
            Mean::Missing(file) => Err(Error::new(format!("no file {file:?}"))
                .field("transform_param.mean_file")
                .expected("the mean image that the network subtracts")
                .hint("give it with --mean-file, or values with --mean-value (0 for none)")),
        }
    }
}

/// Mean values as they are subtracted.
enum MeanView<'a> {
    /// One for all channels, or one per channel.
    Constants(&'a [f32]),
    /// A picture, and the elements of one of its channels.
    Planes(&'a [f32], usize),
}

/// Mean values of neighbouring pixels of a channel.
enum Row<'a> {
    Constant(f32),
    Values(&'a [f32]),
}

impl MeanView<'_> {
    /// Of `width` pixels from pixel `first` of the picture before cropping.
    fn row(&self, channel: usize, first: usize, width: usize) -> Row<'_> {
        match *self {
            Self::Constants(values) => Row::Constant(values[channel % values.len()]),
            Self::Planes(values, plane) => Row::Values(&values[channel * plane + first..][..width]),
        }
    }
}

impl Picture {
    /// Decodes a picture's file to 1 channel (brightness) or 3.
    pub fn open(path: &Path, channels: u32, order: ChannelOrder) -> Result<Self> {
        let read = || {
            let unreadable = |error: std::io::Error| Error::unreadable(path, &error, "a picture");
            let file = memory::read_file(path, MAX_FILE_BYTES).map_err(unreadable)?;
            if file.len() as u64 > MAX_FILE_BYTES {
                return Err(Error::new("a larger file")
                    .expected(format!("a picture of at most {MAX_FILE_BYTES} bytes")));
            }
            Self::decode(&file, Some(channels), order)
        };
        read().map_err(|error| error.file(path))
    }
    /// Decodes the contents of a picture's file to `channels`, or to as many as it has: 1 or 3.
    pub fn decode(file: &[u8], channels: Option<u32>, order: ChannelOrder) -> Result<Self> {
        let image = decode::decode(file)?;
        let own = if image.color().has_color() { 3 } else { 1 };
        Self::from_image(image, channels.unwrap_or(own), order)
    }
    /// Takes pixels as they are: interleaved, row by row.
    pub fn from_pixels(width: u32, height: u32, channels: u32, data: Vec<u8>) -> Result<Self> {
        let pixels = u64::from(width) * u64::from(height);
        let sides_fit = (1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height);
        let count_fits = pixels * u64::from(channels) == data.len() as u64;
        if sides_fit && matches!(channels, 1 | 3) && count_fits {
            return Ok(Self {
                width,
                height,
                channels,
                data,
            });
        }
        Err(Error::new(format!(
            "{} pixel values for {width}x{height}x{channels}",
            data.len()
        ))
        .expected(format!("sides of 1 to {MAX_SIDE}, 1 or 3 channels")))
    }
    fn from_image(image: DynamicImage, channels: u32, order: ChannelOrder) -> Result<Self> {
        let gray = !image.color().has_color();
        let (width, height) = (image.width(), image.height());
        let data = match (channels, order) {
            // Gray stays gray: no detour over a weighted sum of three equal channels.
            (1, _) if gray => image.into_luma8().into_raw(),
            (1, _) => image
                .into_rgb8()
                .pixels()
                .map(|pixel| luma(pixel.0))
                .collect(),
            (3, ChannelOrder::Rgb) => image.into_rgb8().into_raw(),
            (3, ChannelOrder::Bgr) => {
                let mut data = image.into_rgb8().into_raw();
                data.chunks_exact_mut(3).for_each(<[u8]>::reverse);
                data
            }
            _ => {
                return Err(
                    Error::new(format!("a network input of {channels} channels"))
                        .expected("1 (gray) or 3 (colour)")
                        .hint("give the input as a .npy array"),
                );
            }
        };
        Self::from_pixels(width, height, channels, data)
    }
    /// Channels: 1 or 3.
    pub fn channels(&self) -> u32 {
        self.channels
    }
    /// Width, in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }
    /// Height, in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }
    /// Pixel values, interleaved, row by row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }
    /// Pixel values channel by channel, each row by row.
    pub fn planes(&self) -> Vec<u8> {
        let channels = self.channels as usize;
        let plane = |channel| self.data.iter().skip(channel).step_by(channels).copied();
        (0..channels).flat_map(plane).collect()
    }
    /// The contents of a file with this picture, whose colours are in the given order.
    pub fn encode(&self, kind: FileKind, order: ChannelOrder) -> Result<Vec<u8>> {
        let mut pixels = self.data.clone();
        if self.channels == 3 && order == ChannelOrder::Bgr {
            pixels.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
        let colour = match self.channels {
            3 => ExtendedColorType::Rgb8,
            _ => ExtendedColorType::L8,
        };
        let (width, height) = (self.width, self.height);
        let mut file = Vec::new();
        let encoded = match kind {
            FileKind::Jpeg => JpegEncoder::new_with_quality(&mut file, JPEG_QUALITY)
                .write_image(&pixels, width, height, colour),
            FileKind::Png => PngEncoder::new(&mut file).write_image(&pixels, width, height, colour),
        };
        encoded
            .map_err(|error| Error::new(format!("a picture that cannot be encoded ({error})")))?;
        Ok(file)
    }
    /// Resized so that it just covers a size, with what is too much cut off on both sides alike.
    pub fn covering(&self, width: u32, height: u32) -> Result<Self> {
        let (own_width, own_height) = (u64::from(self.width), u64::from(self.height));
        // The side that needs the larger factor fits exactly.
        let wide = u64::from(height) * own_width >= u64::from(width) * own_height;
        let scaled = |side: u64, to: u32, own: u64| {
            let side = (side * u64::from(to) + own / 2) / own;
            u32::try_from(side).unwrap_or(u32::MAX)
        };
        let picture = if wide {
            self.resized(scaled(own_width, height, own_height).max(width), height)?
        } else {
            self.resized(width, scaled(own_height, width, own_width).max(height))?
        };
        let (left, top) = ((picture.width - width) / 2, (picture.height - height) / 2);
        let channels = self.channels as usize;
        let rows = picture.data.chunks_exact(picture.width as usize * channels);
        let pixels = left as usize * channels..(left + width) as usize * channels;
        let rows = rows.skip(top as usize).take(height as usize);
        let data = rows.flat_map(|row| row[pixels.clone()].iter().copied());
        Self::from_pixels(width, height, self.channels, data.collect())
    }
    fn size_with_short_side(&self, side: u32) -> (u32, u32) {
        let short = u64::from(self.width.min(self.height));
        let scaled = |length: u32| {
            let length = (u64::from(length) * u64::from(side) + short / 2) / short;
            u32::try_from(length).unwrap_or(u32::MAX)
        };
        (scaled(self.width), scaled(self.height))
    }
    /// Bilinear interpolation between the four nearest pixels, without smoothing when shrinking.
    ///
    /// Pixel centres lie at half-integers, `src = (dst + ½)·(src size / dst size) − ½`, clamped to
    /// the outermost pixels: OpenCV's `INTER_LINEAR`, which Caffe's data layers use, up to one grey
    /// level of rounding.
    pub fn resized(&self, width: u32, height: u32) -> Result<Self> {
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(
                Error::new(format!("a size of {width}x{height} to resize to"))
                    .expected(format!("sides of 1 to {MAX_SIDE}")),
            );
        }
        if (width, height) == (self.width, self.height) {
            return Ok(self.clone());
        }
        let (columns, rows) = (taps(self.width, width), taps(self.height, height));
        let channels = self.channels as usize;
        let pitch = self.width as usize * channels;
        let mut data = Vec::with_capacity(width as usize * height as usize * channels);
        for y in &rows {
            let (above, below) = (
                &self.data[y.first * pitch..],
                &self.data[y.second * pitch..],
            );
            for x in &columns {
                let (left, right) = (x.first * channels, x.second * channels);
                data.extend((0..channels).map(|c| {
                    let above = x.blend(u32::from(above[left + c]), u32::from(above[right + c]));
                    let below = x.blend(u32::from(below[left + c]), u32::from(below[right + c]));
                    ((y.blend(above, below) + (1 << (2 * TAP_BITS - 1))) >> (2 * TAP_BITS)) as u8
                }));
            }
        }
        Self::from_pixels(width, height, self.channels, data)
    }
}

/// Fraction bits of interpolation weights, as in OpenCV.
const TAP_BITS: u32 = 11;

/// Two neighbouring source positions and the weight of the second, in 1/2^[`TAP_BITS`].
struct Tap {
    first: usize,
    second: usize,
    weight: u32,
}

impl Tap {
    /// The mean of both, times 2^[`TAP_BITS`].
    fn blend(&self, first: u32, second: u32) -> u32 {
        first * ((1 << TAP_BITS) - self.weight) + second * self.weight
    }
}

fn taps(source: u32, target: u32) -> Vec<Tap> {
    let ratio = f64::from(source) / f64::from(target);
    let last = source as usize - 1;
    let tap = |index: u32| {
        let place = ((f64::from(index) + 0.5) * ratio - 0.5).clamp(0.0, last as f64);
        let first = place as usize;
        let weight = ((place - first as f64) * f64::from(1u32 << TAP_BITS)).round() as u32;
        Tap {
            first,
            second: (first + 1).min(last),
            weight,
        }
    };
    (0..target).map(tap).collect()
}

/// Brightness of a red, green, blue pixel by the weights of BT.601, which OpenCV uses.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    ((sum + 500) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: u32, height: u32, channels: u32) -> Picture {
        let count = width * height * channels;
        let data = (0..count).map(|i| (i * 7 % 251) as u8).collect();
        Picture::from_pixels(width, height, channels, data).unwrap()
    }

    #[test]
    fn bilinear_places_pixel_centres_at_half_integers() {
        let row = Picture::from_pixels(2, 1, 1, vec![0, 200]).unwrap();
        assert_eq!(row.resized(4, 1).unwrap().data(), [0, 50, 150, 200]);
        let row = Picture::from_pixels(4, 1, 1, vec![10, 20, 30, 80]).unwrap();
        assert_eq!(row.resized(2, 1).unwrap().data(), [15, 55]);
        let flat = Picture::from_pixels(5, 7, 3, vec![255; 105]).unwrap();
        assert!(
            flat.resized(64, 3)
                .unwrap()
                .data()
                .iter()
                .all(|&pixel| pixel == 255)
        );
        let same = ramp(5, 4, 3);
        assert!(same.resized(5, 4).unwrap() == same);
        assert!(same.resized(0, 4).is_err());
        assert!(same.resized(4, MAX_SIDE + 1).is_err());
    }

    #[test]
    fn covering_keeps_the_aspect_ratio_and_the_centre() {
        let wide = Picture::from_pixels(4, 1, 1, vec![1, 2, 3, 4]).unwrap();
        assert_eq!(wide.covering(2, 1).unwrap().data(), [2, 3]);
        assert_eq!(wide.covering(1, 1).unwrap().data(), [2]);
        let tall = ramp(3, 8, 3);
        let square = tall.covering(3, 3).unwrap();
        assert_eq!(square.data(), &tall.data()[2 * 9..5 * 9]);
        let large = ramp(5, 3, 3).covering(64, 64).unwrap();
        assert_eq!(
            (large.width(), large.height(), large.channels()),
            (64, 64, 3)
        );
        assert!(tall.covering(0, 5).is_err() && tall.covering(5, MAX_SIDE + 1).is_err());
        assert_eq!(ramp(2, 1, 3).planes(), [0, 21, 7, 28, 14, 35]);
    }

    #[test]
    fn encoded_pictures_are_decoded() {
        for (channels, order) in [
            (1, ChannelOrder::Bgr),
            (3, ChannelOrder::Bgr),
            (3, ChannelOrder::Rgb),
        ] {
            let picture = Picture::from_pixels(8, 8, channels, vec![90; 64 * channels as usize]);
            let picture = picture.unwrap();
            let decoded = |kind| {
                let file = picture.encode(kind, order).unwrap();
                Picture::decode(&file, None, order).unwrap()
            };
            assert!(decoded(FileKind::Png) == picture);
            let jpeg = decoded(FileKind::Jpeg);
            assert!(jpeg.data().iter().all(|pixel| pixel.abs_diff(90) < 3));
        }
        assert_eq!(FileKind::of(Path::new("a.b.JPEG")), Some(FileKind::Jpeg));
        assert_eq!(FileKind::of(Path::new("png")), None);
    }

    #[test]
    fn crop_mean_and_scale_use_source_positions() {
        let picture = ramp(6, 5, 3);
        let count = 6 * 5 * 3;
        let mean = Tensor::new(
            Shape::new([3, 5, 6]).unwrap(),
            (0..count).map(|i| i as f32).collect(),
        );
        let preprocess = Preprocess {
            crop: Some(3),
            mean: Mean::Image(mean),
            scale: 0.5,
            ..Preprocess::default()
        };
        let input = picture.clone().input(&preprocess, [3, 3, 3]).unwrap();
        for (c, y, x) in (0..27).map(|i| (i / 9, i / 3 % 3, i % 3)) {
            let (sy, sx) = (y + 1, x + 1);
            let pixel = f32::from(picture.data()[(sy * 6 + sx) * 3 + c]);
            let expected = (pixel - (c * 30 + sy * 6 + sx) as f32) * 0.5;
            assert_eq!(input.data()[c * 9 + y * 3 + x], expected);
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_with_advice() {
        let plain = Preprocess::default();
        let text = ramp(6, 5, 3)
            .input(&plain, [3, 4, 4])
            .unwrap_err()
            .to_string();
        assert!(text.contains("--resize"), "{text}");
        assert!(ramp(6, 5, 1).input(&plain, [3, 5, 6]).is_err());
        let crop = Preprocess {
            crop: Some(7),
            ..Preprocess::default()
        };
        assert!(ramp(6, 5, 3).input(&crop, [3, 7, 7]).is_err());
        let resized = Preprocess {
            resize: Some(Resize::Short(10)),
            ..Preprocess::default()
        };
        assert!(ramp(6, 5, 3).input(&resized, [3, 10, 12]).is_ok());
        let mean = Preprocess {
            mean: Mean::Values(vec![1.0, 2.0]),
            ..Preprocess::default()
        };
        assert!(ramp(6, 5, 3).input(&mean, [3, 5, 6]).is_err());
        let wide = Preprocess {
            resize: Some(Resize::Short(u32::MAX)),
            ..Preprocess::default()
        };
        assert!(ramp(6, 5, 3).input(&wide, [3, 5, 6]).is_err());
    }

    #[test]
    fn gray_and_colour_are_converted_either_way() {
        let colour = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(
            1,
            1,
            image::Rgba([10, 20, 30, 0]),
        ));
        let rgb = Picture::from_image(colour.clone(), 3, ChannelOrder::Rgb).unwrap();
        let bgr = Picture::from_image(colour.clone(), 3, ChannelOrder::Bgr).unwrap();
        assert_eq!(
            (rgb.data(), bgr.data()),
            (&[10, 20, 30][..], &[30, 20, 10][..])
        );
        assert_eq!(
            Picture::from_image(colour.clone(), 1, ChannelOrder::Bgr)
                .unwrap()
                .data(),
            [18]
        );
        let gray = DynamicImage::ImageLumaA8(image::GrayAlphaImage::from_pixel(
            1,
            1,
            image::LumaA([77, 9]),
        ));
        assert_eq!(
            Picture::from_image(gray.clone(), 3, ChannelOrder::Bgr)
                .unwrap()
                .data(),
            [77; 3]
        );
        assert_eq!(
            Picture::from_image(gray.clone(), 1, ChannelOrder::Bgr)
                .unwrap()
                .data(),
            [77]
        );
        assert!(Picture::from_image(gray.clone(), 2, ChannelOrder::Bgr).is_err());
    }
}
