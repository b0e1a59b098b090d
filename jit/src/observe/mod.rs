//! Tools that want to know which generated code lives where.

pub mod gdb;
mod jitdump;
mod perfmap;
#[cfg(feature = "vtune")]
mod vtune;

use std::io;
use std::ops::Range;
use std::path::PathBuf;

pub use jitdump::JitDump;
pub use perfmap::PerfMap;
#[cfg(feature = "vtune")]
pub use vtune::VTune;

/// Code that is executable now.
pub struct PublishedCode<'a> {
    /// What to call it.
    pub name: &'a str,
    /// Where it lies.
    pub addresses: Range<usize>,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Entry names and their byte offsets.
    pub entries: &'a [(String, usize)],
    /// A text that explains it.
    pub source: Option<&'a Source>,
}

/// A text of which lines stand for instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The text.
    pub file: PathBuf,
    /// Byte offset of an instruction and its line, by rising offset.
    pub lines: Vec<(u32, u32)>,
}

/// Is told about every published kernel.
pub trait CodeObserver: Send + Sync {
    /// `code` can be run from now on.
    fn register(&self, code: &PublishedCode<'_>) -> io::Result<()>;
}
