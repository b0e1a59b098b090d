//! How a picture becomes the input of a network: it belongs to the network as its weights do.

use crate::{Error, Graph, Op, Result, Shape, Tensor};
use std::fmt;

/// Largest width and height of a picture.
pub const MAX_SIDE: u32 = 1 << 14;
/// Most channels that can have mean values.
const MAX_CHANNELS: usize = 1 << 10;

/// Order of the colour channels that the network was trained with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub enum ChannelOrder {
    /// Blue first, as Caffe's own tools make it.
    #[default]
    Bgr,
    /// Red first.
    Rgb,
}

/// What size a picture is brought to before it is cropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub enum Resize {
    /// Width and height, whatever the aspect ratio was.
    Exact(u32, u32),
    /// Length of the shorter side; the aspect ratio stays.
    Short(u32),
}

/// What is subtracted from each pixel.
#[derive(Clone, PartialEq, Debug, Default)]
pub enum Mean {
    /// Nothing.
    #[default]
    None,
    /// One value for all channels, or one per channel in the network's channel order.
    Values(Vec<f32>),
    /// A picture, `C × H × W` or `1 × C × H × W` in the network's channel order, of the size that
    /// the input has before cropping; it is cropped with it.
    Image(Tensor),
    /// The file that the network's definition names, which was not there: nothing can be prepared.
    Missing(String),
}

/// How a picture becomes an input: `(pixel − mean)·scale` with pixels of 0 to 255.
///
/// The steps and their order are Caffe's: resize, crop the centre, subtract the mean, scale.
#[derive(Clone, PartialEq, Debug)]
pub struct Preprocess {
    /// Channel order of colour networks.
    pub channel_order: ChannelOrder,
    /// Resizing, if any.
    pub resize: Option<Resize>,
    /// Side of the square that is cut from the centre, if any.
    pub crop: Option<u32>,
    /// Mean.
    pub mean: Mean,
    /// Factor.
    pub scale: f32,
}

impl Default for Preprocess {
    fn default() -> Self {
        let channel_order = ChannelOrder::default();
        Self {
            channel_order,
            resize: None,
            crop: None,
            mean: Mean::None,
            scale: 1.0,
        }
    }
}

impl Preprocess {
    /// Refuses values that no picture could be prepared with.
    pub fn check(&self) -> Result<()> {
        let side = |field: &str, side: u32| match (1..=MAX_SIDE).contains(&side) {
            true => Ok(()),
            false => Err(Error::new(side.to_string())
                .field(field)
                .expected(format!("1 to {MAX_SIDE}"))),
        };
        match self.resize {
            Some(Resize::Exact(width, height)) => {
                side("resize", width)?;
                side("resize", height)?;
            }
            Some(Resize::Short(short)) => side("resize", short)?,
            None => {}
        }
        self.crop.map_or(Ok(()), |crop| side("crop", crop))?;
        if !self.scale.is_finite() || self.scale == 0.0 {
            return Err(Error::new(self.scale.to_string())
                .field("scale")
                .expected("a number other than 0"));
        }
        match &self.mean {
            Mean::None | Mean::Missing(_) => Ok(()),
            Mean::Values(values) => {
                if !(1..=MAX_CHANNELS).contains(&values.len()) {
                    return Err(Error::new(format!("{} mean values", values.len()))
                        .field("mean_value")
                        .expected("one per channel, or one for all"));
                }
                finite("mean_value", values)
            }
            Mean::Image(image) => {
                let [_, height, width] = image_dims(image)?;
                side("mean_file", height)?;
                side("mean_file", width)?;
                finite("mean_file", image.data())
            }
        }
    }

    /// Refuses what no picture can be prepared with for an input of `N × C × H × W`: every picture would be
    /// refused later, when the network runs. What a picture decides (its own size) is not looked at, nor
    /// whether a mean image is there.
    pub fn check_against(&self, input: &Shape) -> Result<()> {
        self.check()?;
        let &[_, channels, height, width] = input.dims() else {
            return Err(Error::new(format!("an input of {input}"))
                .expected("an input of four axes for pictures: N, C, H, W"));
        };
        if channels == 1 && self.channel_order == ChannelOrder::Rgb {
            return Err(Error::new("rgb for an input of 1 channel")
                .field("channel_order")
                .expected("none: gray pictures have no order of channels"));
        }
        self.check_sizes(width, height)?;
        match &self.mean {
            Mean::None | Mean::Missing(_) => Ok(()),
            Mean::Values(values) if values.len() == 1 || values.len() == channels as usize => {
                Ok(())
            }
            Mean::Values(values) => Err(Error::new(format!("{} mean values", values.len()))
                .field("mean_value")
                .expected(match channels {
                    1 => "1: the input has 1 channel".to_owned(),
                    _ => format!("1, or {channels}, one for each channel of the input"),
                })),
            Mean::Image(image) => self.check_image(image, [channels, height, width]),
        }
    }

