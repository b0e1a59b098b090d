//! Network inputs from arrays and pictures.

use crate::support::args::{NamedFile, is_npy};
use crate::support::entries::Entries;
use crate::support::output;
use skimjit::picture::{self, ChannelOrder, Mean, Preprocess, Resize};
use skimjit::{Error, Model, Result, array};
use skimjit_caffe as caffe;
use skimjit_models::{Error as InputError, Shape, Tensor, ValueId};
use std::fmt;
use std::path::{Path, PathBuf};

/// What takes a step of the network's away.
const NONE: &str = "none";

/// Images computed together where the command line does not say.
pub const USUAL_BATCH: u32 = 16;

/// An argument that "none" takes away what the network has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked<T>(Option<T>);

/// How pictures become inputs, where it is not as the network says. Pixels are 0 to 255; the order of steps is
/// Caffe's: resize, crop, subtract the mean, scale.
///
/// As by Caffe's data layers, networks of one channel get the brightness of colour pictures, networks of three
/// get gray pictures three times, transparency is left out, and cameras' orientation marks are obeyed.
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
    /// Order of the colour channels that the network was trained with [default: the network's, or bgr]
    #[arg(long, value_name = "bgr|rgb", value_parser = parse_order)]
    channel_order: Option<ChannelOrder>,
}

impl PictureArguments {
    /// What the network says, with the arguments instead where there are some. Reads the mean file.
    pub fn over(&self, network: Option<&Preprocess>) -> Result<Preprocess> {
        let mut preprocess = network.cloned().unwrap_or_default();
        if let Some(path) = &self.mean_file {
            preprocess.mean = read_mean(path)?;
        } else if !self.mean_value.is_empty() {
            preprocess.mean = Mean::Values(self.mean_value.clone());
        }
        if let Some(Asked(resize)) = self.resize {
            preprocess.resize = resize;
        }
        if let Some(Asked(crop)) = self.crop {
            preprocess.crop = crop;
        }
        preprocess.channel_order = self.channel_order.unwrap_or(preprocess.channel_order);
        preprocess.scale = self.scale.unwrap_or(preprocess.scale);
        Ok(preprocess)
    }
    /// How the pictures of a run are prepared.
    pub fn prepare(&self, model: &Model, sizes: Sizes) -> Result<Preparation> {
        let mut network = model.preprocess().cloned();
        if let (Some(own), &[input, ..]) = (&mut network, &model.graph().inputs[..]) {
            let dims = model.graph().shape(input).dims();
            // The crop makes the size of the input, unless another was asked for.
            let fits = own
                .crop
                .is_some_and(|side| dims.get(2..) == Some(&[side, side][..]));
            if sizes == Sizes::Any || !fits {
                own.crop = None;
            }
            if sizes == Sizes::Any {
                own.resize = None;
            }
        }
        let preprocess = self.over(network.as_ref())?;
        if let (Some(_), Sizes::Network, &[input, ..]) =
            (self.given(), sizes, &model.graph().inputs[..])
        {
            preprocess.check_against(model.graph().shape(input))?;
        }
        let told = match (&network, self.given()) {
            (Some(_), _) => Some(Told::Known(self.of_network(&preprocess, model))),
            (None, None) => Some(Told::Unknown(format!(
                "no preprocessing known: {} are used as they are; give --mean-value, --scale, --channel-order, \
                 or compile the network with them",
                Shown(&preprocess, model)
            ))),
            (None, Some(_)) => None,
        };
        Ok(Preparation { preprocess, told })
    }
    /// What is said of a network's own preprocessing.
    fn of_network(&self, preprocess: &Preprocess, model: &Model) -> String {
        let shown = Shown(preprocess, model);
        let unsized_crop = match (preprocess.crop, preprocess.resize, self.resize) {
            // Caffe's data bases hold pictures of one size.
            (Some(_), None, None) => {
                "; to what size pictures are brought before that is not known: --resize WxH says it"
            }
            _ => "",
        };
        format!("preprocessing of the network: {shown}{unsized_crop}")
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
        given
            .iter()
            .find(|(given, _)| *given)
            .map(|(_, name)| *name)
    }
    /// Arrays are used as they are, so these arguments would do nothing.
    pub fn refuse_without_pictures(&self) -> Result<()> {
        self.given().map_or(Ok(()), |name| {
            Err(Error::Usage(format!(
                "{name}: found only arrays as inputs, expected a picture"
            )))
        })
    }
}

/// Preprocessing as it is printed: networks of one channel have no channel order.
pub struct Shown<'a>(pub &'a Preprocess, pub &'a Model);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(preprocess, model) = self;
        let graph = model.graph();
        let is_gray = graph
            .inputs
            .first()
            .is_some_and(|&input| graph.shape(input).dim(1) == 1);
        let text = preprocess.to_string();
        match is_gray {
            true => f.write_str(
                &text
                    .replacen(", BGR", ", gray", 1)
                    .replacen(", RGB", ", gray", 1),
            ),
            false => f.write_str(&text),
        }
    }
}

