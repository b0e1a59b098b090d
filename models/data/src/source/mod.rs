//! Where the items of a data layer come from, in Caffe's order, over and over.

mod data_base;
mod hdf5_list;
mod image_list;

pub use data_base::DataBase;
pub use hdf5_list::Hdf5List;
pub use image_list::ImageList;

use crate::picture::{ChannelOrder, Picture};
use crate::transform::{Image, Values};
use skimjit_caffe::datum::{Datum, Pixels};
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// An item before it is decoded.
#[derive(Clone)]
pub enum Raw {
    /// A record of a data base, with its key for errors.
    Datum { key: String, value: Vec<u8> },
    /// A picture's file, with its label and how it is resized.
    Picture { file: PathBuf, label: f32 },
    /// A row of each data set of an HDF5 file.
    Rows(Vec<Vec<f32>>),
}

/// Items in order; which one comes next is decided here, by one thread at a time.
pub trait Source: Send {
    /// The next item, after the last one the first.
    fn next(&mut self) -> Result<Raw>;
    /// Leaves out items.
    fn skip(&mut self, count: u64) -> Result<()> {
        (0..count).try_for_each(|_| self.next().map(drop))
    }
    /// Number of items, where it is known; then item `i` and item `i + len` are the same, unless the
    /// source shuffles.
    fn len(&self) -> Option<u64>;
    /// The file or folder, for errors.
    fn path(&self) -> &Path;
}

/// How items become images.
#[derive(Clone, Copy)]
pub struct Decoding {
    /// Channels of pictures; `None`: those that they have.
    pub channels: Option<u32>,
    /// Width and height that pictures are resized to.
    pub resize: Option<[u32; 2]>,
}

/// An image and its label; `None` where the record has none.
pub struct Item {
    pub image: Image,
    pub label: Option<f32>,
    /// It was a picture's file: worth keeping. Other records are as large as what they become.
    pub decoded: bool,
}

impl Decoding {
    /// Decodes a record or a picture.
    pub fn decode(&self, raw: Raw, source: &Path) -> Result<Item> {
        match raw {
            Raw::Datum { key, value } => self
                .datum(&value)
                .map_err(|error| error.field(format!("record {key}")).file(source)),
            Raw::Picture { file, label } => {
                let channels = self.channels.unwrap_or(3);
                let picture = Picture::open(&file, channels, ChannelOrder::Bgr)?;
                let picture = self.resized(picture).map_err(|error| error.file(&file))?;
                let image = Image::from_picture(&picture);
                Ok(Item {
                    image,
                    label: Some(label),
                    decoded: true,
                })
            }
            // Rows of HDF5 files are not images.
            Raw::Rows(_) => Err(Error::new("rows of data sets")
                .file(source)
                .expected("images")),
        }
    }

    fn resized(&self, picture: Picture) -> Result<Picture> {
        match self.resize {
            Some([width, height]) => picture.resized(width, height),
            None => Ok(picture),
        }
    }

    fn datum(&self, value: &[u8]) -> Result<Item> {
        let datum = Datum::decode(value)?;
        let label = datum.label.map(|label| label as f32);
        let [channels, height, width] = [datum.channels, datum.height, datum.width];
        let values = match datum.pixels {
            Pixels::Encoded(file) => {
                let picture = Picture::decode(&file, self.channels, ChannelOrder::Bgr)?;
                let image = Image::from_picture(&self.resized(picture)?);
                return Ok(Item {
                    image,
                    label,
                    decoded: true,
                });
            }
            Pixels::U8(values) => Values::Planes(values),
            Pixels::F32(values) => Values::Floats(values),
        };
        if channels == 0 || height == 0 || width == 0 {
            return Err(
                Error::new(format!("an image of {channels}x{height}x{width}"))
                    .expected("at least one pixel"),
            );
        }
        let image = Image {
            channels,
            height,
            width,
            values,
        };
        Ok(Item {
            image,
            label,
            decoded: false,
        })
    }
}
