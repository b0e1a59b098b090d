//! A compiled network as Python sees it: inputs and outputs by name, and the arrays of a run.

use crate::arrays::{Array, Label, Named, USUAL, array, target, zeros};
use crate::errors::{ArrayError, ShapeError};
use crate::forks;
use numpy::PyUntypedArrayMethods;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use skimjit::Port;
use smallvec::SmallVec;
use std::sync::Arc;

/// Sizes along the axes of an array.
type Dims = SmallVec<[usize; USUAL]>;

/// An input or output.
#[pyclass(frozen, eq, get_all, module = "skimjit")]
#[derive(Clone, PartialEq)]
pub struct NodeArg {
    /// Its name in the network.
    name: String,
    /// Sizes of a full batch; a run takes any number of images first, unless layers combine images.
    shape: Vec<usize>,
    /// "tensor(float)", as onnxruntime calls it.
    r#type: &'static str,
}

#[pymethods]
impl NodeArg {
    fn __repr__(&self) -> String {
        let Self {
            name,
            shape,
            r#type,
        } = self;
        format!("NodeArg(name={name:?}, shape={shape:?}, type={:?})", r#type)
    }
}

impl NodeArg {
    /// Of single floats.
    pub fn new(name: &str, dims: &[u32]) -> Self {
        Self {
            name: name.to_owned(),
            shape: dims.iter().map(|&dim| dim as usize).collect(),
            r#type: "tensor(float)",
        }
    }
    /// In short.
    pub fn text(&self) -> String {
        format!("{} {:?}", self.name, self.shape)
    }
}

/// Where a run's array goes.
struct Slot {
    name: String,
    /// The same, as the key of a dict.
    key: Py<PyString>,
    /// Of a full batch.
    dims: Dims,
    batch: usize,
}

impl Slot {
    fn new(py: Python<'_>, port: &Port, batch: usize) -> Self {
        Self {
            name: port.name.clone(),
            key: PyString::intern(py, &port.name).unbind(),
            dims: port.shape.dims().iter().map(|&dim| dim as usize).collect(),
            batch,
        }
    }
    /// Shape of the array for so many images; a value of the batch as a whole gets an axis in front when there are
    /// several batches.
    fn shape(&self, images: usize) -> Dims {
        let mut dims = self.dims.clone();
        match dims.first_mut() {
            Some(first) if *first == self.batch => *first = images,
            _ if images > self.batch => dims.insert(0, images / self.batch),
            _ => {}
        }
        dims
    }
    /// Images of an array, as far as its shape can tell.
    fn images(&self, shape: &[usize]) -> usize {
        match (self.dims.first(), shape) {
            (Some(&first), &[images, ..]) if first == self.batch => images,
            (_, &[batches, ref rest @ ..]) if *rest == *self.dims => batches * self.batch,
            _ => self.batch,
        }
    }
}

/// A compiled network.
pub struct Network {
    /// The engine, which holds threads: a child of a fork must not end them.
    pub engine: Arc<skimjit::Engine>,
    inputs: Vec<Slot>,
    outputs: Vec<Slot>,
    forks: u64,
}

impl Network {
    /// Of an engine that this process made.
    pub fn new(py: Python<'_>, engine: skimjit::Engine) -> Self {
        let plan = engine.plan();
        let slots = |ports: &[Port]| -> Vec<Slot> {
            let slot = |port| Slot::new(py, port, plan.batch);
            ports.iter().map(slot).collect()
        };
        Self {
            inputs: slots(&plan.inputs),
            outputs: slots(&plan.outputs),
            engine: Arc::new(engine),
            forks: forks::count(),
        }
    }

    /// The arrays of a run on `feed`: one array for the only input, or arrays by name. Results go to `out`, given in the
    /// same way, or to new arrays.
    pub fn arrays<'n, 'py>(
        &'n self,
        feed: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Arrays<'n, 'py>> {
        let py = feed.py();
        if let Ok(feed) = feed.cast::<PyDict>() {
            let inputs = self.named(feed)?;
            let images = self.images(&inputs)?;
            let outputs = self.targets(py, out, images)?;
            let keys = Some(&self.outputs[..]);
            return Ok(Arrays {
                keys,
                inputs,
                outputs,
            });
        }
        let inputs = SmallVec::from_iter([self.alone(feed)?]);
        let images = self.images(&inputs)?;
        let output = result(py, &self.outputs[0], out, images)?;
        let outputs = SmallVec::from_iter([output]);
        Ok(Arrays {
            keys: None,
            inputs,
            outputs,
        })
    }

    /// The array of the only input, for the only output.
    fn alone<'n, 'py>(&'n self, feed: &Bound<'py, PyAny>) -> PyResult<Named<'n, 'py>> {
        let ([input], [_]) = (&self.inputs[..], &self.outputs[..]) else {
            return Err(ArrayError::new_err(format!(
                "found one array for a network of the inputs {} and the outputs {}, expected arrays by name: \
                 run({{name: array}}) returns such",
                names(&self.inputs),
                names(&self.outputs)
            )));
        };
        let label = Label("input", &input.name);
        Ok((label, array(label, feed)?))
    }

    fn named<'n, 'py>(&'n self, feed: &Bound<'py, PyDict>) -> PyResult<List<'n, 'py>> {
        let py = feed.py();
        let one = |input: &'n Slot| {
            let label = Label("input", &input.name);
            match feed.get_item(input.key.bind(py))? {
                Some(given) => Ok((label, array(label, &given)?)),
                None => Err(ArrayError::new_err(format!(
                    "{label}: found no array of that name, expected one for each of {}",
                    names(&self.inputs)
                ))),
            }
        };
        let arrays = self.inputs.iter().map(one).collect::<PyResult<_>>()?;
        known("an input", feed, &self.inputs, self.inputs.len())?;
        Ok(arrays)
    }

