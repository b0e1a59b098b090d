//! Reads a data base record by record, without the library: that one writes to the folder that it opens,
//! takes the memory that a damaged file asks for, and panics on some.

use super::damaged;
use super::log::Written;
use super::manifest::Manifest;
use super::table::TableFile;
use super::table::{Entry, Table, check_size, path_of};
use crate::lmdb::{Record, show};
use skimjit_models::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads the records of a data base in the order of their keys.
pub struct Reader {
    path: PathBuf,
    /// Tables of the lowest level, each for itself, and those of every other level as one.
    groups: Vec<Vec<TableFile>>,
    written: Written,
    /// Begun at the first record.
    runs: Option<Vec<Run>>,
    /// The key that came last.
    last: Option<Vec<u8>>,
    /// The error that ended the reading.
    failed: Option<Box<Error>>,
}

/// Records in the order of their keys, of those with the same key the latest first.
struct Run {
    source: Source,
    head: Option<Entry>,
}

enum Source {
    Tables {
        left: std::vec::IntoIter<TableFile>,
        open: Option<Table>,
    },
    Written(std::vec::IntoIter<Entry>),
}

impl Reader {
    /// Opens the folder of a data base; nothing in it is changed.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("CURRENT").is_file() {
            return Err(Error::new("no file CURRENT")
                .file(path)
                .expected(
                    "a data base: for LevelDB a folder with CURRENT, for LMDB one with data.mdb",
                )
                .hint("for LMDB, say backend: LMDB"));
        }
        let manifest = Manifest::read(path)?;
        for table in manifest.tables.values() {
            check_size(&path_of(path, table.number), table.bytes)?;
        }
        let written = manifest.checked(path)?;
        Ok(Self {
            path: path.to_owned(),
            groups: groups(manifest.tables),
            written,
            runs: None,
            last: None,
            failed: None,
        })
    }

    /// The folder that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes back to before the first record.
    pub fn rewind(&mut self) {
        self.runs = None;
        self.last = None;
        self.failed = None;
    }

    /// The next record; `None` behind the last one. After an error, the same error again.
    #[allow(clippy::should_implement_trait)] // It is not an iterator: it can be rewound.
    pub fn next(&mut self) -> Result<Option<Record>> {
        if let Some(error) = &self.failed {
            return Err((**error).clone());
        }
        let result = self.advance().map_err(|error| error.file(&self.path));
        self.failed = result.as_ref().err().cloned().map(Box::new);
        result
    }

    fn advance(&mut self) -> Result<Option<Record>> {
        let mut runs = match self.runs.take() {
            Some(runs) => runs,
            None => self.start()?,
        };
        let record = self.take(&mut runs)?;
        self.runs = Some(runs);
        Ok(record)
    }

    /// Runs with their first entries.
    fn start(&self) -> Result<Vec<Run>> {
        let written = self.written.iter().map(|(key, (sequence, value))| Entry {
            key: key.clone(),
            sequence: *sequence,
            value: value.clone(),
        });
        let written = Source::Written(written.collect::<Vec<_>>().into_iter());
        let tables = self.groups.iter().map(|group| Source::Tables {
            left: group.clone().into_iter(),
            open: None,
        });
        let mut runs = Vec::new();
        for source in tables.chain([written]) {
            let mut run = Run { source, head: None };
            run.advance(&self.path)?;
            runs.push(run);
        }
        Ok(runs)
    }

    /// The first record of all runs that is neither deleted nor written again later.
    fn take(&mut self, runs: &mut [Run]) -> Result<Option<Record>> {
        loop {
            let begun = runs.iter_mut().filter(|run| run.head.is_some());
            let first = begun.min_by(|a, b| {
                let (a, b) = (a.head.as_ref(), b.head.as_ref());
                a.map(Entry::place).cmp(&b.map(Entry::place))
            });
            let Some(entry) = first
                .map(|run| run.advance(&self.path))
                .transpose()?
                .flatten()
            else {
                return Ok(None);
            };
            if self.last.as_ref() == Some(&entry.key) {
                continue;
            }
            self.last = Some(entry.key.clone());
            if let Some(value) = entry.value {
                let key = entry.key;
                return Ok(Some(Record { key, value }));
            }
        }
    }
}

fn groups(tables: BTreeMap<(u64, u64), TableFile>) -> Vec<Vec<TableFile>> {
    let mut groups = Vec::new();
    let mut levels: BTreeMap<u64, Vec<TableFile>> = BTreeMap::new();
    for ((level, _), table) in tables {
        match level {
            0 => groups.push(vec![table]),
            _ => levels.entry(level).or_default().push(table),
        }
    }
    for (_, mut level) in levels {
        level.sort_by(|a, b| a.first.cmp(&b.first));
        groups.push(level);
    }
    groups
}

impl Run {
    /// Takes the head, behind which the next entry becomes it.
    fn advance(&mut self, folder: &Path) -> Result<Option<Entry>> {
        let next = self.source.next(folder)?;
        if let (Some(before), Some(next)) = (&self.head, &next)
            && before.place() >= next.place()
        {
            let found = format!("key {} behind {}", show(&next.key), show(&before.key));
            return Err(damaged(found));
        }
        Ok(std::mem::replace(&mut self.head, next))
    }
}

impl Source {
    fn next(&mut self, folder: &Path) -> Result<Option<Entry>> {
        let (left, open) = match self {
            Self::Written(entries) => return Ok(entries.next()),
            Self::Tables { left, open } => (left, open),
        };
        loop {
            if let Some(table) = open
                && let Some(entry) = table.next()?
            {
                return Ok(Some(entry));
            }
            match left.next() {
                None => return Ok(None),
                Some(table) => *open = Some(Table::open(folder, &table)?),
            }
        }
    }
}
