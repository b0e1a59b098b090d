//! Which tables and logs a data base consists of.

use super::table::TableFile;
use super::{WHOLE, counted, damaged, log, table, varint};
use skimjit_host::memory;
use skimjit_models::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Order of keys that is understood: that of their bytes, LevelDB's own.
const ORDER: &[u8] = b"leveldb.BytewiseComparator";
/// Levels of tables; from 1 on, the tables of a level follow each other.
const LEVELS: u64 = 7;
/// Largest manifest or log, in bytes.
const MAX_LOG_BYTES: u64 = 1 << 30;
const MAX_NAME_BYTES: u64 = 256;

/// What a data base consists of.
#[derive(Default)]
pub struct Manifest {
    /// Tables by level and number.
    pub tables: BTreeMap<(u64, u64), TableFile>,
    /// Whether the order of keys is said.
    ordered: bool,
    /// Logs with smaller numbers are out of date; 0 where there is none.
    log: Option<u64>,
    earlier_log: u64,
    /// No file that the manifest knows of has this number or a larger one.
    next_file: Option<u64>,
    /// Of the writes that were made when the manifest was.
    last_sequence: Option<u64>,
}

/// Reads a file whole, within the budget.
pub fn read_whole(path: &Path, most: u64) -> Result<Vec<u8>> {
    let unreadable = |error: std::io::Error| Error::unreadable(path, &error, WHOLE);
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
            manifest.check()?;
            Ok(manifest)
        };
        read().map_err(|error: Error| error.file(&path))
    }

    /// LevelDB writes all of these before a data base takes its first record.
    fn check(&self) -> Result<()> {
        let needed = [
            ("order of keys", self.ordered),
            ("number of a log", self.log.is_some()),
            ("number of the next file", self.next_file.is_some()),
            ("last sequence", self.last_sequence.is_some()),
        ];
        match needed.iter().find(|(_, is_there)| !is_there) {
            None => Ok(()),
            Some((what, _)) => Err(damaged(format!("a manifest without the {what}"))),
        }
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
                Some(ORDER) => {
                    self.ordered = true;
                    Ok(Some(()))
                }
                None => Ok(None),
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
            2 => self.log = Some(varint(edit)?),
            3 => self.next_file = Some(varint(edit)?),
            4 => self.last_sequence = Some(varint(edit)?),
            9 => self.earlier_log = varint(edit)?,
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
    fn logs(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let (named, earlier) = (self.log.unwrap_or(0), self.earlier_log);
        let mut logs = numbered(folder, &["log"])?;
        logs.retain(|(number, _)| *number >= named || *number == earlier);
        // A log is there before the manifest names it, and as long as it does; without it, the latest
        // records are missing.
        let is_there = |wanted: u64| wanted == 0 || logs.iter().any(|(n, _)| *n == wanted);
        if let Some(missing) = [named, earlier].into_iter().find(|&n| !is_there(n)) {
            let path = folder.join(format!("{missing:06}.log"));
            return Err(damaged("no file, which the manifest names").file(path));
        }
        if named == 0 && logs.is_empty() && self.tables.is_empty() {
            // Opening it for the first time makes a log, which is named when it is full.
            return Err(damaged("neither a table nor a log").file(folder));
        }
        Ok(logs.into_iter().map(|(_, path)| path).collect())
    }

    /// The writes that no table holds yet, and the sequence of the first of them.
    fn written(&self, folder: &Path) -> Result<(log::Written, Option<u64>)> {
        let mut written = log::Written::new();
        let mut first = None;
        for path in self.logs(folder)? {
            let bytes = read_whole(&path, MAX_LOG_BYTES)?;
            let mut replay = || {
                for record in log::records(&bytes)? {
                    let sequence = log::replay(&record, &mut written)?;
                    first = first.into_iter().chain([sequence]).min();
                }
                Ok(())
            };
            replay().map_err(|error: Error| error.file(&path))?;
        }
        Ok((written, first))
    }

    /// The writes that no table holds yet, of a data base whose files belong together.
    pub fn checked(&self, folder: &Path) -> Result<log::Written> {
        let (written, first) = self.written(folder)?;
        let last = written.values().map(|(sequence, _)| *sequence).max();
        let logged = first.zip(last).map(|(first, last)| first..=last);
        self.check_unnamed(folder, logged)?;
        Ok(written)
    }

    /// Refuses a folder with tables of later writes than the manifest and the logs know of: it is not the
    /// manifest of these tables.
    ///
    /// Other tables without a place in the manifest are no fault: those that were replaced, and what a
    /// compaction had made when the data base was closed (all of it is in the tables that it read, so
    /// that no write in it is a later one, and its last table may be cut off).
    fn check_unnamed(&self, folder: &Path, logged: Option<RangeInclusive<u64>>) -> Result<()> {
        let next = self.next_file.unwrap_or(0);
        let last = self.last_sequence.unwrap_or(0);
        let is_known = |sequence: u64| {
            let is_logged = logged.as_ref().is_some_and(|all| all.contains(&sequence));
            sequence <= last || is_logged
        };
        let named: BTreeSet<u64> = self.tables.values().map(|table| table.number).collect();
        for (number, path) in numbered(folder, &["ldb", "sst"])? {
            if number >= next && !named.contains(&number) && table::has_other(&path, is_known) {
                let found = "a table with later writes than the manifest knows of";
                return Err(damaged(found).file(path));
            }
        }
        Ok(())
    }
}

/// Files that are called by a number and one of these endings, in the order of the numbers.
fn numbered(folder: &Path, endings: &[&str]) -> Result<Vec<(u64, PathBuf)>> {
    let unreadable = |error: std::io::Error| Error::new(error.to_string()).file(folder);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let number = stem.and_then(|stem| stem.parse::<u64>().ok());
        if let Some(number) = number
            && ending.is_some_and(|ending| endings.contains(&ending))
        {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}
