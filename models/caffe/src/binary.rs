//! The binary format: caffemodel, solverstate and binaryproto files.

use super::limits::{BINARY_MEMORY, MAX_FILE_BYTES};
use super::schema::Message;
use super::unknown;
use super::{forms, scan};
use skimjit_host::{memory, whole};
use skimjit_models::{Error, Result};
use std::path::Path;

/// Reads a whole file of limited size; errors say what is expected in it.
pub(super) fn read_file(path: &Path, expected: &str) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::unreadable(path, &error, expected);
    let bytes = memory::read_file(path, MAX_FILE_BYTES).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::new("a file of 2 GiB or more")
            .file(path)
            .expected(format!(
                "at most {MAX_FILE_BYTES} bytes, as Caffe's format allows"
            )));
    }
    Ok(bytes)
}

/// Decodes the contents of a message file, unknown fields included.
pub(super) fn parse<M: prost::Message + Default>(
    mut bytes: Vec<u8>,
    message: &'static Message,
) -> Result<M> {
    let allowance = bytes.len() as u64 * BINARY_MEMORY;
    let is_text = bytes
        .iter()
        .take(256)
        .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let in_kind = |error: Error| match is_text {
        true => error.hint("the file is text; a prototxt is no weight file"),
        false => error,
    };
    let found = scan::scan(&bytes, message, allowance).map_err(in_kind)?;
    if found.foreign
        && let Some(own) = forms::from_file(&bytes, message)
    {
        bytes = own;
    }
    if found.unknown
        && let Some(gathered) = unknown::gather(&bytes, message)
    {
        bytes = gathered;
    }
    decode(&bytes, message).map_err(in_kind)
}

/// Decodes a message that the text parser encoded and that may take `allowance` bytes of memory beyond
/// a fixed amount.
pub(super) fn decode_text<M: prost::Message + Default>(
    bytes: &[u8],
    message: &'static Message,
    allowance: u64,
) -> Result<M> {
    let found = scan::scan(bytes, message, allowance)?;
    let own = found.foreign.then(|| forms::from_file(bytes, message));
    decode(own.flatten().as_deref().unwrap_or(bytes), message)
}

fn decode<M: prost::Message + Default>(bytes: &[u8], message: &'static Message) -> Result<M> {
    M::decode(bytes).map_err(|error| Error::new(format!("no {}: {error}", message.name)))
}

/// Writes a message file, unknown fields included.
pub(super) fn write<M: prost::Message>(
    path: &Path,
    message: &M,
    table: &'static Message,
) -> Result<()> {
    let size = message.encoded_len() as u64;
    if size > MAX_FILE_BYTES {
        return Err(Error::new(format!("{size} bytes to write"))
            .file(path)
            .expected(format!(
                "at most {MAX_FILE_BYTES}, as Caffe's format allows"
            )));
    }
    let mut bytes = message.encode_to_vec();
    if let Some(restored) = unknown::restore(&bytes, table).map_err(|error| error.file(path))? {
        bytes = restored;
    }
    if let Some(in_file) = forms::to_file(&bytes, table) {
        bytes = in_file;
    }
    whole::write(path, bytes).map_err(|error| Error::unwritable(path, &error))
}