/// How pictures are prepared, and what the user should know about it.
pub struct Preparation {
    pub preprocess: Preprocess,
    told: Option<Told>,
}

enum Told {
    /// What the network says.
    Known(String),
    /// Neither the network nor the command line says anything.
    Unknown(String),
}

impl Preparation {
    /// Says it, once, before the first picture.
    pub fn announce(&mut self) {
        match self.told.take() {
            None => {}
            Some(Told::Known(text)) => output::note(text),
            Some(Told::Unknown(text)) => output::warn(text),
        }
    }
}

/// One file given as an input.
pub struct Item {
    pub file: PathBuf,
    /// The array; `None` for pictures, which are read when they are needed.
    array: Option<Tensor>,
}

impl Item {
    pub fn open(file: &Path) -> Result<Self> {
        let array = if is_npy(file) {
            Some(read_array(file)?)
        } else {
            None
        };
        Ok(Self {
            file: file.to_owned(),
            array,
        })
    }
    pub fn is_picture(&self) -> bool {
        self.array.is_none()
    }
    /// Images in it.
    pub fn images(&self) -> u32 {
        self.array.as_ref().map_or(1, |array| array.shape().dim(0))
    }
    /// Elements of its images, for an input of shape `N × dims`.
    pub fn elements(self, port: &Shape, preprocess: &Preprocess) -> Result<Vec<f32>> {
        if let Some(array) = self.array {
            check_shape(&array, port, &self.file)?;
            return Ok(array.into_data());
        }
        let &[_, c, h, w] = four_axes(port, &self.file)?;
        Ok(picture::load(&self.file, [c, h, w], preprocess)?.into_data())
    }
    /// The item in its own size, for an input that is `port` until now.
    pub fn whole(self, port: &Shape, preprocess: &Preprocess) -> Result<Tensor> {
        if let Some(array) = self.array {
            return Ok(array);
        }
        let &[_, c, ..] = four_axes(port, &self.file)?;
        let picture = picture::load_any_size(&self.file, c, preprocess)?;
        let dims = [&[1], picture.shape().dims()].concat();
        Ok(Tensor::new(Shape::new(dims)?, picture.into_data()))
    }
}

/// An array of finite numbers: others would be refused by the run, with all that are computed together.
fn read_array(file: &Path) -> Result<Tensor> {
    let array = array::read_npy(file)?;
    let images = array
        .shape()
        .dims()
        .first()
        .map_or(1, |&images| images.max(1) as usize);
    let row = (array.data().len() / images).max(1);
    match array.data().iter().position(|element| !element.is_finite()) {
        None => Ok(array),
        Some(at) => {
            let (found, image) = (array.data()[at], at / row);
            let error =
                InputError::new(format!("{found} at element {} of image {image}", at % row));
            Err(error.file(file).expected("finite numbers").into())
        }
    }
}

/// Images of all files, as far as it matters: up to [`USUAL_BATCH`].
pub fn images_of(entries: &Entries) -> u32 {
    let enough = USUAL_BATCH;
    if !entries.are_known() || entries.known().len() >= enough as usize {
        return enough;
    }
    // What cannot be read is told when it is its turn.
    let images = |path: &Path| match is_npy(path) {
        true => array::read_npy_shape(path).map_or(1, |shape| shape.dim(0)),
        false => 1,
    };
    entries.known().map(images).fold(0, u32::saturating_add)
}

/// Dims of an input that can be a picture.
fn four_axes<'a>(port: &'a Shape, file: &Path) -> Result<&'a [u32; 4]> {
    port.dims().try_into().map_err(|_| {
        let error = InputError::new("a picture").file(file);
        let expected = format!("a .npy array, as the network's input is {port}");
        error.expected(expected).into()
    })
}

/// Which sizes arrays may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// The network's, but for the number of images.
    Network,
    /// Any that the layers can work on.
    Any,
}

/// Every dim but the number of images must be the network's.
fn check_shape(array: &Tensor, port: &Shape, file: &Path) -> Result<()> {
    let (found, expected) = (array.shape(), port);
    if found.rank() > 0 && found.dims().get(1..) == expected.dims().get(1..) {
        return Ok(());
    }
    let expected = expected
        .dims()
        .iter()
        .skip(1)
        .map(|dim| format!("x{dim}"))
        .collect::<String>();
    let error = InputError::new(format!("an array of shape {found}")).file(file);
    Err(error
        .expected(format!(
            "N{expected}, N images of the network's input shape"
        ))
        .hint("run --reshape takes arrays of other sizes")
        .into())
}

