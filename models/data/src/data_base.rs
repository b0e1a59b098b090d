//! Data bases of either kind, read once from the first record to the last, or made.

use crate::leveldb;
use crate::lmdb::{self, Record};
use skimjit_models::Result;
use std::path::{Path, PathBuf};

/// Kinds of data bases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    /// One file, which can be read at any place.
    Lmdb,
    /// A folder of tables, Caffe's older form.
    LevelDb,
}

/// Reads every record once, in the order of their keys.
pub struct Reader {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Lmdb(lmdb::Reader),
    LevelDb(leveldb::Reader),
}

impl Reader {
    /// Opens a data base; its files say which kind it is.
    pub fn open(path: &Path) -> Result<Self> {
        let kind = if path.join("CURRENT").is_file() {
            Kind::LevelDb(leveldb::Reader::open(path)?)
        } else {
            Kind::Lmdb(lmdb::Reader::open(path)?)
        };
        let path = match &kind {
            Kind::Lmdb(reader) => reader.path(),
            Kind::LevelDb(reader) => reader.path(),
        };
        let path = path.to_owned();
        Ok(Self { path, kind })
    }

    /// Number of records, where it is known without reading them.
    pub fn records(&self) -> Option<u64> {
        match &self.kind {
            Kind::Lmdb(reader) => Some(reader.len()),
            Kind::LevelDb(_) => None,
        }
    }

    /// The file or folder, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next record; `None` behind the last one.
    #[allow(clippy::should_implement_trait)] // An iterator's items have no errors.
    pub fn next(&mut self) -> Result<Option<Record>> {
        match &mut self.kind {
            Kind::Lmdb(reader) => reader.next(),
            Kind::LevelDb(reader) => reader.next(),
        }
    }
}

/// A data base that is being made, with keys that grow. One that is not finished is removed again.
pub enum Writer {
    /// See [`lmdb::Writer`].
    Lmdb(lmdb::Writer),
    /// See [`leveldb::Writer`].
    LevelDb(Box<leveldb::Writer>),
}

impl Writer {
    /// Makes an empty data base where there is none yet.
    pub fn create(path: &Path, backend: Backend) -> Result<Self> {
        Ok(match backend {
            Backend::Lmdb => Self::Lmdb(lmdb::Writer::create(path)?),
            Backend::LevelDb => Self::LevelDb(Box::new(leveldb::Writer::create(path)?)),
        })
    }

    /// Adds a record.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<()> {
        match self {
            Self::Lmdb(writer) => writer.put(key, value),
            Self::LevelDb(writer) => writer.put(key, &value),
        }
    }

    /// Brings all to the disk; returns the number of records.
    pub fn finish(self) -> Result<u64> {
        match self {
            Self::Lmdb(writer) => writer.finish(),
            Self::LevelDb(writer) => writer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_keep_records_and_remove_what_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        for backend in [Backend::Lmdb, Backend::LevelDb] {
            let path = folder.path().join(format!("made/{backend:?}"));
            let mut writer = Writer::create(&path, backend).unwrap();
            for n in 0..500u32 {
                let value = vec![n as u8; n as usize * 20];
                writer.put(format!("{n:08}").as_bytes(), value).unwrap();
            }
            assert_eq!(writer.finish().unwrap(), 500);
            let mut reader = Reader::open(&path).unwrap();
            for n in 0..500u32 {
                let record = reader.next().unwrap().unwrap();
                assert_eq!(record.key, format!("{n:08}").into_bytes());
                assert_eq!(record.value, vec![n as u8; n as usize * 20]);
            }
            assert_eq!(reader.next().unwrap(), None);
            assert_eq!(reader.next().unwrap(), None);
            let text = Writer::create(&path, backend).err().unwrap().to_string();
            assert!(text.contains("exists already"), "{text}");

            let path = folder.path().join(format!("{backend:?}"));
            let mut writer = Writer::create(&path, backend).unwrap();
            writer.put(b"key", vec![1]).unwrap();
            drop(writer);
            assert!(!path.exists());
        }
    }
}
