//! Decisions of pruning for arrays: the methods of `skimjit-pruning`, as `skimjit.torch` asks them.

use crate::arrays::{Label, Named, array, slices};
use crate::errors::{ArrayError, OptionError, detached};
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use skimjit_pruning::allocation;
use skimjit_pruning::calibration::{self, Layout};
use skimjit_pruning::cost::CostTable;
use skimjit_pruning::layer::Layer;
use skimjit_pruning::method::{Method, Run, Start};
use skimjit_pruning::recipe::MethodOptions;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Zeros by layer.
type Zeros = Vec<(String, f64)>;
/// Where a layer's weights are zero for good, by the layer's index; None: nowhere.
type Masks<'py> = BTreeMap<usize, Option<Bound<'py, PyArray1<bool>>>>;
/// Masks that changed, and what the method told.
type Decisions<'py> = (Masks<'py>, Vec<(String, Option<Zeros>)>);

/// A method of a recipe, for layers with weights.
///
/// Arguments:
///     recipe: JSON, with the keys of a method in a recipe of skimjit-train; `cost` is the table itself.
///     layers: name, dims (oc, ic / groups, kh, kw; or outputs, inputs) and groups of each.
#[pyclass(frozen, module = "skimjit._native")]
pub struct Pruning {
    layers: Vec<Layer>,
    method: Mutex<Box<dyn Method>>,
}

#[pymethods]
impl Pruning {
    #[new]
    fn new(
        py: Python<'_>,
        recipe: &str,
        layers: Vec<(String, Vec<usize>, usize)>,
    ) -> PyResult<Self> {
        let layer = |(name, dims, groups): (String, Vec<usize>, usize)| Layer {
            parameter: name.clone(),
            has_positions: dims.len() == 4,
            name,
            dims,
            groups,
        };
        let build = || Ok(MethodOptions::parse(recipe)?.build()?);
        Ok(Self {
            layers: layers.into_iter().map(layer).collect(),
            method: Mutex::new(as_option(py, detached(py, build))?),
        })
    }

    /// Before the first iteration, or where a run goes on. `zeros`: where the network computes with zeros; None: where
    /// the weights are.
    #[pyo3(signature = (weights, iteration, seed, zeros=None))]
    fn start<'py>(
        &self,
        py: Python<'py>,
        weights: Vec<Bound<'py, PyAny>>,
        iteration: u64,
        seed: u64,
        zeros: Option<Vec<Bound<'py, PyArray1<bool>>>>,
    ) -> PyResult<Decisions<'py>> {
        let copy = |zeros: &Bound<'py, PyArray1<bool>>| {
            let copied = zeros.to_vec();
            copied.map_err(|_| ArrayError::new_err("zeros: expected contiguous arrays"))
        };
        let copies = |zeros: Vec<_>| zeros.iter().map(copy).collect::<PyResult<Vec<_>>>();
        let zeros = zeros.map(copies).transpose()?;
        self.decide(py, &weights, zeros, |method, run| {
            method.start(&self.layers, Start { iteration, seed }, run)?;
            Ok(())
        })
    }

    /// Whether there is something to decide after an iteration (from 1).
    fn is_due(&self, iteration: u64) -> bool {
        self.method().is_due(iteration)
    }

    /// Decides after an iteration. `weights` are those behind masks, for a method that trains them.
    fn step<'py>(
        &self,
        py: Python<'py>,
        weights: Vec<Bound<'py, PyAny>>,
        iteration: u64,
    ) -> PyResult<Decisions<'py>> {
        self.decide(py, &weights, None, |method, run| {
            method.step(iteration, run);
            Ok(())
        })
    }

    /// The iteration after which masks stay.
    #[getter]
    fn end(&self) -> u64 {
        self.method().end()
    }

    /// Masked weights train on, unseen by the network.
    #[getter]
    fn trains_behind_masks(&self) -> bool {
        self.method().trains_behind_masks()
    }

    /// JSON of what a run that goes on later needs, beside weights and masks.
    fn save(&self) -> String {
        self.method().save().to_string()
    }

    /// Takes what save() gave, after start().
    fn restore(&self, py: Python<'_>, state: &str) -> PyResult<()> {
        let state = serde_json::from_str::<serde_json::Value>(state);
        let state = state.map_err(|error| OptionError::new_err(format!("state: {error}")))?;
        match state.is_null() {
            true => Ok(()),
            false => as_option(py, detached(py, || Ok(self.method().restore(state)?))),
        }
    }
}

