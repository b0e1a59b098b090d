//! Names of generated code for `perf report`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{CodeObserver, PublishedCode};

/// A perf map file: one `start size name` line per code, numbers in hexadecimal.
pub struct PerfMap {
    file: Mutex<File>,
}

impl PerfMap {
    /// Appends to the file at `path`; perf looks for `/tmp/perf-<process id>.map`.
    pub fn append_to(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        Ok(Self {
            file: Mutex::new(file),
        })
    }
}

impl CodeObserver for PerfMap {
    fn register(&self, code: &PublishedCode<'_>) -> io::Result<()> {
        let addresses = &code.addresses;
        let name = code.name.replace(char::is_control, " ");
        let line = format!("{:x} {:x} {name}\n", addresses.start, addresses.len());
        self.file
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(line.as_bytes())
    }
}