/// The arrays of all inputs of a network, in its order, with one number of images.
pub fn arrays(model: &Model, files: &[NamedFile], sizes: Sizes) -> Result<Vec<Tensor>> {
    let graph = model.graph();
    let names: Vec<&str> = graph
        .inputs
        .iter()
        .map(|&id| graph.value(id).name.as_str())
        .collect();
    let mut arrays: Vec<Option<Tensor>> = vec![None; names.len()];
    for named in files {
        let port = named.port("--input", &names)?;
        if !is_npy(&named.file) {
            let error = InputError::new("a file that is no .npy array").file(&named.file);
            return Err(error.expected("a .npy array").into());
        }
        let array = read_array(&named.file)?;
        if sizes == Sizes::Network {
            check_shape(&array, graph.shape(graph.inputs[port]), &named.file)?;
        }
        if arrays[port].replace(array).is_some() {
            let name = names[port];
            return Err(Error::Usage(format!(
                "--input: found \"{name}\" twice, expected it once"
            )));
        }
    }
    let arrays: Option<Vec<Tensor>> = arrays.into_iter().collect();
    let arrays = arrays.ok_or_else(|| {
        let list = names.join(", ");
        Error::Usage(format!(
            "--input: found {} arrays, expected NAME=FILE for each of: {list}",
            files.len()
        ))
    })?;
    // Of an input that does not begin with the batch there is one array for all images.
    let first = |&id: &ValueId| graph.shape(id).dim(0);
    let batch = graph.inputs.first().map(first);
    let images: Vec<String> = arrays
        .iter()
        .zip(&graph.inputs)
        .filter(|(_, id)| Some(first(id)) == batch)
        .map(|(array, _)| array.shape().dim(0).to_string())
        .collect();
    if images.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Error::Usage(format!(
            "--input: found {} images, expected the same number for every input",
            images.join(" and ")
        )));
    }
    Ok(arrays)
}

fn read_mean(path: &Path) -> Result<Mean> {
    let mean = if is_npy(path) {
        array::read_npy(path)?
    } else {
        caffe::read_mean(path)?
    };
    Ok(match mean.shape().rank() {
        0 | 1 => Mean::Values(mean.into_data()),
        _ => Mean::Image(mean),
    })
}

fn parse_scale(text: &str) -> std::result::Result<f32, String> {
    let number = text
        .parse::<f32>()
        .ok()
        .filter(|scale| scale.is_finite() && *scale != 0.0);
    number.ok_or_else(|| "expected a number other than 0".to_owned())
}

fn parse_order(text: &str) -> std::result::Result<ChannelOrder, String> {
    match text {
        "bgr" => Ok(ChannelOrder::Bgr),
        "rgb" => Ok(ChannelOrder::Rgb),
        _ => Err("expected bgr or rgb".to_owned()),
    }
}

fn parse_crop(text: &str) -> std::result::Result<Asked<u32>, String> {
    if text == NONE {
        return Ok(Asked(None));
    }
    let side = text.parse::<u32>().ok();
    let side = side.filter(|side| (1..=picture::MAX_SIDE).contains(side));
    let expected = || format!("expected 1 to {}, or {NONE}", picture::MAX_SIDE);
    Ok(Asked(Some(side.ok_or_else(expected)?)))
}

fn parse_resize(text: &str) -> std::result::Result<Asked<Resize>, String> {
    if text == NONE {
        return Ok(Asked(None));
    }
    let side = |text: &str| {
        text.parse::<u32>()
            .ok()
            .filter(|side| (1..=picture::MAX_SIDE).contains(side))
    };
    let parsed = match text.strip_prefix("short:") {
        Some(text) => side(text).map(Resize::Short),
        None => text
            .split_once('x')
            .and_then(|(width, height)| Some(Resize::Exact(side(width)?, side(height)?))),
    };
    let parsed = parsed.ok_or_else(|| {
        format!(
            "expected WxH, like 256x256, short:N, or {NONE}, with sides of 1 to {}",
            picture::MAX_SIDE
        )
    });
    Ok(Asked(Some(parsed?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let asked = |resize| Ok(Asked(resize));
        assert_eq!(
            parse_resize("256x128"),
            asked(Some(Resize::Exact(256, 128)))
        );
        assert_eq!(parse_resize("short:224"), asked(Some(Resize::Short(224))));
        assert_eq!(parse_resize("none"), asked(None));
        assert_eq!(parse_crop("227"), Ok(Asked(Some(227))));
        assert_eq!(parse_crop("none"), Ok(Asked(None)));
        assert!(parse_crop("0").is_err() && parse_crop("-1").is_err());
        for bad in ["", "256", "0x5", "5x", "short:0", "short:-1", "99999x1"] {
            assert!(parse_resize(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn scales_are_finite_and_not_zero() {
        assert_eq!(parse_scale("-0.5"), Ok(-0.5));
        for bad in ["0", "nan", "inf", "x"] {
            assert!(parse_scale(bad).is_err(), "{bad}");
        }
    }
}