impl Pruning {
    fn method(&self) -> MutexGuard<'_, Box<dyn Method>> {
        self.method.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide<'py>(
        &self,
        py: Python<'py>,
        weights: &[Bound<'py, PyAny>],
        zeros: Option<Vec<Vec<bool>>>,
        work: impl FnOnce(&mut dyn Method, &mut Arrays<'_>) -> skimjit::Result<()> + Send,
    ) -> PyResult<Decisions<'py>> {
        let named = weights.iter().zip(&self.layers).map(|(weights, layer)| {
            let label = Label("weights of", &layer.name);
            Ok((label, array(label, weights)?))
        });
        let named: Vec<Named<'_, 'py>> = named.collect::<PyResult<_>>()?;
        let memory = slices(&named, &[])?;
        self.check(&memory.sources, zeros.as_deref())?;
        let mut run = Arrays {
            weights: &memory.sources,
            zeros,
            masks: BTreeMap::new(),
            told: Vec::new(),
        };
        let decided = detached(py, || work(self.method().as_mut(), &mut run));
        as_option(py, decided)?;
        let pruned = |kept: Vec<bool>| {
            let pruned: Vec<bool> = kept.iter().map(|kept| !kept).collect();
            PyArray1::from_vec(py, pruned)
        };
        let masks = run.masks.into_iter();
        let masks = masks.map(|(layer, kept)| (layer, kept.map(pruned)));
        Ok((masks.collect(), run.told))
    }

    fn check(&self, weights: &[&[f32]], zeros: Option<&[Vec<bool>]>) -> PyResult<()> {
        let wanted: Vec<usize> = self.layers.iter().map(Layer::count).collect();
        let found: Vec<usize> = weights.iter().map(|weights| weights.len()).collect();
        let zeros = zeros.map(|zeros| zeros.iter().map(Vec::len).collect::<Vec<_>>());
        match found == wanted && zeros.is_none_or(|zeros| zeros == wanted) {
            true => Ok(()),
            false => Err(ArrayError::new_err(format!(
                "found weights of {found:?} elements, expected {wanted:?}"
            ))),
        }
    }
}

/// Arrays as a run.
struct Arrays<'a> {
    weights: &'a [&'a [f32]],
    zeros: Option<Vec<Vec<bool>>>,
    masks: BTreeMap<usize, Option<Vec<bool>>>,
    told: Vec<(String, Option<Zeros>)>,
}

impl Run for Arrays<'_> {
    fn see(&mut self, layer: usize, see: &mut dyn FnMut(&[f32])) {
        see(self.weights[layer]);
    }
    fn zeros(&mut self, layer: usize) -> Vec<bool> {
        match &self.zeros {
            Some(zeros) => zeros[layer].clone(),
            None => self.weights[layer].iter().map(|w| *w == 0.0).collect(),
        }
    }
    fn mask(&mut self, layer: usize, kept: Option<Vec<bool>>) {
        self.masks.insert(layer, kept);
    }
    fn event(&mut self, text: String, zeros: Option<Zeros>) {
        self.told.push((text, zeros));
    }
    // Each is an event too.
    fn line(&mut self, _text: &str) {}
}

/// What is wrong here is an argument.
fn as_option<T>(py: Python<'_>, outcome: PyResult<T>) -> PyResult<T> {
    outcome.map_err(
        |error| match error.is_instance_of::<crate::errors::ModelError>(py) {
            true => OptionError::new_err(error.value(py).to_string()),
            false => error,
        },
    )
}

/// The magnitude that a share of all weights does not exceed; negative when that is none.
#[pyfunction]
pub fn smallest(weights: &Bound<'_, PyAny>, share: f64) -> PyResult<f32> {
    let label = Label("weights of", "a layer");
    let named = [(label, array(label, weights)?)];
    Ok(allocation::smallest(slices(&named, &[])?.sources[0], share))
}

/// Densities of layers by their dims (Erdős–Rényi kernel), so that their mean over all weights is `density`.
#[pyfunction]
pub fn erk(dims: Vec<Vec<usize>>, density: f64) -> Vec<f64> {
    let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
    allocation::erk(&dims, density)
}

