//! From a stored image to a network's input: Caffe's `transform_param`, in its order of operations.

use crate::picture::Picture;
use crate::random::Random;
use skimjit_caffe::proto::{Phase, TransformationParameter};
use skimjit_caffe::read_mean;
use skimjit_models::{Error, Result, Tensor};
use std::path::Path;

/// An image as it is stored.
#[derive(Clone)]
pub struct Image {
    /// Channels.
    pub channels: u32,
    /// Height, in pixels.
    pub height: u32,
    /// Width, in pixels.
    pub width: u32,
    /// Pixel values.
    pub values: Values,
}

/// Pixel values of an [`Image`].
#[derive(Clone)]
pub enum Values {
    /// Channel by channel, 0 to 255.
    Planes(Vec<u8>),
    /// Channel by channel, any values.
    Floats(Vec<f32>),
}

impl Image {
    /// A decoded picture, whose channels are brought apart.
    pub fn from_picture(picture: &Picture) -> Self {
        let channels = picture.channels() as usize;
        let mut planes = Vec::with_capacity(picture.data().len());
        for channel in 0..channels {
            let pixels = picture.data().chunks_exact(channels);
            planes.extend(pixels.map(|pixel| pixel[channel]));
        }
        Self {
            channels: picture.channels(),
            height: picture.height(),
            width: picture.width(),
            values: Values::Planes(planes),
        }
    }
    /// Channels, height, width.
    pub fn dims(&self) -> [u32; 3] {
        [self.channels, self.height, self.width]
    }
    /// Bytes of the pixels.
    pub fn bytes(&self) -> u64 {
        match &self.values {
            Values::Planes(values) => values.len() as u64,
            Values::Floats(values) => 4 * values.len() as u64,
        }
    }
}

/// What is subtracted.
#[derive(Clone)]
enum Mean {
    None,
    /// One for all channels, or one per channel.
    Values(Vec<f32>),
    /// 1 × channels × height × width of the stored image.
    Image(Tensor),
}

/// `transform_param` of a layer: `(pixel − mean)·scale`, cut out and mirrored.
#[derive(Clone)]
pub struct Transform {
    crop: Option<u32>,
    mirror: bool,
    mean: Mean,
    scale: f32,
    /// Windows are cut out at random places.
    random_crop: bool,
    /// Channels that decoded pictures are brought to.
    force: Option<u32>,
}

/// What is cut out of an image.
#[derive(Clone, Copy)]
struct Window {
    left: usize,
    top: usize,
    height: usize,
    width: usize,
    mirrored: bool,
}

impl Transform {
    /// `find` turns the name of a mean file into its path.
    pub fn new(
        param: &TransformationParameter,
        phase: Phase,
        find: impl Fn(&str) -> std::path::PathBuf,
    ) -> Result<Self> {
        let mean = match (&param.mean_file, param.mean_value.as_slice()) {
            (None, []) => Mean::None,
            (None, values) => Mean::Values(values.to_vec()),
            (Some(file), []) => Mean::Image(read_mean(&find(file))?),
            (Some(_), _) => {
                return Err(Error::new("mean_file and mean_value")
                    .field("transform_param.mean_file")
                    .expected("one of them"));
            }
        };
        let force = match (param.force_color(), param.force_gray()) {
            (true, true) => {
                return Err(Error::new("force_color and force_gray")
                    .field("transform_param.force_color")
                    .expected("one of them"));
            }
            (true, false) => Some(3),
            (false, true) => Some(1),
            (false, false) => None,
        };
        Ok(Self {
            crop: Some(param.crop_size()).filter(|&side| side > 0),
            mirror: param.mirror(),
            mean,
            scale: param.scale(),
            random_crop: phase == Phase::Train,
            force,
        })
    }

    /// Channels that decoded pictures are brought to; `None`: those they have.
    pub fn channels(&self) -> Option<u32> {
        self.force
    }

    /// Channels, height, width that an image of `dims` becomes.
    pub fn output(&self, [channels, height, width]: [u32; 3]) -> [u32; 3] {
        match self.crop {
            Some(side) => [channels, side, side],
            None => [channels, height, width],
        }
    }

