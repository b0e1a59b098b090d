//! A pass over the bytes of a message before they are decoded: lengths fit, every field is known, and decoding
//! cannot take far more memory than the file's size justifies.
//!
//! A message of two bytes can become a struct of hundreds, so a file of a few megabytes could ask for gigabytes.
//! No message of the tables contains itself, so that nesting needs no limit.

use super::message::{FIXED32, FIXED64, Kind, LENGTH, Message, VARINT};
use super::schema::{MESSAGES, MODEL};
use skimjit_host::memory;
use skimjit_models::{Error, Result};

/// Bookkeeping of one heap allocation, and the unused part of the list that holds it.
const ALLOCATION: u64 = 32;

/// Checks the bytes of a model.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let mut scan = Scan {
        file: bytes,
        memory: 0,
    };
    scan.message(bytes, MODEL)?;
    memory::check(scan.memory).map_err(Error::from)
}

/// Number and wire type of each field of a message, of which there may be only the start.
pub(super) fn keys(start: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let mut rest = Some(start);
    std::iter::from_fn(move || {
        let mut bytes = rest?;
        let key = varint(&mut bytes)?;
        rest = skip(&mut bytes, key & 7).map(|_| bytes);
        Some((key >> 3, key & 7))
    })
}

struct Scan<'a> {
    file: &'a [u8],
    memory: u64,
}

impl Scan<'_> {
    /// Byte of the file at which `rest`, a part of it, begins.
    fn offset(&self, rest: &[u8]) -> usize {
        (rest.as_ptr() as usize).saturating_sub(self.file.as_ptr() as usize)
    }

    fn message(&mut self, bytes: &[u8], message: &Message) -> Result<()> {
        self.memory += message.size as u64 + ALLOCATION;
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = self.offset(rest);
            let damaged = || {
                Error::new(format!("damaged data in {} at byte {at}", message.name))
                    .expected("fields whose lengths fit")
                    .hint("the file is cut short or not an ONNX model")
            };
            let key = varint(&mut rest).ok_or_else(damaged)?;
            let contents = skip(&mut rest, key & 7).ok_or_else(damaged)?;
            let field = message.fields.iter().find(|field| field.number == key >> 3);
            let Some(field) = field.filter(|field| field.kind.takes(key & 7)) else {
                return Err(unknown(key, message, at));
            };
            match field.kind {
                Kind::Message(inner) => self.message(contents, &MESSAGES[inner])?,
                Kind::Varints(size) if key & 7 == VARINT => self.memory += size,
                // As many as there are last bytes of numbers.
                Kind::Varints(size) => {
                    let ends = contents.iter().filter(|byte| **byte < 0x80).count();
                    self.memory += size * ends as u64;
                }
                Kind::Bytes | Kind::Numbers(_) => self.memory += contents.len() as u64,
                Kind::ManyBytes => self.memory += contents.len() as u64 + 2 * ALLOCATION,
                Kind::Varint | Kind::Fixed32 => {}
            }
        }
        Ok(())
    }
}

/// The error for a field that the tables do not know.
fn unknown(key: u64, message: &Message, at: usize) -> Error {
    let (number, name) = (key >> 3, message.name);
    let found = format!(
        "unknown field {number} (wire type {}) of {name} at byte {at}",
        key & 7
    );
    Error::new(found)
        .expected("fields whose meaning is known: those of ONNX's IR version 14 and older")
        .hint("the file is damaged, not an ONNX model, or of a newer format: export it for an older one")
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Contents of a field of that wire type; `bytes` then begin behind them.
fn skip<'a>(bytes: &mut &'a [u8], wire_type: u64) -> Option<&'a [u8]> {
    let length = match wire_type {
        VARINT => {
            let start = *bytes;
            varint(bytes)?;
            return Some(&start[..start.len() - bytes.len()]);
        }
        FIXED64 => 8,
        FIXED32 => 4,
        LENGTH => usize::try_from(varint(bytes)?).ok()?,
        _ => return None,
    };
    let (contents, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(contents)
}
