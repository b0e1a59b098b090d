//! What is odd about a file but does not keep it from being used.

use crate::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One oddity. Displayed as one line: `net.prototxt:12:5: unknown field "foo" of LayerParameter`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Warning {
    /// File it is in.
    pub file: Option<PathBuf>,
    /// Line and column in `file`, both from 1.
    pub position: Option<(u32, u32)>,
    /// What it is.
    pub text: String,
}

impl Warning {
    /// Starts a warning from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
    /// Adds the file, unless one is set already.
    #[must_use]
    pub fn file(mut self, file: impl AsRef<Path>) -> Self {
        self.file.get_or_insert_with(|| file.as_ref().to_owned());
        self
    }
    /// Adds line and column (from 1).
    #[must_use]
    pub fn position(mut self, line: u32, column: u32) -> Self {
        self.position = Some((line, column));
        self
    }
}

/// How oddities of a definition are taken, the same by every command that reads one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Care {
    /// Layers are used without their unknown fields, which are an error otherwise.
    pub ignore_unknown_fields: bool,
}

/// Counts the warnings that a program prints: with `--strict` there must be none.
#[derive(Debug, Default)]
pub struct Tally {
    count: AtomicUsize,
    strict: AtomicBool,
}

impl Tally {
    /// None so far, and they are no errors.
    pub const fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            strict: AtomicBool::new(false),
        }
    }
    /// From here on warnings are errors.
    pub fn be_strict(&self) {
        self.strict.store(true, Ordering::Relaxed);
    }
    /// One more is printed.
    pub fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
    /// Fails when there were warnings and they are errors. To be asked at the end, and before anything
    /// that takes long or is written.
    pub fn check(&self) -> Result<()> {
        let count = self.count.load(Ordering::Relaxed);
        if count == 0 || !self.strict.load(Ordering::Relaxed) {
            return Ok(());
        }
        let plural = if count == 1 { "" } else { "s" };
        Err(Error::new(format!("{count} warning{plural}"))
            .expected("none")
            .hint("--strict makes warnings errors"))
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}", file.display())?;
            if let Some((line, column)) = self.position {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": ")?;
        } else if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.text)
    }
}
