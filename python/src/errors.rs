//! Errors of the engine as Python's exceptions. The classes are Python's (`skimjit/_errors.py`): they have two parents.

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use skimjit::{Error, InputErrorKind, RunError};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

pyo3::import_exception!(skimjit._errors, ModelError);
pyo3::import_exception!(skimjit._errors, FileError);
pyo3::import_exception!(skimjit._errors, CompileError);
pyo3::import_exception!(skimjit._errors, IsaError);
pyo3::import_exception!(skimjit._errors, OptionError);
pyo3::import_exception!(skimjit._errors, ArrayError);
pyo3::import_exception!(skimjit._errors, DTypeError);
pyo3::import_exception!(skimjit._errors, ShapeError);
pyo3::import_exception!(skimjit._errors, LayoutError);
pyo3::import_exception!(skimjit._errors, NotFiniteError);
pyo3::import_exception!(skimjit._errors, ClosedError);
pyo3::import_exception!(skimjit._errors, InternalError);
pyo3::import_exception!(skimjit._errors, ModelWarning);

/// Runs `work` without holding the interpreter; an error or a panic becomes an exception.
pub fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> skimjit::Result<T> + Send,
) -> PyResult<T> {
    match py.detach(|| catch_unwind(AssertUnwindSafe(work))) {
        Ok(outcome) => outcome.map_err(exception),
        Err(payload) => Err(defect(payload)),
    }
}

/// The exception for an error of the engine.
pub fn exception(error: Error) -> PyErr {
    let text = in_python(error.to_string());
    match error {
        Error::Input(error) => match error.kind {
            InputErrorKind::Io(_) => FileError::new_err(text),
            InputErrorKind::Memory => PyMemoryError::new_err(text),
            _ => ModelError::new_err(text),
        },
        Error::Plan(_) => CompileError::new_err(text),
        Error::Run(RunError::NotFinite { .. }) => NotFiniteError::new_err(text),
        Error::Run(RunError::Arrays { .. }) => ArrayError::new_err(text),
        Error::Run(_) => ShapeError::new_err(text),
        Error::Isa(_) => IsaError::new_err(text),
        Error::Usage(_) => OptionError::new_err(text),
        Error::Check(_) => InternalError::new_err(text),
    }
}

fn defect(payload: Box<dyn Any + Send>) -> PyErr {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let error = InternalError::new_err(format!(
        "a defect of skimjit: {}",
        text.unwrap_or("no message")
    ));
    // Dropping what someone panicked with could panic again.
    std::mem::forget(payload);
    error
}

/// Messages name options as the command line spells them; here they are arguments.
fn in_python(text: String) -> String {
    const SPELLED: [(&str, &str); 9] = [
        ("--allow-missing-weights", "allow_missing_weights=True"),
        ("--caffe-in-place", "caffe_in_place=True"),
        ("--ignore-unknown-fields", "ignore_unknown_fields=True"),
        ("--input-shape", "input_shapes="),
        ("--prototxt", "prototxt="),
        ("--tune-cache", "tune="),
        ("--threads ", "threads="),
        ("--batch ", "batch="),
        ("--isa ", "isa="),
    ];
    SPELLED
        .iter()
        .fold(text, |text, (theirs, ours)| match text.contains(theirs) {
            true => text.replace(theirs, ours),
            false => text,
        })
}