    /// Whether pictures can have the size of the input after resizing and cropping.
    fn check_sizes(&self, width: u32, height: u32) -> Result<()> {
        if let Some(crop) = self.crop {
            if (crop, crop) != (width, height) {
                return Err(Error::new(format!("a crop of {crop}x{crop}"))
                    .field("crop")
                    .expected(format!("{width}x{height}, the size of the network's input")));
            }
            let side = match self.resize {
                None => crop,
                Some(Resize::Exact(width, height)) => width.min(height),
                Some(Resize::Short(side)) => side,
            };
            return match crop <= side {
                true => Ok(()),
                false => Err(Error::new(format!("a crop of {crop}x{crop}"))
                    .field("crop")
                    .expected(format!(
                        "at most {side}, the smaller side that pictures are resized to"
                    ))),
            };
        }
        let (found, fits) = match self.resize {
            None => return Ok(()),
            Some(Resize::Exact(own_width, own_height)) => (
                format!("{own_width}x{own_height}"),
                (own_width, own_height) == (width, height),
            ),
            Some(Resize::Short(side)) => (
                format!("a shorter side of {side}"),
                side == width.min(height),
            ),
        };
        match fits {
            true => Ok(()),
            false => Err(Error::new(format!("{found} without a crop"))
                .field("resize")
                .expected(format!("{width}x{height}, the size of the network's input"))),
        }
    }

    /// Whether a mean image can be as large as pictures before they are cropped.
    fn check_image(&self, image: &Tensor, [channels, height, width]: [u32; 3]) -> Result<()> {
        let [own_channels, own_height, own_width] = image_dims(image)?;
        let expected = match (self.resize, self.crop) {
            _ if own_channels != channels => format!("{channels} channels, as the input has"),
            (Some(Resize::Exact(width, height)), _)
                if (own_width, own_height) != (width, height) =>
            {
                format!("{channels}x{height}x{width}, the size that pictures are resized to")
            }
            (Some(Resize::Short(side)), _) if own_width.min(own_height) != side => {
                format!("a shorter side of {side}, as pictures are resized to")
            }
            (_, Some(crop)) if own_width.min(own_height) < crop => {
                format!("at least {channels}x{crop}x{crop}, the crop")
            }
            (_, None) if (own_width, own_height) != (width, height) => {
                format!("{channels}x{height}x{width}, the network's input")
            }
            _ => return Ok(()),
        };
        Err(Error::new(format!("a mean image of {}", image.shape()))
            .field("mean_file")
            .expected(expected)
            .hint("it must be as large as the picture before it is cropped"))
    }

    /// Where a mean image says how large pictures are before they are cropped, and nothing else does, they
    /// are brought to that size, as Caffe's data bases are when they are made.
    #[must_use]
    pub fn sized_by_mean(mut self) -> Self {
        if let (None, Mean::Image(image)) = (self.resize, &self.mean)
            && let [.., height, width] = *image.shape().dims()
        {
            self.resize = Some(Resize::Exact(width, height));
        }
        self
    }
}

/// Channels, height and width of a mean image.
fn image_dims(image: &Tensor) -> Result<[u32; 3]> {
    match *image.shape().dims() {
        [1, channels, height, width] | [channels, height, width] => Ok([channels, height, width]),
        _ => Err(Error::new(format!("a mean image of {}", image.shape()))
            .field("mean_file")
            .expected("channels, height and width")),
    }
}

fn finite(field: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => Err(Error::new(value.to_string())
            .field(field)
            .expected("finite numbers")),
    }
}

/// One line: `resized to 256x256, centre of 227x227, BGR, minus 104,117,123, times 0.5`.
impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            Some(Resize::Exact(width, height)) => write!(f, "resized to {width}x{height}, ")?,
            Some(Resize::Short(side)) => write!(f, "shorter side resized to {side}, ")?,
            None => {}
        }
        if let Some(side) = self.crop {
            write!(f, "centre of {side}x{side}, ")?;
        }
        match self.channel_order {
            ChannelOrder::Bgr => f.write_str("pixels 0 to 255, BGR")?,
            ChannelOrder::Rgb => f.write_str("pixels 0 to 255, RGB")?,
        }
        match &self.mean {
            Mean::None => {}
            Mean::Values(values) => {
                let values: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, ", minus {}", values.join(","))?;
            }
            Mean::Image(image) => write!(f, ", minus a mean image of {}", image.shape())?,
            Mean::Missing(file) => write!(f, ", minus the mean image {file:?}, which is missing")?,
        }
        if self.scale != 1.0 {
            write!(f, ", times {}", self.scale)?;
        }
        Ok(())
    }
}

