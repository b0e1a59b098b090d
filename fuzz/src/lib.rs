//! Every reader of strangers' files as a function of bytes, for fuzzers.
//!
//! A reader may refuse, it may not panic, hang, or allocate what a file merely claims. `targets/` has a
//! program for cargo-fuzz for each; `tests/short.rs` runs them all for a moment with [`Mutator`], which needs
//! no special compiler.
#![forbid(unsafe_code)]

mod mutate;
mod readers;
mod seeds;

pub use mutate::Mutator;
pub use seeds::Seeds;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Memory that a reader may ask for, in bytes: no seed needs more than a fraction.
pub const MEMORY: u64 = 256 << 20;

/// A reader.
pub struct Target {
    /// Name, also of its program and its corpus.
    pub name: &'static str,
    /// Reads; the result does not matter.
    pub read: fn(&[u8]),
    /// Inputs that are read well.
    pub seeds: fn(&Seeds) -> Vec<Vec<u8>>,
}

/// All readers.
pub fn targets() -> &'static [Target] {
    &readers::TARGETS
}

/// Gives bytes to a reader.
///
/// # Panics
/// If there is no reader of that name, or if it panics: what a fuzzer looks for.
pub fn run(name: &str, data: &[u8]) {
    skimjit_host::memory::set_limit(Some(MEMORY));
    let target = targets().iter().find(|target| target.name == name);
    (target.unwrap_or_else(|| panic!("no target {name}")).read)(data);
}

/// A folder of this process for readers that open files by name.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| tempfile::tempdir().expect("a temporary folder"))
        .path()
}

/// A name of this thread.
pub(crate) fn path(ending: &str) -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    folder().join(format!("input-{digits}{ending}"))
}

/// A file with the data, of this thread.
pub(crate) fn file(ending: &str, data: &[u8]) -> PathBuf {
    let path = path(ending);
    std::fs::write(&path, data).expect("room in the temporary folder");
    path
}