/// What a cost table (JSON) says of each layer: its name, dense milliseconds, the share of zeros from which on it gains,
/// that beyond which nothing is won, and milliseconds there.
#[pyfunction]
#[expect(clippy::type_complexity, reason = "a row of a table")]
pub fn gains(py: Python<'_>, table: &str) -> PyResult<Vec<(String, f64, Option<f64>, f64, f64)>> {
    let table = as_option(py, detached(py, || Ok(CostTable::parse(table)?)))?;
    let row = |layer: &skimjit_pruning::cost::LayerCost| {
        let bound = layer.bound();
        let name = layer.layer.clone();
        (
            name,
            layer.dense_ms(),
            layer.crossover(),
            bound,
            layer.ms(bound),
        )
    };
    Ok(table.layers.iter().map(row).collect())
}

/// Moments of a layer's inputs, by which its weights are pruned without training.
///
/// Arguments:
///     groups, filters, columns: of the layer, of a group, and the inputs that a filter sees.
#[pyclass(frozen, module = "skimjit._native")]
pub struct Moments {
    layout: Layout,
    inner: Mutex<Option<calibration::Moments>>,
}

#[pymethods]
impl Moments {
    #[new]
    fn new(groups: usize, filters: usize, columns: usize) -> PyResult<Self> {
        if [groups, filters, columns].contains(&0) {
            return Err(OptionError::new_err(format!(
                "groups, filters, columns: found {groups}, {filters}, {columns}, expected 1 or more"
            )));
        }
        let layout = Layout {
            groups,
            filters,
            columns,
            transposed: false,
        };
        Ok(Self {
            inner: Mutex::new(Some(calibration::Moments::new(layout.clone()))),
            layout,
        })
    }

    /// Adds inputs. `samples` None: rows × columns, of an inner product. Else windows of images: images × groups ×
    /// columns × samples.
    #[pyo3(signature = (inputs, samples=None))]
    fn add(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyAny>,
        samples: Option<usize>,
    ) -> PyResult<()> {
        let label = Label("inputs of", "a layer");
        let named = [(label, array(label, inputs)?)];
        let memory = slices(&named, &[])?;
        let (inputs, size) = (
            memory.sources[0],
            self.layout.columns * samples.unwrap_or(1),
        );
        if size == 0 || inputs.len() % size != 0 {
            return Err(ArrayError::new_err(format!(
                "{label}: found {} elements, expected a multiple of {size}",
                inputs.len()
            )));
        }
        detached(py, || {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            match (inner.as_mut(), samples) {
                (Some(moments), None) => moments.add_rows(inputs),
                (Some(moments), Some(samples)) => {
                    for (index, windows) in inputs.chunks_exact(size).enumerate() {
                        moments.add_windows(index % self.layout.groups, windows, samples);
                    }
                }
                (None, _) => {}
            }
            Ok(())
        })
    }

    /// Prunes weights (filters × columns, by groups) and forgets the inputs: the weights; what offsets gain, where there
    /// are any; the error, that of pruning by magnitude; blocks. None: inputs that are no numbers.
    #[expect(clippy::type_complexity, reason = "a row of a table")]
    fn prune<'py>(
        &self,
        py: Python<'py>,
        weights: &Bound<'py, PyAny>,
        has_offset: bool,
        sparsity: f64,
        damping: f32,
    ) -> PyResult<Option<(Bound<'py, PyArray1<f32>>, Option<Vec<f64>>, f64, f64, usize)>> {
        let label = Label("weights of", "a layer");
        let named = [(label, array(label, weights)?)];
        let memory = slices(&named, &[])?;
        let weights = memory.sources[0];
        let count = self.layout.groups * self.layout.filters * self.layout.columns;
        if weights.len() != count {
            return Err(ArrayError::new_err(format!(
                "{label}: found {} elements, expected {count}",
                weights.len()
            )));
        }
        let taken = || {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.take()
        };
        let prune =
            |moments: calibration::Moments| moments.prune(weights, has_offset, sparsity, damping);
        let pruned = detached(py, || Ok(taken().and_then(prune)))?;
        Ok(pruned.map(|pruned| {
            let weights = PyArray1::from_vec(py, pruned.weights);
            let (error, magnitude) = (pruned.error, pruned.magnitude_error);
            (weights, pruned.shifts, error, magnitude, pruned.blocks)
        }))
    }
}
