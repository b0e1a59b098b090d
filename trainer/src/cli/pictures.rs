//! How pictures become inputs, where the network's file does not say it.

use skimjit_data::npy;
use skimjit_data::picture::{ChannelOrder, MAX_SIDE, Mean, Preprocess, Resize};
use skimjit_models::Result;
use std::path::{Path, PathBuf};

/// Preparation of pictures. Pixels are 0 to 255; the order of steps is Caffe's: resize, crop, subtract the mean,
/// scale.
#[derive(clap::Args)]
pub struct PictureArguments {
    /// Mean of each channel, in the network's channel order, or one for all
    #[arg(
        long,
        value_name = "B,G,R",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    mean_value: Vec<f32>,
    /// Mean image (.binaryproto or .npy), as large as pictures before they are cropped
    #[arg(long, value_name = "FILE", conflicts_with = "mean_value")]
    mean_file: Option<PathBuf>,
    /// Factor of pixels, after the mean is subtracted
    #[arg(long, value_name = "S", value_parser = parse_scale, allow_hyphen_values = true)]
    scale: Option<f32>,
    /// Size that pictures are brought to: width and height, or the shorter side
    #[arg(long, value_name = "WxH|short:N|none", value_parser = parse_resize)]
    resize: Option<Asked<Resize>>,
    /// Side of the square that is cut from the centre
    #[arg(long, value_name = "N|none", allow_negative_numbers = true, value_parser = parse_crop)]
    crop: Option<Asked<u32>>,
    /// Order of the colour channels that the network was trained with [default: bgr]
    #[arg(long, value_name = "bgr|rgb", value_parser = parse_order)]
    channel_order: Option<ChannelOrder>,
}

/// An argument that "none" takes away.
type Asked<T> = std::result::Result<T, Nothing>;

/// What "none" says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nothing;

impl PictureArguments {
    /// How pictures are prepared. Reads the mean file.
    pub fn preprocess(&self) -> Result<Preprocess> {
        let usual = Preprocess::default();
        let values = || match self.mean_value.is_empty() {
            true => Mean::None,
            false => Mean::Values(self.mean_value.clone()),
        };
        let mean = self.mean_file.as_deref().map(read_mean).transpose()?;
        Ok(Preprocess {
            channel_order: self.channel_order.unwrap_or(usual.channel_order),
            resize: self.resize.and_then(Asked::ok),
            crop: self.crop.and_then(Asked::ok),
            mean: mean.unwrap_or_else(values),
            scale: self.scale.unwrap_or(usual.scale),
        })
    }
    /// First argument that is given.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (!self.mean_value.is_empty(), "--mean-value"),
            (self.mean_file.is_some(), "--mean-file"),
            (self.scale.is_some(), "--scale"),
            (self.resize.is_some(), "--resize"),
            (self.crop.is_some(), "--crop"),
            (self.channel_order.is_some(), "--channel-order"),
        ];
        let mut given = given.iter().filter(|(given, _)| *given);
        given.next().map(|(_, name)| *name)
    }
}

fn read_mean(path: &Path) -> Result<Mean> {
    let is_npy = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("npy"));
    let mean = match is_npy {
        true => npy::read_npy(path)?,
        false => skimjit_caffe::read_mean(path)?,
    };
    Ok(match mean.shape().rank() {
        0 | 1 => Mean::Values(mean.into_data()),
        _ => Mean::Image(mean),
    })
}

fn parse_scale(text: &str) -> std::result::Result<f32, String> {
    let number = text.parse::<f32>().ok();
    let number = number.filter(|scale| scale.is_finite() && *scale != 0.0);
    number.ok_or_else(|| "expected a number other than 0".to_owned())
}

fn parse_order(text: &str) -> std::result::Result<ChannelOrder, String> {
    match text {
        "bgr" => Ok(ChannelOrder::Bgr),
        "rgb" => Ok(ChannelOrder::Rgb),
        _ => Err("expected bgr or rgb".to_owned()),
    }
}

fn side(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|side| (1..=MAX_SIDE).contains(side))
}

fn parse_crop(text: &str) -> std::result::Result<Asked<u32>, String> {
    match text {
        "none" => Ok(Err(Nothing)),
        text => side(text)
            .map(Ok)
            .ok_or_else(|| format!("expected 1 to {MAX_SIDE}, or none")),
    }
}

fn parse_resize(text: &str) -> std::result::Result<Asked<Resize>, String> {
    let exact = || {
        let (width, height) = text.split_once('x')?;
        Some(Resize::Exact(side(width)?, side(height)?))
    };
    let parsed = match text.strip_prefix("short:") {
        _ if text == "none" => return Ok(Err(Nothing)),
        Some(text) => side(text).map(Resize::Short),
        None => exact(),
    };
    parsed.map(Ok).ok_or_else(|| {
        format!("expected WxH, like 256x256, short:N, or none, with sides of 1 to {MAX_SIDE}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_scales_are_read_as_skimjit_run_reads_them() {
        assert_eq!(parse_resize("256x128"), Ok(Ok(Resize::Exact(256, 128))));
        assert_eq!(parse_resize("short:224"), Ok(Ok(Resize::Short(224))));
        assert_eq!(parse_resize("none"), Ok(Err(Nothing)));
        assert_eq!(
            (parse_crop("227"), parse_crop("none")),
            (Ok(Ok(227)), Ok(Err(Nothing)))
        );
        assert_eq!(parse_scale("-0.5"), Ok(-0.5));
        for bad in ["", "256", "0x5", "5x", "short:0", "short:-1", "99999x1"] {
            assert!(parse_resize(bad).is_err(), "{bad}");
        }
        assert!(parse_crop("0").is_err() && parse_crop("-1").is_err());
        assert!(parse_scale("0").is_err() && parse_scale("nan").is_err());
    }
}
