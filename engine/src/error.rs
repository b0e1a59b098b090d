//! The error of the public API.

use skimjit_models::Warning;
use skimjit_runtime::jit::IsaError;
use skimjit_runtime::{PlanError, RunError};
use std::fmt;
use std::path::Path;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong; the variant tells whose fault it is.
#[derive(Debug)]
pub enum Error {
    /// A file or its contents; names file, layer, field, what was found and expected.
    Input(skimjit_models::Error),
    /// The network cannot be planned.
    Plan(PlanError),
    /// The arrays given to a run do not fit the network.
    Run(RunError),
    /// The instruction set asked for is not there.
    Isa(IsaError),
    /// An option has a value that cannot be used.
    Usage(String),
    /// A check (`verify`) failed.
    Check(String),
}

impl Error {
    /// What was odd about a file before its fault.
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Self::Input(error) => &error.warnings,
            _ => &[],
        }
    }

    /// With the file that a fault of data is in.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Input(error) => error.file(path).into(),
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Plan(error) => error.fmt(f),
            Self::Run(error) => error.fmt(f),
            Self::Isa(error) => error.fmt(f),
            Self::Usage(text) | Self::Check(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {
    /// The error of the part that it comes from, whose kind can be matched.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Input(error) => Some(error),
            Self::Plan(error) => Some(error),
            Self::Run(error) => Some(error),
            Self::Isa(error) => Some(error),
            Self::Usage(_) | Self::Check(_) => None,
        }
    }
}

impl From<skimjit_models::Error> for Error {
    fn from(error: skimjit_models::Error) -> Self {
        Self::Input(error)
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        Self::Run(error)
    }
}

impl From<IsaError> for Error {
    fn from(error: IsaError) -> Self {
        Self::Isa(error)
    }
}

impl From<skimjit_aot::Error> for Error {
    fn from(error: skimjit_aot::Error) -> Self {
        match error {
            skimjit_aot::Error::Usage(text) => Self::Usage(text),
            skimjit_aot::Error::Plan(error) => Self::Plan(error),
            skimjit_aot::Error::File(error) => Self::Input(error),
        }
    }
}
