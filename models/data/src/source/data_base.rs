//! Records of an LMDB or LevelDB data base.

use super::{Raw, Source};
use crate::lmdb::Record;
use crate::{leveldb, lmdb};
use skimjit_caffe::proto::data_parameter::Db;
use skimjit_models::{Error, Result};
use std::path::{Path, PathBuf};

/// See the module.
pub struct DataBase {
    path: PathBuf,
    reader: Reader,
}

enum Reader {
    Lmdb(lmdb::Reader),
    LevelDb(leveldb::Reader),
}

impl Reader {
    fn next(&mut self) -> Result<Option<Record>> {
        match self {
            Self::Lmdb(reader) => reader.next(),
            Self::LevelDb(reader) => reader.next(),
        }
    }
    fn rewind(&mut self) {
        match self {
            Self::Lmdb(reader) => reader.rewind(),
            Self::LevelDb(reader) => reader.rewind(),
        }
    }
}

impl DataBase {
    /// Opens a data base. Which kind it is is seen from its files: Caffe's default, LevelDB, is seldom
    /// meant where LMDB files lie.
    pub fn open(path: &Path, backend: Db) -> Result<Self> {
        let is_lmdb = path.join(lmdb::DATA_FILE).is_file() || path.is_file();
        let reader = if is_lmdb || (backend == Db::Lmdb && !path.join("CURRENT").is_file()) {
            let reader = lmdb::Reader::open(path)?;
            if reader.is_empty() {
                return Err(Error::new("no records").file(path).expected("at least one"));
            }
            Reader::Lmdb(reader)
        } else {
            Reader::LevelDb(leveldb::Reader::open(path)?)
        };
        Ok(Self {
            path: path.to_owned(),
            reader,
        })
    }
}

impl Source for DataBase {
    fn next(&mut self) -> Result<Raw> {
        let record = match self.reader.next()? {
            Some(record) => record,
            None => {
                self.reader.rewind();
                let none = || {
                    Error::new("no records")
                        .file(&self.path)
                        .expected("at least one")
                };
                self.reader.next()?.ok_or_else(none)?
            }
        };
        Ok(Raw::Datum {
            key: lmdb::show(&record.key),
            value: record.value,
        })
    }
    fn skip(&mut self, count: u64) -> Result<()> {
        let count = self.len().map_or(count, |len| count % len.max(1));
        (0..count).try_for_each(|_| self.next().map(drop))
    }
    fn len(&self) -> Option<u64> {
        match &self.reader {
            Reader::Lmdb(reader) => Some(reader.len()),
            Reader::LevelDb(_) => None,
        }
    }
    fn path(&self) -> &Path {
        &self.path
    }
}
