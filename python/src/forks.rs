//! What a child of `fork()` must know: none of its parent's threads are there, and locks that they held stay locked.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

static FORKS: AtomicU64 = AtomicU64::new(0);

/// Has Python tell of forks. It forks while it holds the interpreter, so that what is locked only by who holds it is
/// open in the child.
pub fn notice(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let calls = PyDict::new(py);
    calls.set_item("after_in_child", wrap_pyfunction!(forked, module)?)?;
    py.import("os")?
        .call_method("register_at_fork", (), Some(&calls))?;
    Ok(())
}

#[pyfunction]
fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// How many forks led to this process.
pub fn count() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// Keeps for ever what a parent made: to end threads that are not there may wait for a lock of theirs.
pub fn leak_if_inherited<T>(made_after: u64, what: &Arc<T>) {
    if made_after != count() {
        std::mem::forget(what.clone());
    }
}
