//! Blocks of a table: keys that share beginnings, with their values.

use super::{checksum, damaged, take, varint};
use skimjit_host::memory;
use skimjit_models::Result;

/// Bytes behind every block: how it is packed, and a checksum.
pub const TRAILER_BYTES: u64 = 5;
/// Most bytes that Snappy makes of one: a copy of 64 takes three.
const SNAPPY_FACTOR: u64 = 22;

/// A block's contents, without the table of places to start from.
pub struct Block {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    key: Vec<u8>,
}

impl Block {
    /// Checks and unpacks a block with its trailer.
    pub fn new(mut stored: Vec<u8>) -> Result<Self> {
        let short = || damaged("a block that ends early");
        let length = stored.len().checked_sub(TRAILER_BYTES as usize);
        let length = length.ok_or_else(short)?;
        let (contents, trailer) = stored.split_at(length);
        let (kind, sum) = trailer.split_at(1);
        if checksum([contents, kind]).to_le_bytes() != sum {
            return Err(damaged("a block that does not match its checksum"));
        }
        let bytes = match kind {
            [0] => {
                stored.truncate(length);
                stored
            }
            [1] => unpack(contents)?,
            _ => return Err(damaged(format!("a block packed in way {kind:?}"))),
        };
        let starts = bytes.len().checked_sub(4).ok_or_else(short)?;
        let count = bytes.get(starts..).and_then(|count| count.try_into().ok());
        let count = u64::from(u32::from_le_bytes(count.ok_or_else(short)?));
        let end = usize::try_from(4 * count).ok();
        let end = end.and_then(|places| starts.checked_sub(places));
        let end =
            end.ok_or_else(|| damaged(format!("a block with {count} places to start from")))?;
        Ok(Self {
            bytes,
            at: 0,
            end,
            key: Vec::new(),
        })
    }

    /// The next key and value; `None` behind the last one.
    pub fn next(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let fault = || damaged("an entry of a block that cannot be read");
        let all = self.bytes.get(..self.end).ok_or_else(fault)?;
        let mut rest = all.get(self.at..).ok_or_else(fault)?;
        if rest.is_empty() {
            return Ok(None);
        }
        let mut read = || {
            let (shared, own, value) = (varint(&mut rest)?, varint(&mut rest)?, varint(&mut rest)?);
            let shared = usize::try_from(shared)
                .ok()
                .filter(|&n| n <= self.key.len())?;
            let (own, value) = (take(&mut rest, own)?, take(&mut rest, value)?);
            Some((shared, own, value))
        };
        let (shared, own, value) = read().ok_or_else(fault)?;
        self.key.truncate(shared);
        self.key.extend(own);
        self.at = all.len() - rest.len();
        Ok(Some((&self.key, value)))
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let fault = |error: snap::Error| damaged(format!("a block that cannot be unpacked ({error})"));
    let length = snap::raw::decompress_len(packed).map_err(fault)? as u64;
    if length > SNAPPY_FACTOR * packed.len() as u64 + 64 {
        let found = format!("a block of {} bytes that claims {length}", packed.len());
        return Err(damaged(found));
    }
    memory::check(length)?;
    snap::raw::Decoder::new()
        .decompress_vec(packed)
        .map_err(fault)
}