    /// Puts the input made of `image` behind `out`.
    pub fn append(&self, image: &Image, random: &mut Random, out: &mut Vec<f32>) -> Result<()> {
        let window = self.window(image, random)?;
        self.check_mean(image)?;
        for channel in 0..image.channels as usize {
            for y in 0..window.height {
                let start = out.len();
                let first = (window.top + y) * image.width as usize + window.left;
                self.append_row(image, channel, first, window.width, out);
                if window.mirrored {
                    out[start..].reverse();
                }
            }
        }
        Ok(())
    }

    /// Caffe draws the mirroring first, then the row, then the column.
    fn window(&self, image: &Image, random: &mut Random) -> Result<Window> {
        let mirrored = self.mirror && random.below(2) == 1;
        let [height, width] = [image.height, image.width];
        let Some(side) = self.crop else {
            let [height, width] = [height as usize, width as usize];
            return Ok(Window {
                left: 0,
                top: 0,
                height,
                width,
                mirrored,
            });
        };
        if height < side || width < side {
            return Err(Error::new(format!("an image of {width}x{height}"))
                .field("transform_param.crop_size")
                .expected(format!("at least {side}x{side}"))
                .hint("resize the images, or cut out less"));
        }
        let mut offset = |room: u32| match self.random_crop {
            true => random.below(u64::from(room) + 1) as usize,
            false => (room / 2) as usize,
        };
        let top = offset(height - side);
        let left = offset(width - side);
        let side = side as usize;
        Ok(Window {
            left,
            top,
            height: side,
            width: side,
            mirrored,
        })
    }

    fn check_mean(&self, image: &Image) -> Result<()> {
        let wrong = match &self.mean {
            Mean::None => return Ok(()),
            Mean::Values(values)
                if values.len() == 1 || values.len() == image.channels as usize =>
            {
                return Ok(());
            }
            Mean::Image(mean) if mean.shape().dims().get(1..) == Some(&image.dims()) => {
                return Ok(());
            }
            Mean::Values(values) => Error::new(format!("{} mean values", values.len()))
                .field("transform_param.mean_value")
                .expected(format!("1 or {}, one per channel", image.channels)),
            Mean::Image(mean) => {
                let [c, h, w] = image.dims();
                Error::new(format!("a mean of {}", mean.shape()))
                    .field("transform_param.mean_file")
                    .expected(format!("1x{c}x{h}x{w}, like the image before it is cut"))
            }
        };
        Err(wrong)
    }

    /// `width` pixels of a channel from pixel `first` on.
    fn append_row(
        &self,
        image: &Image,
        channel: usize,
        first: usize,
        width: usize,
        out: &mut Vec<f32>,
    ) {
        let plane = image.height as usize * image.width as usize;
        let start = channel * plane + first;
        let means = match &self.mean {
            Mean::None => Means::One(0.0),
            Mean::Values(values) => Means::One(values[channel % values.len()]),
            Mean::Image(mean) => Means::Row(&mean.data()[start..][..width]),
        };
        match &image.values {
            Values::Planes(values) => {
                let row = values[start..][..width].iter().map(|&x| f32::from(x));
                means.subtract(row, self.scale, out);
            }
            Values::Floats(values) => {
                means.subtract(values[start..][..width].iter().copied(), self.scale, out);
            }
        }
    }
}

/// Mean values of a row.
enum Means<'a> {
    One(f32),
    Row(&'a [f32]),
}

impl Means<'_> {
    fn subtract(&self, row: impl Iterator<Item = f32>, scale: f32, out: &mut Vec<f32>) {
        match *self {
            Self::One(mean) => out.extend(row.map(|x| (x - mean) * scale)),
            Self::Row(means) => out.extend(row.zip(means).map(|(x, mean)| (x - mean) * scale)),
        }
    }
}

/// The path that a file named in a definition has: as it is from the working folder, which is Caffe's
/// rule, or else from the definition's folder.
pub fn find(name: &str, folder: Option<&Path>) -> std::path::PathBuf {
    skimjit_caffe::paths::find(name, folder.unwrap_or(Path::new("")))
}
