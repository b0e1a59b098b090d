//! LevelDB data bases, Caffe's older form of a data set.
//!
//! The library writes to the folder that it opens, so it is given a temporary one with links to the
//! data base's tables, which never change, and copies of its small files.

use crate::lmdb::Record;
use rusty_leveldb::{DB, LdbIterator, Options};
use skimjit_models::{Error, Result};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Records that are read ahead.
const AHEAD: usize = 64;

/// Reads the records of a data base in the order of their keys, over and over.
pub struct Reader {
    path: PathBuf,
    /// The library's handles may not move between threads, so that one owns them.
    records: Option<Receiver<Result<Record>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Opens the folder of a data base; nothing in it is changed.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.join("CURRENT").is_file() {
            return Err(Error::new("no file CURRENT")
                .file(path)
                .expected("the folder of a LevelDB data base")
                .hint("for LMDB, say backend: LMDB"));
        }
        let copy = shadow(path).map_err(|error| {
            Error::new(format!("an error when copying: {error}"))
                .file(path)
                .hint("check the folder for temporary files")
        })?;
        let (sender, records) = sync_channel(AHEAD);
        let name = path.to_owned();
        let work = move || read(copy, &name, &sender);
        let thread = std::thread::Builder::new()
            .name("leveldb".into())
            .spawn(work);
        let thread =
            thread.map_err(|error| Error::new(format!("no thread ({error})")).file(path))?;
        Ok(Self {
            path: path.to_owned(),
            records: Some(records),
            thread: Some(thread),
        })
    }

    /// The next record, after the last one the first.
    #[allow(
        clippy::should_implement_trait,
        reason = "it lends, or it fails: no iterator"
    )]
    pub fn next(&mut self) -> Result<Record> {
        let next = self
            .records
            .as_ref()
            .and_then(|records| records.recv().ok());
        next.unwrap_or_else(|| Err(damaged("no further records", &self.path)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // The thread ends when nobody takes records any more.
        self.records = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A data base that is being made. One that is dropped before [`Writer::finish`] is removed again.
pub struct Writer {
    path: PathBuf,
    base: Option<DB>,
    last_key: Vec<u8>,
    written: u64,
}

impl Writer {
    /// Makes a folder with an empty data base. An existing folder is never touched.
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            return Err(Error::new("a file or folder that exists already")
                .file(path)
                .expected("a new path")
                .hint("name another folder, or delete this one first"));
        }
        let failed = |text: String| Error::new(text).file(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        }
        let base = DB::open(path, Options::default()).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            path: path.to_owned(),
            base: Some(base),
            last_key: Vec::new(),
            written: 0,
        })
    }

    /// Adds a record whose key comes after all others.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if key <= self.last_key.as_slice() {
            return Err(Error::new(format!("key {}", crate::lmdb::show(key)))
                .file(&self.path)
                .expected("keys that grow"));
        }
        if let Some(base) = &mut self.base {
            base.put(key, value)
                .map_err(|error| unwritable(&error, &self.path))?;
        }
        self.last_key = key.to_vec();
        self.written += 1;
        Ok(())
    }

    /// Brings all to the disk; returns the number of records.
    pub fn finish(mut self) -> Result<u64> {
        if let Some(mut base) = self.base.take() {
            let closed = base.flush().and_then(|()| base.close());
            if let Err(error) = closed {
                self.base = Some(base);
                return Err(unwritable(&error, &self.path));
            }
        }
        Ok(self.written)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.base.take().is_some() {
            // The folder was made by this writer.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn unwritable(error: &rusty_leveldb::Status, path: &Path) -> Error {
    Error::new(format!("an error when writing: {error}"))
        .file(path)
        .hint("check the path and the free space")
}

fn damaged(found: &str, path: &Path) -> Error {
    Error::new(found)
        .file(path)
        .expected("a LevelDB data base that is whole")
        .hint("make it again; skimjit convert-imageset writes LMDB")
}

fn shadow(path: &Path) -> std::io::Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let (from, to) = (entry.path(), copy.path().join(entry.file_name()));
        let table = from.extension().is_some_and(|e| e == "ldb" || e == "sst");
        if !entry.file_type()?.is_file() || entry.file_name() == "LOCK" {
            continue;
        }
        // A link takes no space; between file systems there are none.
        let linked = table && std::os::unix::fs::symlink(fs::canonicalize(&from)?, &to).is_ok();
        if !linked {
            fs::copy(&from, &to)?;
        }
    }
    Ok(copy)
}

/// Sends records until nobody listens.
fn read(copy: tempfile::TempDir, name: &Path, sender: &SyncSender<Result<Record>>) {
    // The library panics on some damaged files.
    let read = catch_unwind(AssertUnwindSafe(|| read_all(copy.path(), name, sender)));
    let error = match read {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(_) => damaged("a damaged table", name),
    };
    let _ = sender.send(Err(error));
}

fn read_all(copy: &Path, name: &Path, sender: &SyncSender<Result<Record>>) -> Result<()> {
    let failed = |error: rusty_leveldb::Status| damaged(&error.to_string(), name);
    let options = Options {
        create_if_missing: false,
        paranoid_checks: true,
        ..Options::default()
    };
    let mut base = DB::open(copy, options).map_err(failed)?;
    loop {
        let mut records = base.new_iter().map_err(failed)?;
        let mut found = false;
        while let Some((key, value)) = LdbIterator::next(&mut records) {
            found = true;
            if sender.send(Ok(Record { key, value })).is_err() {
                return Ok(());
            }
        }
        if !found {
            return Err(damaged("no records", name));
        }
    }
}
