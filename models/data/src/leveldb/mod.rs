//! LevelDB data bases, Caffe's older form of a data set: a folder of sorted tables.

mod block;
mod log;
mod manifest;
mod reader;
mod table;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use skimjit_models::Error;

/// A number at the start of bytes, seven bits a byte, lowest first; it is taken off them.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// So many bytes, taken off the start.
fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(count).ok()?)?;
    *bytes = rest;
    Some(taken)
}

/// Bytes with their count in front.
fn counted<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = varint(bytes)?;
    take(bytes, count)
}

/// The checksum of parts, as LevelDB stores it.
fn checksum(parts: [&[u8]; 2]) -> u32 {
    let sum = crc32c::crc32c_append(crc32c::crc32c(parts[0]), parts[1]);
    sum.rotate_right(15).wrapping_add(0xa282_ead8)
}

const WHOLE: &str = "a LevelDB data base that is whole";

fn damaged(found: impl Into<String>) -> Error {
    Error::new(found)
        .expected(WHOLE)
        .hint("make it again; skimjit convert-imageset writes LMDB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_endless_ones_refused() {
        let mut bytes = &[0x96, 0x01, 7][..];
        assert_eq!((varint(&mut bytes), bytes), (Some(150), &[7][..]));
        assert_eq!(varint(&mut &[0xff; 10][..]), None);
        assert_eq!(varint(&mut &[0x80][..]), None);
        let most = [&[0xff; 9][..], &[1]].concat();
        assert_eq!(varint(&mut &most[..]), Some(u64::MAX));
        assert_eq!(counted(&mut &[2, 5][..]), None);
        assert_eq!(counted(&mut &[1, 5, 6][..]), Some(&[5][..]));
    }
}
