//! Arguments as options of the engine.

use crate::errors::{ModelWarning, OptionError, exception};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyDict, PyMemoryView};
use skimjit::{Isa, LoadOptions, Shape, TuneCache, Tuning};
use std::ffi::CString;
use std::path::PathBuf;

/// Cores that this process may use: as many as its affinity allows, or fewer where a control group has a quota of
/// processor time.
#[pyfunction]
pub fn usable_cores() -> usize {
    skimjit::usable_cores()
}

/// A file, or what would be in it.
pub enum Source {
    File(PathBuf),
    Bytes(PyBackedBytes),
}

impl Source {
    /// From a path or an object with bytes.
    pub fn of(what: &str, given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(path) = given.extract::<PathBuf>()
            && !path.as_os_str().is_empty()
        {
            return Ok(Self::File(path));
        }
        let bytes = given.extract::<PyBackedBytes>();
        let bytes = bytes.or_else(|_| {
            let view = given.py().get_type::<PyMemoryView>().call1((given,))?;
            Ok(view.call_method0("tobytes")?.extract::<PyBackedBytes>()?)
        });
        bytes.map(Self::Bytes).map_err(|_: PyErr| {
            let kind = given.get_type();
            OptionError::new_err(format!("{what}: found {kind}, expected a path or bytes"))
        })
    }
}

/// How a network is read, but for its topology.
pub fn load_options(
    input_shapes: Option<&Bound<'_, PyAny>>,
    zero_below: Option<f32>,
) -> PyResult<LoadOptions> {
    let mut options = LoadOptions {
        zero_below,
        ..LoadOptions::default()
    };
    match input_shapes.map(|given| given.cast::<PyDict>()) {
        None => {}
        Some(Ok(named)) => options.input_shapes = shapes(named)?,
        Some(Err(_)) => options.input_shape = input_shapes.map(shape).transpose()?,
    }
    Ok(options)
}

/// Shapes by name.
pub fn shapes(named: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Shape)>> {
    let pair =
        |(name, dims): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Ok((name.extract()?, shape(&dims)?));
    named.iter().map(pair).collect()
}

fn shape(dims: &Bound<'_, PyAny>) -> PyResult<Shape> {
    let sizes: Vec<u32> = dims.extract().map_err(|_| {
        let found = dims
            .repr()
            .map_or_else(|_| String::new(), |text| text.to_string());
        OptionError::new_err(format!(
            "input_shapes: found {found}, expected sizes such as (1, 3, 224, 224), or those by name"
        ))
    })?;
    Shape::new(sizes).map_err(|error| exception(error.into()))
}

/// An instruction set by its name.
pub fn isa(name: Option<&str>) -> PyResult<Option<Isa>> {
    let parse = |name: &str| name.parse::<Isa>().map_err(|error| exception(error.into()));
    name.map(parse).transpose()
}

/// Threads of a run: as asked for, or one for each core that may be used.
pub fn threads(asked: Option<usize>) -> PyResult<usize> {
    match asked {
        None => Ok(skimjit::usable_cores().min(MOST_THREADS)),
        Some(threads @ 1..=MOST_THREADS) => Ok(threads),
        Some(found) => Err(OptionError::new_err(format!(
            "threads: found {found}, expected 1 to {MOST_THREADS}"
        ))),
    }
}

/// Most threads of a team.
const MOST_THREADS: usize = 256;

/// How kernels are chosen: False or None by estimates, True by timing them, a path by the times in that file, to which
/// missing ones are added.
pub fn tuning(py: Python<'_>, tune: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Tuning>> {
    let Some(tune) = tune else { return Ok(None) };
    if let Ok(asked) = tune.extract::<bool>() {
        return Ok(asked.then(|| Tuning::with(TuneCache::in_memory())));
    }
    let path: PathBuf = tune
        .extract()
        .map_err(|_| OptionError::new_err("tune: expected a bool or a path"))?;
    let (cache, warning) = TuneCache::open(&path).map_err(exception)?;
    warning.map_or(Ok(()), |warning| warn(py, &warning))?;
    Ok(Some(Tuning::with(cache)))
}

/// Warns the caller.
pub fn warn(py: Python<'_>, text: &str) -> PyResult<()> {
    let category = py.get_type::<ModelWarning>();
    let text: Vec<u8> = text.bytes().filter(|&byte| byte != 0).collect();
    let text = CString::new(text).unwrap_or_default();
    PyErr::warn(py, &category, &text, 1)
}
