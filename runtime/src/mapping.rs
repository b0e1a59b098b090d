//! Files as memory. One of the few files with `unsafe`.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::path::Path;

/// A file mapped for reading.
pub struct FileMap(Mmap);

impl FileMap {
    /// Maps a file. An empty file is an error of kind `UnexpectedEof`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file is empty",
            ));
        }
        // SAFETY: the map is private and read-only. Someone who truncates the file while it is
        // mapped makes reads fault, as with any mapped file; the contents are checksummed before
        // they are used.
        Ok(Self(unsafe { Mmap::map(&file)? }))
    }
    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
