//! The compiled half of the Python package, `skimjit._native`: models, engines and sessions as Python objects over the
//! engine's public API. What needs no speed is Python, in `skimjit/`.
//!
//! * Nothing unwinds into Python: [`errors::detached`] turns errors and panics into exceptions of `skimjit.Error`.
//! * The interpreter is released while files are read, code is generated and networks run.
//! * A child of `fork()` has none of its parent's threads: [`forks`] notices, [`team`] starts its own.

mod arrays;
mod describe;
mod engine;
mod errors;
mod forks;
mod measure;
mod model;
mod network;
mod options;
mod picture;
mod pruning;
mod team;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<network::NodeArg>()?;
    module.add_class::<model::Model>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<engine::Session>()?;
    module.add_function(wrap_pyfunction!(engine::compile, module)?)?;
    module.add_function(wrap_pyfunction!(engine::restore, module)?)?;
    module.add_function(wrap_pyfunction!(options::usable_cores, module)?)?;
    module.add_function(wrap_pyfunction!(describe::layers, module)?)?;
    module.add_function(wrap_pyfunction!(describe::choices, module)?)?;
    module.add_function(wrap_pyfunction!(describe::verify, module)?)?;
    module.add_function(wrap_pyfunction!(picture::decode, module)?)?;
    module.add_function(wrap_pyfunction!(picture::resize, module)?)?;
    module.add_class::<pruning::Pruning>()?;
    module.add_class::<pruning::Moments>()?;
    module.add_function(wrap_pyfunction!(pruning::smallest, module)?)?;
    module.add_function(wrap_pyfunction!(pruning::erk, module)?)?;
    module.add_function(wrap_pyfunction!(pruning::gains, module)?)?;
    forks::notice(module)
}
