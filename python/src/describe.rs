//! What tables are made of: lists of rows.

use crate::arrays::slices;
use crate::engine::{Engine, shared};
use crate::errors::{detached, exception};

use crate::model::Model;
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use skimjit::verify::{BlobCheck, verify_with};
use skimjit::{Shape, Tensor};

/// Layers of a model: kind, output shape, parameters, weights, zeros, multiply-adds of one image.
#[pyfunction]
pub fn layers<'py>(py: Python<'py>, model: &Bound<'py, Model>) -> PyResult<Bound<'py, PyList>> {
    let graph = model.get().inner().graph();
    let images = u64::from(model.get().inner().batch().max(1));
    let rows = PyList::empty(py);
    for node in &graph.nodes {
        let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
        let macs = node.op.macs(&shapes, &graph.weights) / images;
        let (mut parameters, mut weights, mut nonzeros) = (0, 0, 0);
        for id in node.op.weights() {
            let weight = graph.weight(id);
            parameters += weight.shape().count();
            // Vectors are biases, slopes and statistics: nobody prunes them.
            if weight.shape().rank() > 1 {
                weights += weight.shape().count();
                nonzeros += weight.nonzeros();
            }
        }
        let row = PyDict::new(py);
        row.set_item("layer", &node.name)?;
        row.set_item("kind", node.op.name())?;
        row.set_item("shape", graph.shape(node.output).dims())?;
        row.set_item("parameters", parameters)?;
        row.set_item("weights", weights)?;
        row.set_item("zeros", weights - nonzeros)?;
        row.set_item("macs", macs)?;
        let density = match weights {
            0 => 1.0,
            _ => nonzeros as f64 / weights as f64,
        };
        row.set_item("macs_nonzero", (macs as f64 * density).round() as u64)?;
        rows.append(row)?;
    }
    Ok(rows)
}

/// What the planner chose for each layer, and why.
#[pyfunction]
pub fn choices<'py>(py: Python<'py>, engine: &Bound<'py, Engine>) -> PyResult<Bound<'py, PyList>> {
    let rows = PyList::empty(py);
    for choice in &engine.get().inner().plan().choices {
        let row = PyDict::new(py);
        let candidates = choice.candidates.iter();
        let candidates = candidates.map(|one| (one.variant.clone(), one.cycles, one.time_ns));
        row.set_item("layer", &choice.layer)?;
        row.set_item("kind", choice.kind)?;
        row.set_item("shape", &choice.shape)?;
        row.set_item("density", choice.density)?;
        row.set_item("kernel", &choice.variant)?;
        row.set_item("basis", format!("{:?}", choice.basis).to_lowercase())?;
        row.set_item("macs", choice.macs)?;
        row.set_item("macs_nonzero", choice.macs_nonzero)?;
        row.set_item("code_bytes", choice.code_bytes)?;
        row.set_item("weight_bytes", choice.weight_bytes)?;
        row.set_item("candidates", candidates.collect::<Vec<_>>())?;
        row.set_item("rejected", choice.rejected.clone())?;
        rows.append(row)?;
    }
    Ok(rows)
}

/// Checks each layer and the outputs against the reference, with the kernels of an engine: rows of both.
#[pyfunction]
pub fn verify<'py>(
    engine: &Bound<'py, Engine>,
    x: &Bound<'py, PyAny>,
    tolerance: f64,
) -> PyResult<[Bound<'py, PyList>; 2]> {
    let py = engine.py();
    let engine = engine.get();
    let arrays = engine.network().arrays(x, None)?;
    let memory = slices(&arrays.inputs, &[])?;
    let mut inputs = Vec::new();
    for ((_, array), data) in arrays.inputs.iter().zip(&memory.sources) {
        let dims: Vec<u32> = array.shape().iter().map(|&dim| dim as u32).collect();
        let shape = Shape::new(dims).map_err(|error| exception(error.into()))?;
        inputs.push(Tensor::new(shape, data.to_vec()));
    }
    let options = engine.same_kernels()?;
    let shared = shared(options.threads)?;
    let found = detached(py, || {
        verify_with(engine.model(), &options, &shared, &inputs, tolerance)
    })?;
    Ok([checks(py, &found.layers)?, checks(py, &found.outputs)?])
}

fn checks<'py>(py: Python<'py>, checks: &[BlobCheck]) -> PyResult<Bound<'py, PyList>> {
    let rows = PyList::empty(py);
    for check in checks {
        let row = PyDict::new(py);
        row.set_item("layer", &check.layer)?;
        row.set_item("blob", &check.blob)?;
        row.set_item("kernel", &check.variant)?;
        row.set_item("difference", check.difference)?;
        row.set_item("magnitude", check.magnitude)?;
        row.set_item("relative", check.relative)?;
        row.set_item("overflow", check.overflow)?;
        row.set_item("passed", check.passed)?;
        rows.append(row)?;
    }
    Ok(rows)
}