    /// How many images the inputs are; all of them must fit.
    fn images(&self, inputs: &[Named<'_, '_>]) -> PyResult<usize> {
        let plan = self.engine.plan();
        let first = self.inputs.first().zip(inputs.first());
        let images = first.map_or(plan.batch, |(slot, (_, array))| slot.images(array.shape()));
        for (slot, (label, array)) in self.inputs.iter().zip(inputs) {
            check(*label, slot, array, images)?;
        }
        if images == 0 {
            return Err(ShapeError::new_err(
                "found no images, expected at least one",
            ));
        }
        if plan.coupled && !images.is_multiple_of(plan.batch) {
            let batch = plan.batch;
            return Err(ShapeError::new_err(format!(
                "found {images} images, expected a multiple of {batch}: a layer of this network combines the images \
                 of a batch; compile(model, batch={images}) takes them"
            )));
        }
        Ok(images)
    }

    fn targets<'n, 'py>(
        &'n self,
        py: Python<'py>,
        out: Option<&Bound<'py, PyAny>>,
        images: usize,
    ) -> PyResult<List<'n, 'py>> {
        let no_dict = |_| {
            ArrayError::new_err("out: found no dict, expected arrays by name, as the inputs are")
        };
        let out = out
            .map(|out| out.cast::<PyDict>())
            .transpose()
            .map_err(no_dict)?;
        let mut given = 0;
        let one = |slot: &'n Slot| {
            let array = out.map(|out| out.get_item(slot.key.bind(py))).transpose()?;
            let array = array.flatten();
            given += usize::from(array.is_some());
            result(py, slot, array.as_ref(), images)
        };
        let arrays = self.outputs.iter().map(one).collect::<PyResult<_>>()?;
        out.map_or(Ok(()), |out| known("an output", out, &self.outputs, given))?;
        Ok(arrays)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        forks::leak_if_inherited(self.forks, &self.engine);
    }
}

/// The array for a result: the one given, or a new one.
fn result<'n, 'py>(
    py: Python<'py>,
    slot: &'n Slot,
    given: Option<&Bound<'py, PyAny>>,
    images: usize,
) -> PyResult<Named<'n, 'py>> {
    let label = Label("output", &slot.name);
    let Some(given) = given else {
        let dims = slot.shape(images);
        return Ok((label, zeros(py, &dims)?));
    };
    let array = target(label, given)?;
    check(label, slot, &array, images)?;
    Ok((label, array))
}

/// The shape must be the network's.
fn check(label: Label<'_>, slot: &Slot, array: &Array<'_>, images: usize) -> PyResult<()> {
    let expected = slot.shape(images);
    if *array.shape() == *expected {
        return Ok(());
    }
    let found = array.shape();
    let mut text = format!("{label}: found shape {found:?}, expected {expected:?}");
    if label.0 == "input" && slot.dims.first() == Some(&slot.batch) {
        text += " with any number of images first; Model.with_input_shapes makes a model for other sizes";
    }
    Err(ShapeError::new_err(text))
}

/// Refuses names that the network does not have; `found` is how many of its names there are.
fn known(what: &str, arrays: &Bound<'_, PyDict>, slots: &[Slot], found: usize) -> PyResult<()> {
    if arrays.len() == found {
        return Ok(());
    }
    let is_name = |key: &Bound<'_, PyAny>| {
        let name = key.extract::<String>();
        name.is_ok_and(|name| slots.iter().any(|slot| slot.name == name))
    };
    let keys = arrays.keys();
    let unknown = keys.iter().find(|key| !is_name(key));
    Err(ArrayError::new_err(format!(
        "found {what} of the name {}, expected {}",
        unknown.unwrap_or(keys.into_any()).repr()?,
        names(slots)
    )))
}

fn names(slots: &[Slot]) -> String {
    let names: Vec<String> = slots
        .iter()
        .map(|slot| format!("{:?}", slot.name))
        .collect();
    names.join(", ")
}

/// Arrays in the network's order.
type List<'n, 'py> = SmallVec<[Named<'n, 'py>; USUAL]>;

/// The arrays of a run.
pub struct Arrays<'n, 'py> {
    /// The outputs, where they are returned by name.
    keys: Option<&'n [Slot]>,
    /// What is read.
    pub inputs: List<'n, 'py>,
    /// What is written.
    pub outputs: List<'n, 'py>,
}

impl<'py> Arrays<'_, 'py> {
    /// What the run returns: the array, or arrays by name.
    pub fn returned(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let mut arrays = self.outputs.into_iter().map(|(_, array)| array);
        match (self.keys, arrays.len()) {
            (None, 1) => Ok(arrays.next().into_pyobject(py)?.into_any()),
            (keys, _) => {
                let dict = PyDict::new(py);
                for (slot, array) in keys.unwrap_or_default().iter().zip(arrays) {
                    dict.set_item(slot.key.bind(py), array)?;
                }
                Ok(dict.into_any())
            }
        }
    }
}
