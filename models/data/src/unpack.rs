//! Whole files, gzipped or not.

use flate2::read::MultiGzDecoder;
use skimjit_models::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Reads a file of at most `most` bytes, unpacked; its contents say whether it is packed.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::new(error.to_string()).file(path);
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let packed = file
        .fill_buf()
        .map_err(unreadable)?
        .starts_with(b"\x1f\x8b");
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file of the largest size from a larger one.
    let read = if packed {
        let mut file = MultiGzDecoder::new(file).take(most.saturating_add(1));
        file.read_to_end(&mut bytes)
    } else {
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)
    };
    read.map_err(|error| {
        let error = unreadable(error);
        if packed {
            error.hint("the packed file is cut off or damaged")
        } else {
            error
        }
    })?;
    if bytes.len() as u64 > most {
        return Err(Error::new("a larger file")
            .file(path)
            .expected(format!("at most {most} bytes")));
    }
    Ok(bytes)
}
