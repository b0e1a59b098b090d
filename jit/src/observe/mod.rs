//! Tools that want to know which generated code lives where.

mod perfmap;

use std::io;
use std::ops::Range;

pub use perfmap::PerfMap;

/// Is told about every published kernel.
pub trait CodeObserver: Send + Sync {
    /// `addresses` now hold the code called `name`.
    fn register(&self, name: &str, addresses: Range<usize>) -> io::Result<()>;
}
