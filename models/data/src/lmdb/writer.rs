//! Writes an LMDB data base with the C library, so that every other reader takes it.

use super::{DATA_FILE, Record, show};
use heed::types::Bytes;
use heed::{CommitOrAbort, Env, EnvFlags, EnvOpenOptions, MdbError, PutFlags};
use skimjit_host::whole::Folder;
use skimjit_models::{Error, Result};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Records of one transaction, as in Caffe's tools.
const RECORDS_PER_COMMIT: usize = 1000;
/// Bytes of one transaction, whatever the number of records: they wait in memory.
const BYTES_PER_COMMIT: usize = 256 << 20;
/// Address space that a new data base is given. The file grows only by what is written.
const FIRST_MAP_BYTES: usize = 1 << 30;
/// What the C library puts beside the records.
const LOCK_FILE: &str = "lock.mdb";
/// Longest key of LMDB.
const MAX_KEY_BYTES: usize = 511;

/// A data base that is being made, in a folder of its own that takes the data base's name when all is in it:
/// neither an error nor the end of the process leaves a half data set that looks like a whole one.
///
/// What does not fit the disk is an error: the C library writes with system calls, and reads by its map only
/// what is written. Its file of locks, which it would write by a map, is left to those who read.
pub struct Writer {
    path: PathBuf,
    // In front of the folder: it is closed before that is removed.
    env: Env,
    folder: Folder,
    map_bytes: usize,
    waiting: Vec<Record>,
    waiting_bytes: usize,
    written: u64,
}

impl Writer {
    /// Makes a folder with an empty data base. An existing one is never touched.
    pub fn create(path: &Path) -> Result<Self> {
        Self::with_map(path, FIRST_MAP_BYTES)
    }

    fn with_map(path: &Path, map_bytes: usize) -> Result<Self> {
        let failed = |error: heed::Error| fault(&error).file(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|error| failed(error.into()))?;
        }
        let folder = Folder::create(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(path),
            _ => failed(error.into()),
        })?;
        // Made here, empty, for all users whom the user's mask allows; the library would shut them out.
        for name in [DATA_FILE, LOCK_FILE] {
            let made = File::create_new(folder.path().join(name));
            made.map_err(|error| failed(error.into()))?;
        }
        let mut options = EnvOpenOptions::new();
        options.map_size(map_bytes);
        // SAFETY: the file is new, empty and in a folder of its own, so nothing has changed it behind
        // LMDB's back, and all records go through this environment, which this writer keeps to itself:
        // without locks, as nobody else has it open.
        let env = unsafe { options.flags(EnvFlags::NO_LOCK).open(folder.path()) };
        let env = env.map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            env,
            folder,
            map_bytes,
            waiting: Vec::new(),
            waiting_bytes: 0,
            written: 0,
        })
    }

    /// Adds a record whose key is new. It is written with the next thousand, or at the end.
    pub fn put(&mut self, key: &[u8], value: Vec<u8>) -> Result<()> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Error::new(format!("a key of {} bytes", key.len()))
                .file(&self.path)
                .field(format!("record {}", show(key)))
                .expected(format!("1 to {MAX_KEY_BYTES}"))
                .hint(
                    "shorten the path, for example by moving a part of it into the root folder",
                ));
        }
        self.waiting_bytes += key.len() + value.len();
        let key = key.to_vec();
        self.waiting.push(Record { key, value });
        if self.waiting.len() >= RECORDS_PER_COMMIT || self.waiting_bytes >= BYTES_PER_COMMIT {
            self.commit()?;
        }
        Ok(())
    }

    /// Writes what is left; returns the number of records.
    pub fn finish(mut self) -> Result<u64> {
        self.commit()?;
        drop(self.env);
        let named = self.folder.finish();
        named.map_err(|error| fault(&error.into()).file(&self.path))?;
        Ok(self.written)
    }

    /// Writes all waiting records in one transaction, in a larger map when they need one.
    fn commit(&mut self) -> Result<()> {
        loop {
            match self.write_waiting() {
                Err(heed::Error::Mdb(MdbError::MapFull)) => self.enlarge()?,
                Err(error) => return Err(fault(&error).file(&self.path)),
                Ok(()) => break,
            }
        }
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        self.waiting_bytes = 0;
        Ok(())
    }

    fn write_waiting(&self) -> std::result::Result<(), heed::Error> {
        let transaction = self.env.write_txn()?;
        let put = self
            .env
            .create_databases_and_commit(transaction, |opener, transaction| {
                let database = opener.create_database::<Bytes, Bytes>(transaction, None)?;
                for Record { key, value } in &self.waiting {
                    let flags = PutFlags::NO_OVERWRITE;
                    database.put_with_flags(transaction, flags, key, value)?;
                }
                Ok(CommitOrAbort::<_, ()>::Commit(database))
            });
        put.map(drop)
    }

    fn enlarge(&mut self) -> Result<()> {
        let larger = self.map_bytes.checked_mul(2);
        let larger = larger
            .ok_or_else(|| Error::new("more records than memory addresses").file(&self.path))?;
        // SAFETY: no transaction is open: the only one was dropped when it failed, and no other
        // environment or thread of this process has this data base.
        unsafe { self.env.resize(larger) }.map_err(|error| fault(&error).file(&self.path))?;
        self.map_bytes = larger;
        Ok(())
    }
}

fn exists(path: &Path) -> Error {
    Error::new("a file or data base that exists already")
        .file(path)
        .expected("a new path")
        .hint("name another folder, or delete this one first")
}

fn fault(error: &heed::Error) -> Error {
    match error {
        heed::Error::Mdb(MdbError::KeyExist) => {
            Error::new("a key twice").expected("a key of its own for every record")
        }
        error => Error::new(format!("an error when writing: {error}"))
            .hint("check the path and the free space"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lmdb::Reader;

    #[test]
    fn the_map_grows_with_the_records() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/data_base");
        let mut writer = Writer::with_map(&path, 1 << 16).unwrap();
        for index in 0..2500u32 {
            let value = vec![index as u8; index as usize];
            writer.put(format!("{index:08}").as_bytes(), value).unwrap();
        }
        assert_eq!(writer.finish().unwrap(), 2500);
        let mut reader = Reader::open(&path).unwrap();
        assert_eq!(reader.len(), 2500);
        for index in 0..2500u32 {
            let record = reader.next().unwrap().unwrap();
            assert_eq!(record.key, format!("{index:08}").as_bytes());
            assert_eq!(record.value, vec![index as u8; index as usize]);
        }
        assert_eq!(reader.next().unwrap(), None);
        let text = Writer::create(&path).err().unwrap().to_string();
        assert!(text.contains("exists already"), "{text}");
    }

    #[test]
    fn impossible_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("a")).unwrap();
        for key in [&[][..], &[b'k'; 512]] {
            let text = writer.put(key, vec![1]).unwrap_err().to_string();
            assert!(text.contains("expected 1 to 511"), "{text}");
        }
        writer.put(b"same", vec![1]).unwrap();
        writer.put(b"same", vec![2]).unwrap();
        let text = writer.finish().unwrap_err().to_string();
        assert!(text.contains("a key twice"), "{text}");
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "nothing of the half data base");
    }
}
