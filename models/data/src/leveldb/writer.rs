//! Writes a LevelDB data base with the library, so that every other reader takes it.

use rusty_leveldb::{DB, Options};
use skimjit_host::foreign::{self, Panicked};
use skimjit_host::whole::Folder;
use skimjit_models::{Error, Result};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A data base that is being made, in a folder of its own that takes the data base's name when all is in it.
pub struct Writer {
    path: PathBuf,
    // In front of the folder: it is closed before that is removed.
    base: DB,
    folder: Folder,
    last_key: Vec<u8>,
    records: u64,
}

impl Writer {
    /// Makes a folder with an empty data base. An existing folder is never touched.
    pub fn create(path: &Path) -> Result<Self> {
        let failed = |text: String| Error::new(text).file(path);
        let exists = || {
            Error::new("a file or folder that exists already")
                .file(path)
                .expected("a new path")
                .hint("name another folder, or delete this one first")
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(error.to_string()))?;
        }
        let folder = Folder::create(path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => exists(),
            _ => failed(error.to_string()),
        })?;
        let base = foreign::call(|| DB::open(folder.path(), Options::default()));
        let base = base.map_err(|_| failed(GAVE_UP.to_owned()))?;
        let base = base.map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            base,
            folder,
            last_key: Vec::new(),
            records: 0,
        })
    }

    /// Adds a record whose key comes after all others.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if key <= self.last_key.as_slice() {
            return Err(Error::new(format!("key {}", crate::lmdb::show(key)))
                .file(&self.path)
                .expected("keys that grow"));
        }
        let put = foreign::call(|| self.base.put(key, value));
        self.written(put)?;
        self.last_key = key.to_vec();
        self.records += 1;
        Ok(())
    }

    /// Brings all to the disk; returns the number of records.
    pub fn finish(mut self) -> Result<u64> {
        let closed = foreign::call(|| self.base.flush().and_then(|()| self.base.close()));
        self.written(closed)?;
        // On a full disk, its destructor panics.
        let _ = foreign::call(|| drop(self.base));
        let named = self.folder.finish();
        named.map_err(|error| unwritable(&error.to_string(), &self.path))?;
        Ok(self.records)
    }

    fn written(&self, result: Outcome) -> Result<()> {
        let found = match result {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(Panicked) => GAVE_UP.to_owned(),
        };
        Err(unwritable(&found, &self.path))
    }
}

/// What the library says, if it does.
type Outcome = std::result::Result<std::result::Result<(), rusty_leveldb::Status>, Panicked>;

const GAVE_UP: &str = "the LevelDB library gave up";

fn unwritable(found: &str, path: &Path) -> Error {
    Error::new(format!("an error when writing: {found}"))
        .file(path)
        .hint("check the path and the free space")
}