/// What can have names of classes: an output of the network, and its number of classes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Classes {
    /// Blob.
    pub output: String,
    /// Number of classes, a detector's background included.
    pub count: usize,
}

/// The outputs of a network that give classes, or maps of them.
pub fn classes(graph: &Graph) -> Vec<Classes> {
    let of = |&id: &crate::ValueId| {
        let value = graph.value(id);
        let maker = graph.nodes.iter().find(|node| node.output == id);
        let count = match maker.map(|node| &node.op) {
            Some(Op::DetectionOutput(detection)) => detection.classes as usize,
            _ if value.shape.rank() >= 2 => value.shape.dim(1) as usize,
            _ => return None,
        };
        let output = value.name.clone();
        Some(Classes { output, count })
    };
    graph.outputs.iter().filter_map(of).collect()
}

/// There must be a name for each class of some output: one too few or too many shifts all of them.
pub fn check_labels(graph: &Graph, names: usize) -> Result<()> {
    let outputs = classes(graph);
    if outputs.iter().any(|classes| classes.count == names) {
        return Ok(());
    }
    let counts: Vec<String> = outputs
        .iter()
        .map(|Classes { output, count }| format!("{count}, the classes of \"{output}\""))
        .collect();
    let error = Error::new(format!("{names} names of classes"));
    Err(match outputs[..] {
        [] => error.expected("none: no output of the network gives classes"),
        _ => error.expected(counts.join(", or ")),
    }
    .hint(
        "one name for each class, that of class 0 first; detectors count the background as class 0",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_all_steps_in_their_order() {
        let preprocess = Preprocess {
            resize: Some(Resize::Exact(256, 200)),
            crop: Some(227),
            mean: Mean::Values(vec![104.0, 117.5, 123.0]),
            scale: 0.5,
            ..Preprocess::default()
        };
        let text = "resized to 256x200, centre of 227x227, pixels 0 to 255, BGR, minus 104,117.5,123, times 0.5";
        assert_eq!(preprocess.to_string(), text);
        assert_eq!(Preprocess::default().to_string(), "pixels 0 to 255, BGR");
    }

    #[test]
    fn a_mean_image_says_the_size_before_the_crop() {
        let image = Tensor::zeros(Shape::new([1, 3, 5, 7]).unwrap());
        let preprocess = Preprocess {
            mean: Mean::Image(image),
            ..Preprocess::default()
        };
        let sized = preprocess.sized_by_mean();
        assert_eq!(sized.resize, Some(Resize::Exact(7, 5)));
        assert!(sized.check().is_ok());
    }

    #[test]
    fn values_without_meaning_are_refused() {
        let usual = Preprocess::default;
        for bad in [
            Preprocess {
                scale: 0.0,
                ..usual()
            },
            Preprocess {
                scale: f32::NAN,
                ..usual()
            },
            Preprocess {
                crop: Some(0),
                ..usual()
            },
            Preprocess {
                crop: Some(MAX_SIDE + 1),
                ..usual()
            },
            Preprocess {
                resize: Some(Resize::Short(0)),
                ..usual()
            },
            Preprocess {
                resize: Some(Resize::Exact(5, 0)),
                ..usual()
            },
            Preprocess {
                mean: Mean::Values(vec![]),
                ..usual()
            },
            Preprocess {
                mean: Mean::Values(vec![1.0; MAX_CHANNELS + 1]),
                ..usual()
            },
            Preprocess {
                mean: Mean::Values(vec![f32::INFINITY]),
                ..usual()
            },
            Preprocess {
                mean: Mean::Image(Tensor::zeros(Shape::new([3, 5]).unwrap())),
                ..usual()
            },
        ] {
            assert!(bad.check().is_err(), "{bad}");
        }
    }

    fn image(dims: impl Into<Vec<u32>>) -> Mean {
        Mean::Image(Tensor::zeros(Shape::new(dims).unwrap()))
    }

    #[test]
    fn what_can_fit_an_input_is_taken() {
        let fits = |input: [u32; 4], preprocess: Preprocess| {
            let input = Shape::new(input).unwrap();
            let checked = preprocess.check_against(&input);
            assert!(checked.is_ok(), "{preprocess}: {checked:?}");
        };
        let usual = Preprocess::default;
        let exact = |width, height| Some(Resize::Exact(width, height));
        for channels in [1, 3] {
            let input = [16, channels, 20, 20];
            fits(input, usual());
            for resize in [None, exact(20, 30), Some(Resize::Short(25))] {
                let crop = Some(20);
                fits(
                    input,
                    Preprocess {
                        resize,
                        crop,
                        ..usual()
                    },
                );
            }
            for dims in [vec![channels, 24, 25], vec![1, channels, 24, 25]] {
                let (crop, mean) = (Some(20), image(dims));
                for resize in [None, exact(25, 24), Some(Resize::Short(24))] {
                    let mean = mean.clone();
                    fits(
                        input,
                        Preprocess {
                            resize,
                            crop,
                            mean,
                            ..usual()
                        },
                    );
                }
            }
            for count in [1, channels as usize] {
                let mean = Mean::Values(vec![5.0; count]);
                fits(input, Preprocess { mean, ..usual() });
            }
            let mean = Mean::Missing("mean.binaryproto".to_owned());
            fits(input, Preprocess { mean, ..usual() });
        }
        let resize = exact(30, 20);
        fits([1, 3, 20, 30], Preprocess { resize, ..usual() });
        let resize = Some(Resize::Short(20));
        let mean = image([3, 20, 30]);
        fits(
            [1, 3, 20, 30],
            Preprocess {
                resize,
                mean,
                ..usual()
            },
        );
        // Data bases can have any number of channels.
        let mean = Mean::Values(vec![1.0; 5]);
        fits([1, 5, 20, 30], Preprocess { mean, ..usual() });
    }

    #[test]
    fn what_can_never_fit_an_input_is_refused() {
        let usual = Preprocess::default;
        let refused = |input: &[u32], preprocess: Preprocess, text: &str| {
            let input = Shape::new(input).unwrap();
            let error = preprocess.check_against(&input).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert!(error.contains("expected"), "{error}");
        };
        let exact = |width, height| Some(Resize::Exact(width, height));
        let colour = &[1, 3, 20, 20][..];
        refused(
            &[4],
            usual(),
            "found an input of 4, expected an input of four axes",
        );
        let rgb = ChannelOrder::Rgb;
        let order = Preprocess {
            channel_order: rgb,
            ..usual()
        };
        refused(&[1, 1, 20, 20], order, "channel_order: found rgb");
        for (resize, crop, text) in [
            (
                None,
                Some(19),
                "crop: found a crop of 19x19, expected 20x20",
            ),
            (
                exact(19, 40),
                Some(20),
                "crop: found a crop of 20x20, expected at most 19",
            ),
            (Some(Resize::Short(19)), Some(20), "expected at most 19"),
            (
                exact(20, 21),
                None,
                "resize: found 20x21 without a crop, expected 20x20",
            ),
            (
                Some(Resize::Short(21)),
                None,
                "resize: found a shorter side of 21",
            ),
        ] {
            refused(
                colour,
                Preprocess {
                    resize,
                    crop,
                    ..usual()
                },
                text,
            );
        }
        for (mean, text) in [
            (
                Mean::Values(vec![1.0; 2]),
                "mean_value: found 2 mean values, expected 1, or 3",
            ),
            (Mean::Values(vec![f32::NAN]), "mean_value: found NaN"),
            (
                image([1, 20, 20]),
                "mean_file: found a mean image of 1x20x20, expected 3 channels",
            ),
            (image([3, 20, 21]), "expected 3x20x20, the network's input"),
        ] {
            refused(colour, Preprocess { mean, ..usual() }, text);
        }
        let three = Mean::Values(vec![1.0; 3]);
        let gray = Preprocess {
            mean: three,
            ..usual()
        };
        refused(&[1, 1, 20, 20], gray, "found 3 mean values, expected 1: ");
        for (resize, text) in [
            (None, "expected at least 3x20x20, the crop"),
            (
                exact(25, 24),
                "expected 3x24x25, the size that pictures are resized to",
            ),
            (Some(Resize::Short(24)), "expected a shorter side of 24"),
        ] {
            let (crop, mean) = (Some(20), image([1, 3, 19, 25]));
            refused(
                colour,
                Preprocess {
                    resize,
                    crop,
                    mean,
                    ..usual()
                },
                text,
            );
        }
        refused(
            colour,
            Preprocess {
                scale: f32::NAN,
                ..usual()
            },
            "scale: found NaN",
        );
    }

    #[test]
    fn a_gray_mean_image_of_three_axes_has_one_channel() {
        let mean = image([1, 5, 7]);
        let preprocess = Preprocess {
            mean,
            ..Preprocess::default()
        };
        assert!(preprocess.check().is_ok());
    }
}
