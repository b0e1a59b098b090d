//! How a picture becomes the input of a network: it belongs to the network as its weights do.

use crate::{Error, Graph, Op, Result, Tensor};
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
                let dims = image.shape().dims();
                let [_, height, width] = *dims.strip_prefix(&[1]).unwrap_or(dims) else {
                    return Err(Error::new(format!("a mean image of {}", image.shape()))
                        .field("mean_file")
                        .expected("channels, height and width"));
                };
                side("mean_file", height)?;
                side("mean_file", width)?;
                finite("mean_file", image.data())
            }
        }
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
    use crate::Shape;

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
}
