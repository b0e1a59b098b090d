//! Logs: the manifest, and the records that no table holds yet.

use super::{checksum, counted, damaged};
use skimjit_models::Result;
use std::collections::BTreeMap;

const BLOCK_BYTES: usize = 1 << 15;
const HEADER_BYTES: usize = 7;

/// The records of a log, whole ones only.
pub fn records(log: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for block in log.chunks(BLOCK_BYTES) {
        let mut rest = block;
        // What is too short for a header is filled up with zeros.
        while rest.len() >= HEADER_BYTES {
            let Some((kind, data, behind)) = part(rest)? else {
                break;
            };
            rest = behind;
            let wrong = || damaged("parts of a log that do not follow each other");
            match (kind, open.take()) {
                (1, None) => records.push(data.to_vec()),
                (2, None) => open = Some(data.to_vec()),
                (3, Some(before)) => open = Some([&before, data].concat()),
                (4, Some(before)) => records.push([&before, data].concat()),
                _ => return Err(wrong()),
            }
        }
        let torn = rest.len() < HEADER_BYTES && rest.iter().any(|&byte| byte != 0);
        if torn {
            return Err(damaged("a log that ends inside a record"));
        }
    }
    match open {
        None => Ok(records),
        Some(_) => Err(damaged("a log that ends inside a record")),
    }
}

/// Kind of a part of a record, its bytes, and what stands behind it.
type Part<'a> = (u8, &'a [u8], &'a [u8]);

/// Kind and data of the first part of a block, and what follows; `None` where nothing more was written.
fn part(block: &[u8]) -> Result<Option<Part<'_>>> {
    let short = || damaged("a log that ends inside a record");
    let (header, rest) = block
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(short)?;
    let [a, b, c, d, low, high, kind] = *header;
    let length = usize::from(u16::from_le_bytes([low, high]));
    if *header == [0; HEADER_BYTES] {
        return Ok(None);
    }
    let (data, rest) = rest.split_at_checked(length).ok_or_else(short)?;
    if checksum([&[kind], data]) != u32::from_le_bytes([a, b, c, d]) {
        return Err(damaged("a log that does not match its checksum"));
    }
    Ok(Some((kind, data, rest)))
}

/// What was written last under each key: sequence, and value or that it was deleted.
pub type Written = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>)>;

/// Adds what a record of a log of writes says; the sequence of its first write.
pub fn replay(record: &[u8], written: &mut Written) -> Result<u64> {
    let fault = || damaged("a record of writes that cannot be read");
    let (head, mut rest) = record.split_first_chunk::<12>().ok_or_else(fault)?;
    let [sequence @ .., a, b, c, d] = *head;
    let first = u64::from_le_bytes(sequence);
    for number in 0..u64::from(u32::from_le_bytes([a, b, c, d])) {
        let (&kind, behind) = rest.split_first().ok_or_else(fault)?;
        rest = behind;
        let key = counted(&mut rest).ok_or_else(fault)?;
        let value = match kind {
            0 => None,
            1 => Some(counted(&mut rest).ok_or_else(fault)?.to_vec()),
            _ => return Err(fault()),
        };
        written.insert(key.to_vec(), (first.wrapping_add(number), value));
    }
    match rest.is_empty() {
        true => Ok(first),
        false => Err(fault()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: u8, data: &[u8]) -> Vec<u8> {
        let sum = checksum([&[kind], data]).to_le_bytes();
        let length = (data.len() as u16).to_le_bytes();
        [&sum[..], &length, &[kind], data].concat()
    }

    #[test]
    fn parts_become_records() {
        let log = [
            stored(1, b"one"),
            stored(2, b"t"),
            stored(3, b"w"),
            stored(4, b"o"),
        ]
        .concat();
        assert_eq!(records(&log).unwrap(), [b"one".to_vec(), b"two".to_vec()]);
        assert!(records(&[]).unwrap().is_empty());
        // Room that was taken before it was needed.
        assert_eq!(records(&[&log[..], &[0; 40]].concat()).unwrap().len(), 2);
        for length in (1..log.len()).filter(|&length| length != 10) {
            assert!(records(&log[..length]).is_err(), "{length}");
        }
        for at in 0..log.len() {
            let mut damaged = log.clone();
            damaged[at] ^= 0x10;
            assert!(records(&damaged).is_err(), "{at}");
        }
    }

    #[test]
    fn later_writes_win() {
        let mut written = Written::new();
        let batch = |sequence: u8, entries: &[u8], count: u8| {
            [&[sequence, 0, 0, 0, 0, 0, 0, 0, count, 0, 0, 0], entries].concat()
        };
        replay(&batch(5, b"\x01\x01a\x02xy\x01\x01b\x00", 2), &mut written).unwrap();
        replay(&batch(7, b"\x00\x01a", 1), &mut written).unwrap();
        assert_eq!(written[&b"a"[..]], (7, None));
        assert_eq!(written[&b"b"[..]], (6, Some(vec![])));
        for (entries, count) in [
            (&b"\x01\x01a\x02x"[..], 1),
            (b"\x02\x01a", 1),
            (b"\x00\x01a", 2),
            (b"z", 0),
        ] {
            assert!(replay(&batch(0, entries, count), &mut written).is_err());
        }
    }
}
