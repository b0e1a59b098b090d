//! The files of CIFAR-10: binary batches, gzipped or not, and sheets of pictures as PNG.

use crate::picture::{ChannelOrder, Picture as Sheet};
use crate::unpack;
use skimjit_models::{Error, Result};
use std::path::Path;

/// Width and height of every picture.
pub const SIDE: u32 = 32;
/// Colours of every picture.
pub const CHANNELS: u32 = 3;
/// Values of a picture.
pub const PICTURE_BYTES: usize = (CHANNELS * SIDE * SIDE) as usize;
/// Classes.
pub const CLASSES: u8 = 10;
/// Most pictures of one file.
const MAX_PICTURES: u64 = 1 << 19;

/// A picture and its class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Class, 0 to 9.
    pub label: u8,
    /// The red plane, then the green one, then the blue one, each row by row.
    pub planes: Vec<u8>,
}

/// Reads a binary batch (`data_batch_1.bin`): a label and 3072 values for each picture.
pub fn read_batch(path: &Path) -> Result<Vec<Picture>> {
    let record = 1 + PICTURE_BYTES;
    let bytes = unpack::read(path, MAX_PICTURES * record as u64, "a binary file of CIFAR")?;
    let records = bytes.chunks_exact(record);
    if bytes.is_empty() || !records.remainder().is_empty() {
        return Err(Error::new(format!("{} bytes", bytes.len()))
            .file(path)
            .expected(format!(
                "a multiple of {record}: a label and a picture each"
            ))
            .hint("CIFAR-10 in binary form is what is read, not the one for Python"));
    }
    let pictures = records.enumerate().map(|(index, record)| {
        let (label, planes) = record.split_first().unwrap_or((&0, &[]));
        let label = check_label(*label, index).map_err(|error| error.file(path))?;
        let planes = planes.to_vec();
        Ok(Picture { label, planes })
    });
    pictures.collect()
}

/// Reads sheets of pictures with the file of their labels, one byte each. Row i of a sheet is picture
/// i, whose 1024 pixels follow each other from left to right.
pub fn read_sheets(sheets: &[impl AsRef<Path>], labels: &Path) -> Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for path in sheets {
        let path = path.as_ref();
        pictures.extend(read_sheet(path).map_err(|error| error.file(path))?);
    }
    let classes = unpack::read(labels, MAX_PICTURES, "a file of labels, one byte each")?;
    if classes.len() != pictures.len() {
        return Err(Error::new(format!("{} labels", classes.len()))
            .file(labels)
            .expected(format!(
                "{}, one for each row of the sheets",
                pictures.len()
            )));
    }
    for (index, (picture, label)) in pictures.iter_mut().zip(classes).enumerate() {
        picture.label = check_label(label, index).map_err(|error| error.file(labels))?;
    }
    Ok(pictures)
}

/// The pictures of a sheet, all of class 0.
fn read_sheet(path: &Path) -> Result<Vec<Picture>> {
    let pixels = (SIDE * SIDE) as usize;
    let bytes = unpack::read(
        path,
        MAX_PICTURES * PICTURE_BYTES as u64,
        "a file of pictures",
    )?;
    let sheet = Sheet::decode(&bytes, Some(CHANNELS), ChannelOrder::Rgb)?;
    if sheet.width() as usize != pixels {
        let size = format!("a sheet of {}x{}", sheet.width(), sheet.height());
        return Err(Error::new(size).expected(format!("a width of {pixels}, a picture per row")));
    }
    let pictures = sheet.data().chunks_exact(PICTURE_BYTES).map(|row| {
        let plane = |channel: usize| row.iter().skip(channel).step_by(CHANNELS as usize);
        let planes = (0..CHANNELS as usize).flat_map(plane).copied().collect();
        Picture { label: 0, planes }
    });
    Ok(pictures.collect())
}

fn check_label(label: u8, index: usize) -> Result<u8> {
    if label < CLASSES {
        return Ok(label);
    }
    Err(Error::new(format!("label {label}"))
        .field(format!("picture {index}"))
        .expected(format!("0 to {}", CLASSES - 1)))
}
