//! Arrays of single floats: what is taken for one, and its memory as a slice. The one file here with `unsafe`.

use crate::errors::{ArrayError, DTypeError, LayoutError};
use numpy::npyffi::flags::NPY_ARRAY_WRITEABLE;
use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::intern;
use pyo3::prelude::*;
use smallvec::SmallVec;
use std::fmt;
use std::ops::Range;

/// Arrays of a network that need no memory for their list.
pub const USUAL: usize = 8;

/// An array of single floats in this machine's order of bytes.
pub type Array<'py> = Bound<'py, PyArrayDyn<f32>>;

/// What names an array in errors: `input "data"`.
#[derive(Clone, Copy)]
pub struct Label<'a>(pub &'static str, pub &'a str);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.0, self.1)
    }
}

/// What `given` is as an array, without a copy: itself, or what its `__dlpack__` or `__array__` shows.
pub fn array<'py>(label: Label<'_>, given: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    if given.is_exact_instance_of::<PyUntypedArray>() {
        return of_floats(label, given);
    }
    if given.cast::<PyUntypedArray>().is_err() {
        return of_floats(label, &exported(label, given)?);
    }
    let numpy = given.py().import("numpy.ma")?;
    match given.is_instance(&numpy.getattr("MaskedArray")?)? {
        false => of_floats(label, given),
        true => Err(DTypeError::new_err(format!(
            "{label}: found a masked array, expected a plain one; x.filled(value) makes one"
        ))),
    }
}

/// An array that results are written to: numpy's own.
pub fn target<'py>(label: Label<'_>, given: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    match given.is_instance_of::<PyUntypedArray>() {
        true => array(label, given),
        false => Err(DTypeError::new_err(format!(
            "{label}: found {} to write to, expected an array of numpy",
            given.get_type().name()?
        ))),
    }
}

/// Elements up to which there is memory for an array.
const SMALL: usize = 1 << 20;

/// A new array of zeros.
pub fn zeros<'py>(py: Python<'py>, dims: &[usize]) -> PyResult<Array<'py>> {
    let elems = dims
        .iter()
        .try_fold(1usize, |all, &dim| all.checked_mul(dim));
    if elems.is_some_and(|elems| elems <= SMALL) {
        return Ok(PyArrayDyn::zeros(py, dims, false));
    }
    // Slower, with an exception where there is no memory.
    let numpy = py.import(intern!(py, "numpy"))?;
    let made = numpy.call_method1(intern!(py, "zeros"), (dims, intern!(py, "float32")))?;
    Ok(made.cast_into()?)
}

/// An array of numpy over the memory of another library's.
fn exported<'py>(label: Label<'_>, given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = given.py();
    let numpy = py.import(intern!(py, "numpy"))?;
    let kind = given.get_type();
    let made = if given.hasattr(intern!(py, "__dlpack__"))? {
        numpy.call_method1(intern!(py, "from_dlpack"), (given,))
    } else if given.hasattr(intern!(py, "__array__"))? {
        numpy.call_method1(intern!(py, "asarray"), (given,))
    } else {
        return Err(DTypeError::new_err(format!(
            "{label}: found {}, expected an array of float32 (numpy, DLPack or __array__)",
            kind.name()?
        )));
    };
    made.map_err(|error| {
        let why = error.value(py);
        let told = DTypeError::new_err(format!(
            "{label}: found {kind} whose memory cannot be shared: {why}"
        ));
        told.set_cause(py, Some(error));
        told
    })
}

fn of_floats<'py>(label: Label<'_>, given: &Bound<'py, PyAny>) -> PyResult<Array<'py>> {
    if let Ok(array) = given.cast::<PyArrayDyn<f32>>() {
        return Ok(array.clone());
    }
    let dtype = given.cast::<PyUntypedArray>()?.dtype();
    let order = match (dtype.kind(), dtype.itemsize()) {
        (b'f', 4) => " in this machine's order of bytes",
        _ => "",
    };
    Err(DTypeError::new_err(format!(
        "{label}: found elements of type {}, expected float32{order}; x.astype(numpy.float32) makes them",
        dtype.str()?
    )))
}

/// The memory of a run.
pub struct Slices<'a> {
    /// Of the inputs.
    pub sources: SmallVec<[&'a [f32]; USUAL]>,
    /// Of the outputs.
    pub targets: SmallVec<[&'a mut [f32]; USUAL]>,
}

/// An array, and what names it.
pub type Named<'a, 'py> = (Label<'a>, Array<'py>);

/// The memory of a run's arrays: all contiguous, no result in the memory of another array. Who writes to them from
/// another thread while the run goes on gets what it deserves, as with numpy's own functions that release the
/// interpreter.
pub fn slices<'a>(
    inputs: &'a [Named<'_, '_>],
    outputs: &'a [Named<'_, '_>],
) -> PyResult<Slices<'a>> {
    for (label, array) in inputs.iter().chain(outputs) {
        check_layout(*label, array)?;
    }
    for (index, (label, output)) in outputs.iter().enumerate() {
        check_writeable(*label, output)?;
        let written = addresses(output);
        let others = inputs.iter().chain(&outputs[..index]);
        let mut others = others.map(|(_, array)| addresses(array));
        if others.any(|other| other.start < written.end && written.start < other.end) {
            return Err(LayoutError::new_err(format!(
                "{label}: found it in the memory of another array of the run, expected it apart"
            )));
        }
    }
    let faulty = |_| ArrayError::new_err("found an array without contiguous memory");
    // SAFETY: numpy keeps the memory for as long as the array is referred to, and only the targets are written, which
    // have no elements in common with other arrays of the run.
    let source = |(_, array): &'a Named<'_, '_>| unsafe { array.as_slice() };
    // SAFETY: as above.
    let target = |(_, array): &'a Named<'_, '_>| unsafe { array.as_slice_mut() };
    Ok(Slices {
        sources: inputs
            .iter()
            .map(source)
            .collect::<Result<_, _>>()
            .map_err(faulty)?,
        targets: outputs
            .iter()
            .map(target)
            .collect::<Result<_, _>>()
            .map_err(faulty)?,
    })
}

/// Refuses memory that is not one element after the other, row by row.
fn check_layout(label: Label<'_>, array: &Array<'_>) -> PyResult<()> {
    let found = match (array.is_c_contiguous(), array.is_aligned()) {
        (true, true) => return Ok(()),
        (true, false) => "an array whose elements are not aligned",
        (false, _) => "an array that is not contiguous",
    };
    Err(LayoutError::new_err(format!(
        "{label}: found {found} (strides {:?}), expected row after row; numpy.ascontiguousarray(x) is a copy like that",
        array.strides()
    )))
}

/// Refuses what no result can be written to.
fn check_writeable(label: Label<'_>, array: &Array<'_>) -> PyResult<()> {
    // SAFETY: the object is an array of numpy's, so it has these fields, and the interpreter is held, so that nobody
    // changes them.
    let flags = unsafe { (*array.as_array_ptr()).fields.flags };
    match flags & NPY_ARRAY_WRITEABLE {
        0 => Err(LayoutError::new_err(format!(
            "{label}: found a read-only array, expected one that can be written"
        ))),
        _ => Ok(()),
    }
}

/// Addresses of the elements of a contiguous array.
fn addresses(array: &Array<'_>) -> Range<usize> {
    let start = array.data() as usize;
    start..start + array.len() * size_of::<f32>()
}
