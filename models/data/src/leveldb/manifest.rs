//! Which tables and logs a data base consists of.

use super::{counted, damaged, log, varint};
use skimjit_host::memory;
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Order of keys that is understood: that of their bytes, LevelDB's own.
const ORDER: &[u8] = b"leveldb.BytewiseComparator";
/// Levels of tables; from 1 on, the tables of a level follow each other.
const LEVELS: u64 = 7;
/// Largest manifest or log, in bytes.
const MAX_LOG_BYTES: u64 = 1 << 30;
const MAX_NAME_BYTES: u64 = 256;

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

/// What a data base consists of.
#[derive(Default)]
pub struct Manifest {
    /// Tables by level and number.
    pub tables: BTreeMap<(u64, u64), TableFile>,
    /// Logs with smaller numbers are out of date.
    log: u64,
    earlier_log: u64,
}

/// Reads a file whole, within the budget.
pub fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::new(error.to_string()).file(path);
    let bytes = memory::read_file(path, most).map_err(unreadable)?;
    match bytes.len() as u64 > most {
        true => Err(Error::new("a larger file")
            .file(path)
            .expected(format!("at most {most} bytes"))),
        false => Ok(bytes),
    }
}

impl Manifest {
    /// Reads the manifest that the file `CURRENT` names.
    pub fn read(folder: &Path) -> Result<Self> {
        let current = folder.join("CURRENT");
        let name = read_whole(&current, MAX_NAME_BYTES)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        // The line's end says that the name is whole.
        let number = name
            .strip_suffix('\n')
            .and_then(|name| name.strip_prefix("MANIFEST-"));
        if number.is_none_or(|number| number.bytes().any(|byte| !byte.is_ascii_digit())) {
            return Err(damaged(format!("the name {name:?}")).file(&current));
        }
        let path = folder.join(name.trim_end());
        let edits = read_whole(&path, MAX_LOG_BYTES)?;
        let read = || {
            let mut manifest = Self::default();
            for edit in log::records(&edits)? {
                manifest.apply(&edit)?;
            }
            Ok(manifest)
        };
        read().map_err(|error: Error| error.file(&path))
    }

    fn apply(&mut self, mut edit: &[u8]) -> Result<()> {
        while !edit.is_empty() {
            let field = self.field(&mut edit)?;
            field.ok_or_else(|| damaged("an entry that cannot be read"))?;
        }
        Ok(())
    }

    /// `None`: it cannot be read.
    fn field(&mut self, edit: &mut &[u8]) -> Result<Option<()>> {
        let Some(tag) = varint(edit) else {
            return Ok(None);
        };
        if tag == 1 {
            return match counted(edit) {
                Some(ORDER) | None => Ok(Some(())),
                Some(other) => Err(Error::new(format!(
                    "keys in the order {:?}",
                    other.escape_ascii().to_string()
                ))
                .expected("LevelDB's own order, that of bytes")),
            };
        }
        Ok(self.numbers(tag, edit))
    }

    fn numbers(&mut self, tag: u64, edit: &mut &[u8]) -> Option<()> {
        match tag {
            2 => self.log = varint(edit)?,
            9 => self.earlier_log = varint(edit)?,
            // The next file's number, and the last sequence.
            3 | 4 => drop(varint(edit)?),
            // Where the next compaction begins.
            5 => {
                varint(edit)?;
                counted(edit)?;
            }
            6 => {
                let (level, number) = (varint(edit)?, varint(edit)?);
                self.tables.remove(&(level, number));
            }
            7 => {
                let level = varint(edit).filter(|&level| level < LEVELS)?;
                let (number, bytes) = (varint(edit)?, varint(edit)?);
                let (first, _last) = (counted(edit)?.to_vec(), counted(edit)?);
                let table = TableFile {
                    number,
                    bytes,
                    first,
                };
                self.tables.insert((level, number), table);
            }
            _ => return None,
        }
        Some(())
    }

    /// Logs that count, the oldest first.
    pub fn logs(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let unreadable = |error: std::io::Error| Error::new(error.to_string()).file(folder);
        let mut logs = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let log = path.extension().is_some_and(|end| end == "log");
            let stem = path.file_stem().filter(|_| log);
            if let Some(number) = stem.and_then(|stem| stem.to_str()?.parse::<u64>().ok()) {
                logs.push((number, path));
            }
        }
        logs.retain(|(number, _)| *number >= self.log || *number == self.earlier_log);
        logs.sort();
        Ok(logs.into_iter().map(|(_, path)| path).collect())
    }

    /// The writes that no table holds yet.
    pub fn written(&self, folder: &Path) -> Result<log::Written> {
        let mut written = log::Written::new();
        for path in self.logs(folder)? {
            let bytes = read_whole(&path, MAX_LOG_BYTES)?;
            let mut replay = || {
                let mut records = log::records(&bytes)?.into_iter();
                records.try_for_each(|record| log::replay(&record, &mut written))
            };
            replay().map_err(|error| error.file(&path))?;
        }
        Ok(written)
    }
}
