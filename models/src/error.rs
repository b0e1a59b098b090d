//! The one error type of this crate: where the fault is, what was found, what was expected.

use crate::Warning;
use skimjit_host::memory::{TooMuch, size_text};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What kind a fault is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Data or an option that cannot be used.
    #[default]
    Invalid,
    /// A file could not be read or written.
    Io(io::ErrorKind),
    /// Contents that take more memory than they may.
    Memory,
}

/// A fault in data from outside. Every part is optional except `found`; the text is one line:
/// `net.prototxt:12:5: layer "conv1" (Convolution): stride_h: found 0, expected at least 1; <hint>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Error {
    /// What kind it is of.
    pub kind: ErrorKind,
    /// File the fault is in.
    pub file: Option<PathBuf>,
    /// Line and column in `file`, both from 1.
    pub position: Option<(u32, u32)>,
    /// Layer name.
    pub layer: Option<String>,
    /// Field, as the format spells it (`convolution_param.stride`, `blobs[0].shape`).
    pub field: Option<String>,
    /// What was found.
    pub found: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// What was odd before the fault; not part of the text.
    pub warnings: Vec<Warning>,
}

impl Error {
    /// Starts an error from what was found.
    pub fn new(found: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            ..Self::default()
        }
    }
    /// For a file that could not be read, which should have been what is expected.
    pub fn unreadable(
        file: impl AsRef<Path>,
        error: &std::io::Error,
        expected: impl Into<String>,
    ) -> Self {
        let path = file.as_ref();
        let too_much = error.get_ref().and_then(|inner| inner.downcast_ref());
        if let Some(&too_much) = too_much {
            return <Self as From<TooMuch>>::from(too_much).file(path);
        }
        let found = match error.kind() {
            io::ErrorKind::IsADirectory => folder_text(path).to_owned(),
            io::ErrorKind::InvalidData => "bytes that are no UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
        Self::io(found, error.kind()).file(path).expected(expected)
    }
    fn io(found: String, kind: io::ErrorKind) -> Self {
        Self {
            kind: ErrorKind::Io(kind),
            ..Self::new(found)
        }
    }
    /// For a file that could not be written; there is no part of it.
    pub fn unwritable(file: impl AsRef<Path>, error: &std::io::Error) -> Self {
        let folder = file.as_ref().parent();
        let missing = folder.filter(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let found = match missing {
            Some(folder) => format!("no folder {}", folder.display()),
            None => format!("an error when writing: {error}"),
        };
        Self::io(found, error.kind())
            .file(file)
            .hint("check the path, its permissions and the free space")
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
    /// Adds the layer, unless one is set already.
    #[must_use]
    pub fn layer(mut self, layer: impl Into<String>) -> Self {
        self.layer.get_or_insert_with(|| layer.into());
        self
    }
    /// Adds the field, unless one is set already.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field.get_or_insert_with(|| field.into());
        self
    }
    /// Adds what would have been right.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }
    /// Adds the warnings that came before it, in front of those that it has.
    #[must_use]
    pub fn after(mut self, warnings: &[Warning]) -> Self {
        self.warnings.splice(0..0, warnings.iter().cloned());
        self
    }
    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// What a folder is that was given as a file.
fn folder_text(path: &Path) -> &'static str {
    if path.join("data.mdb").is_file() {
        "an LMDB data base (a folder with data.mdb)"
    } else if path.join("CURRENT").is_file() {
        "a LevelDB data base (a folder with CURRENT)"
    } else {
        "a folder"
    }
}

impl fmt::Display for Error {
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
        if let Some(layer) = &self.layer {
            write!(f, "layer \"{layer}\": ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        write!(f, "found {}", self.found)?;
        if let Some(expected) = &self.expected {
            write!(f, ", expected {expected}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<TooMuch> for Error {
    fn from(error: TooMuch) -> Self {
        let (bytes, budget) = (size_text(error.bytes), size_text(error.budget));
        let error = Self::new(format!("contents that take {bytes} of memory"));
        let kind = ErrorKind::Memory;
        Self { kind, ..error }
            .expected(format!("at most {budget}"))
            .hint("that is what is free, or what --memory-limit (in C: memory_limit) allows")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_and_what_was_expected_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let text = |error: &io::Error| {
            let error = Error::unreadable(folder.path(), error, "a recipe").to_string();
            let (_, rest) = error.split_once(": ").unwrap();
            rest.to_owned()
        };
        let told = TooMuch {
            bytes: 7,
            budget: 5,
        };
        let too_much = io::Error::new(io::ErrorKind::OutOfMemory, told);
        assert_eq!(text(&too_much).matches("expected").count(), 1);
        assert!(text(&too_much).starts_with("found contents that take 7 bytes"));
        let none = io::ErrorKind::InvalidData.into();
        assert_eq!(
            text(&none),
            "found bytes that are no UTF-8 text, expected a recipe"
        );
        let is_folder = std::fs::read(folder.path()).unwrap_err();
        assert_eq!(text(&is_folder), "found a folder, expected a recipe");
        for (file, words) in [
            ("CURRENT", "found a LevelDB data base"),
            ("data.mdb", "found an LMDB data base"),
        ] {
            std::fs::write(folder.path().join(file), []).unwrap();
            assert!(text(&is_folder).starts_with(words), "{file}");
        }
    }
}
