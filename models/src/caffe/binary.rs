//! The binary format: caffemodel, solverstate and binaryproto files.

use super::limits::{BINARY_MEMORY, MAX_FILE_BYTES};
use super::scan;
use super::schema::Message;
use crate::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Reads a whole file of limited size.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::new(error.to_string()).file(path);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::with_capacity(size.min(MAX_FILE_BYTES) as usize);
    // One byte more than allowed tells a file of the largest size from a larger one.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::new("a file of 2 GiB or more")
            .file(path)
            .expected(format!(
                "at most {MAX_FILE_BYTES} bytes, as Caffe's format allows"
            )));
    }
    Ok(bytes)
}

/// Decodes the contents of a message file.
pub(super) fn parse<M: prost::Message + Default>(
    bytes: &mut [u8],
    message: &'static Message,
) -> Result<M> {
    let allowance = bytes.len() as u64 * BINARY_MEMORY;
    let is_text = bytes
        .iter()
        .take(256)
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    decode(bytes, message, allowance).map_err(|error| match is_text {
        true => error.hint("the file is text; a prototxt is no weight file"),
        false => error,
    })
}

/// Decodes a message that may take `allowance` bytes of memory beyond a fixed amount.
pub(super) fn decode<M: prost::Message + Default>(
    bytes: &mut [u8],
    message: &'static Message,
    allowance: u64,
) -> Result<M> {
    scan::scan(bytes, message, allowance)?;
    M::decode(&*bytes).map_err(|error| Error::new(format!("no {}: {error}", message.name)))
}

/// Writes a message file.
pub(super) fn write(path: &Path, message: &impl prost::Message) -> Result<()> {
    let size = message.encoded_len() as u64;
    if size > MAX_FILE_BYTES {
        return Err(Error::new(format!("{size} bytes to write"))
            .file(path)
            .expected(format!(
                "at most {MAX_FILE_BYTES}, as Caffe's format allows"
            )));
    }
    std::fs::write(path, message.encode_to_vec())
        .map_err(|error| Error::new(error.to_string()).file(path))
}
