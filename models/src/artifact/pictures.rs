//! How pictures become inputs, and what the classes are called: sections of their own, which a file need
//! not have, and which readers that do not know them ignore.
//!
//! Each section is its version, a `u32`, and postcard's encoding of what that version is. What is read is
//! checked as if a stranger had written it.

use super::container::{Kind, Reader, Writer};
use super::limits::{MAX_LABELS, MAX_LABELS_BYTES, MAX_PREPROCESS_BYTES};
use crate::preprocess::{ChannelOrder, Mean, Preprocess, Resize};
use crate::{Error, Result, Shape, Tensor};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Name of the section of kind [`Kind::PREPROCESS`].
pub const PREPROCESS_SECTION: &str = "preprocess";
/// Name of the section of kind [`Kind::LABELS`].
pub const LABELS_SECTION: &str = "labels";
/// Version of both sections.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record<'a> {
    channel_order: ChannelOrder,
    resize: Option<Resize>,
    crop: Option<u32>,
    mean: StoredMean<'a>,
    scale: f32,
}

#[derive(Serialize, Deserialize)]
enum StoredMean<'a> {
    None,
    Values(Cow<'a, [f32]>),
    Image(Cow<'a, [u32]>, Cow<'a, [f32]>),
    Missing(Cow<'a, str>),
}

/// Adds the section that says how pictures become inputs.
pub fn write_preprocess(writer: &mut Writer<'_>, preprocess: &Preprocess) -> Result<()> {
    preprocess.check()?;
    let record = Record {
        channel_order: preprocess.channel_order,
        resize: preprocess.resize,
        crop: preprocess.crop,
        mean: match &preprocess.mean {
            Mean::None => StoredMean::None,
            Mean::Values(values) => StoredMean::Values(values.into()),
            Mean::Image(image) => {
                StoredMean::Image(image.shape().dims().into(), image.data().into())
            }
            Mean::Missing(file) => StoredMean::Missing(file.into()),
        },
        scale: preprocess.scale,
    };
    let bytes = encode(&record, MAX_PREPROCESS_BYTES, PREPROCESS_SECTION)?;
    writer.add(Kind::PREPROCESS, PREPROCESS_SECTION, bytes)
}

/// Reads what [`write_preprocess`] wrote, if anything.
pub fn read_preprocess(reader: &Reader<'_>) -> Result<Option<Preprocess>> {
    let Some(bytes) = reader.section(Kind::PREPROCESS, PREPROCESS_SECTION) else {
        return Ok(None);
    };
    let in_section = |error: Error| within(error, PREPROCESS_SECTION);
    let record: Record<'_> = decode(bytes, MAX_PREPROCESS_BYTES, PREPROCESS_SECTION)?;
    let mean = match record.mean {
        StoredMean::None => Mean::None,
        StoredMean::Values(values) => Mean::Values(values.into_owned()),
        StoredMean::Image(dims, values) => {
            let shape = Shape::new(dims.into_owned()).map_err(in_section)?;
            if shape.count() != values.len() {
                let error = Error::new(format!("{} values", values.len()));
                return Err(in_section(error.field("mean_file"))
                    .expected(format!("{}, as the shape {shape} says", shape.count())));
            }
            Mean::Image(Tensor::new(shape, values.into_owned()))
        }
        StoredMean::Missing(file) => Mean::Missing(file.into_owned()),
    };
    let preprocess = Preprocess {
        channel_order: record.channel_order,
        resize: record.resize,
        crop: record.crop,
        mean,
        scale: record.scale,
    };
    preprocess.check().map_err(in_section)?;
    Ok(Some(preprocess))
}

/// Adds the section with the names of the classes.
pub fn write_labels(writer: &mut Writer<'_>, labels: &[String]) -> Result<()> {
    check_count(labels.len())?;
    let bytes = encode(&labels, MAX_LABELS_BYTES, LABELS_SECTION)?;
    writer.add(Kind::LABELS, LABELS_SECTION, bytes)
}

/// Reads what [`write_labels`] wrote, if anything.
pub fn read_labels(reader: &Reader<'_>) -> Result<Option<Vec<String>>> {
    let Some(bytes) = reader.section(Kind::LABELS, LABELS_SECTION) else {
        return Ok(None);
    };
    let labels: Vec<String> = decode(bytes, MAX_LABELS_BYTES, LABELS_SECTION)?;
    check_count(labels.len())?;
    Ok(Some(labels))
}

fn check_count(labels: usize) -> Result<()> {
    match labels {
        1..=MAX_LABELS => Ok(()),
        _ => Err(Error::new(format!("{labels} names"))
            .field(field(LABELS_SECTION))
            .expected(format!("1 to {MAX_LABELS}"))),
    }
}

fn field(section: &str) -> String {
    format!("section {section}")
}

/// The field of an error inside a section.
fn within(mut error: Error, section: &str) -> Error {
    error.field = Some(match error.field {
        Some(inner) => format!("{}: {inner}", field(section)),
        None => field(section),
    });
    error.hint("compile the network again")
}

fn encode(record: &impl Serialize, most: usize, section: &str) -> Result<Vec<u8>> {
    let bytes = postcard::to_extend(record, VERSION.to_le_bytes().to_vec())
        .map_err(|error| Error::new(error.to_string()).field(field(section)))?;
    check_bytes(&bytes, most, section)?;
    Ok(bytes)
}

fn check_bytes(bytes: &[u8], most: usize, section: &str) -> Result<()> {
    if bytes.len() <= most {
        return Ok(());
    }
    Err(Error::new(format!("{} bytes", bytes.len()))
        .field(field(section))
        .expected(format!("at most {most}")))
}

fn decode<T: DeserializeOwned>(bytes: &[u8], most: usize, section: &str) -> Result<T> {
    check_bytes(bytes, most, section)?;
    let damaged = |found: String| within(Error::new(found), section);
    let Some((version, contents)) = bytes.split_first_chunk::<4>() else {
        return Err(damaged(format!("{} bytes", bytes.len())));
    };
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(Error::new(format!("version {version}"))
            .field(field(section))
            .expected(format!("version {VERSION}"))
            .hint("a newer skimjit wrote it: update this program"));
    }
    let (record, rest) = postcard::take_from_bytes::<T>(contents)
        .map_err(|error| damaged(format!("contents that cannot be read ({error})")))?;
    match rest {
        [] => Ok(record),
        _ => Err(damaged(format!("{} bytes behind the end", rest.len()))),
    }
}
