//! What is odd about a file but does not keep it from being used.

use std::fmt;
use std::path::{Path, PathBuf};

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
