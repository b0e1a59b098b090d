//! Names of classes.

use skimjit::{Error, Model, Result, labels};
use std::path::Path;

/// Names by class, as a network has them.
#[derive(Clone, Copy)]
pub struct Labels<'a>(&'a [String]);

impl<'a> Labels<'a> {
    /// The names that a network has.
    pub fn of_model(model: &'a Model) -> Self {
        Self(model.labels())
    }
    pub fn are_known(self) -> bool {
        !self.0.is_empty()
    }
    /// Name of one of `count` classes.
    pub fn of(self, count: usize, class: usize) -> Option<&'a str> {
        let names = Some(self.0).filter(|names| names.len() == count)?;
        names.get(class).map(String::as_str)
    }
}

/// Gives a network the names of a file, instead of those that it has.
pub fn set(model: &mut Model, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    model
        .set_labels(labels::read(file)?)
        .map_err(|error| match error {
            Error::Input(error) => error.file(file).into(),
            other => other,
        })
}
