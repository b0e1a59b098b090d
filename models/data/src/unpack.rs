//! Whole files, gzipped or not.

use flate2::read::MultiGzDecoder;
use skimjit_host::memory;
use skimjit_models::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Reads a file of at most `most` bytes, unpacked; its contents say whether it is packed. Errors say what is
/// expected in it.
pub fn read(path: &Path, most: u64, expected: &str) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::unreadable(path, &error, expected);
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut file = BufReader::new(file);
    let packed = file
        .fill_buf()
        .map_err(unreadable)?
        .starts_with(b"\x1f\x8b");
    let read = if packed {
        memory::read_all(MultiGzDecoder::new(file), 0, most)
    } else {
        memory::read_all(file, size, most)
    };
    let bytes = read.map_err(|error| {
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
