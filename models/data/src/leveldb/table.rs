//! Tables: sorted records in blocks, and an index of the blocks.

use super::block::{Block, TRAILER_BYTES};
use super::{damaged, varint};
use skimjit_models::{Error, Result};
use std::cmp::Reverse;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FOOTER_BYTES: u64 = 48;
const MAGIC: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableFile {
    /// Number in its name.
    pub number: u64,
    /// Size, in bytes.
    pub bytes: u64,
    /// Its first key, with the sequence behind it.
    pub first: Vec<u8>,
}

/// A record as tables hold it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Key.
    pub key: Vec<u8>,
    /// Later writes have larger ones.
    pub sequence: u64,
    /// `None`: deleted.
    pub value: Option<Vec<u8>>,
}

impl Entry {
    /// Where it stands: keys ascend, of those that are the same the latest comes first.
    pub fn place(&self) -> (&[u8], Reverse<u64>) {
        (&self.key, Reverse(self.sequence))
    }
}

/// A table that is read from its first record to its last.
pub struct Table {
    path: PathBuf,
    file: File,
    bytes: u64,
    index: Block,
    block: Option<Block>,
}

/// The file of a table: with either ending, which changed over time.
pub fn path_of(folder: &Path, number: u64) -> PathBuf {
    let old = folder.join(format!("{number:06}.sst"));
    match old.is_file() {
        true => old,
        false => folder.join(format!("{number:06}.ldb")),
    }
}

/// Refuses a table that is missing or has another size than the manifest says.
pub fn check_size(path: &Path, wanted: u64) -> Result<()> {
    let found = match std::fs::metadata(path) {
        Ok(file) if file.len() == wanted => return Ok(()),
        Ok(file) => format!("a table of {} bytes", file.len()),
        Err(error) => error.to_string(),
    };
    let expected = format!("a table of {wanted} bytes, as the manifest says");
    Err(damaged(found).expected(expected).file(path))
}

impl Table {
    /// Opens a table, whose size must be what the manifest says.
    pub fn open(folder: &Path, table: &TableFile) -> Result<Self> {
        let path = path_of(folder, table.number);
        check_size(&path, table.bytes)?;
        Self::open_file(path)
    }

    fn open_file(path: PathBuf) -> Result<Self> {
        let open = || {
            let unreadable = |error: std::io::Error| damaged(error.to_string());
            let file = File::open(&path).map_err(unreadable)?;
            let bytes = file.metadata().map_err(unreadable)?.len();
            let index = read_index(&file, bytes)?;
            Ok(Self {
                path: path.clone(),
                file,
                bytes,
                index,
                block: None,
            })
        };
        open().map_err(|error: Error| error.file(&path))
    }

    /// The next record; `None` behind the last one.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let path = self.path.clone();
        self.advance().map_err(|error| error.file(path))
    }

    fn advance(&mut self) -> Result<Option<Entry>> {
        loop {
            if let Some(block) = &mut self.block
                && let Some((key, value)) = block.next()?
            {
                return parse(key, value).map(Some);
            }
            let Some((_, mut place)) = self.index.next()? else {
                return Ok(None);
            };
            self.block = Some(read_block(&self.file, self.bytes, &mut place)?);
        }
    }
}

/// Whether a table can be read and holds a write of another sequence than the known ones.
pub fn has_other(path: &Path, is_known: impl Fn(u64) -> bool) -> bool {
    let Ok(mut table) = Table::open_file(path.to_owned()) else {
        return false;
    };
    while let Ok(Some(entry)) = table.next() {
        if !is_known(entry.sequence) {
            return true;
        }
    }
    false
}

fn read_index(file: &File, bytes: u64) -> Result<Block> {
    let short = || damaged(format!("a table of {bytes} bytes"));
    let start = bytes.checked_sub(FOOTER_BYTES).ok_or_else(short)?;
    let footer = read(file, start, FOOTER_BYTES)?;
    let (places, magic) = footer.split_at_checked(40).ok_or_else(short)?;
    if magic != MAGIC {
        return Err(damaged("a file that does not end like a table"));
    }
    let mut places = places;
    // The index of other things comes first.
    varint(&mut places)
        .and_then(|_| varint(&mut places))
        .ok_or_else(short)?;
    read_block(file, bytes, &mut places)
}

/// The block at a place and of a size, both claims.
fn read_block(file: &File, bytes: u64, place: &mut &[u8]) -> Result<Block> {
    let fault = || damaged("a block that lies outside its table");
    let (start, length) = varint(place).zip(varint(place)).ok_or_else(fault)?;
    let length = length.checked_add(TRAILER_BYTES).ok_or_else(fault)?;
    let end = start.checked_add(length).ok_or_else(fault)?;
    if end > bytes {
        return Err(fault());
    }
    Block::new(read(file, start, length)?)
}

/// Bytes that lie in the file.
fn read(file: &File, start: u64, length: u64) -> Result<Vec<u8>> {
    let mut bytes = skimjit_host::memory::reserved(length as usize)?;
    bytes.resize(length as usize, 0);
    file.read_exact_at(&mut bytes, start)
        .map_err(|error| Error::new(error.to_string()))?;
    Ok(bytes)
}

/// A key has its sequence and its kind behind it.
fn parse(key: &[u8], value: &[u8]) -> Result<Entry> {
    let fault = || damaged("a key without a sequence");
    let (key, tag) = key.split_last_chunk::<8>().ok_or_else(fault)?;
    let tag = u64::from_le_bytes(*tag);
    let value = match tag & 0xff {
        0 => None,
        1 => Some(value.to_vec()),
        _ => return Err(fault()),
    };
    Ok(Entry {
        key: key.to_vec(),
        sequence: tag >> 8,
        value,
    })
}
