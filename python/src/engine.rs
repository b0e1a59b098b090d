//! `skimjit.compile`, `skimjit.Engine` and `skimjit.Session`.

use crate::errors::detached;
use crate::measure::{Measured, measure};
use crate::model::Model;
use crate::network::{Network, NodeArg};
use crate::options::{isa, threads, tuning};
use crate::team::{Team, pool};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use skimjit::{CompileOptions, Isa, Keep, Port, Shared, Tuning};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What an engine is made with, here and where it is sent to.
#[derive(Clone)]
pub struct Choices {
    batch: Option<u32>,
    isa: Option<Isa>,
    threads: Option<usize>,
    keep: Vec<String>,
    variants: HashMap<String, String>,
}

impl Choices {
    /// For the engine crate.
    pub fn options(&self, tuning: Option<Tuning>) -> PyResult<CompileOptions> {
        Ok(CompileOptions {
            batch: self.batch,
            isa: self.isa,
            threads: threads(self.threads)?,
            keep: match self.keep.is_empty() {
                true => Keep::Outputs,
                false => Keep::Named(self.keep.clone()),
            },
            variants: self.variants.clone(),
            tuning,
            ..CompileOptions::default()
        })
    }
}

/// Plans a network and generates its code.
///
/// Arguments:
///     model: a Model, or what Model() takes first.
///     batch: images computed together; None: as many as the model says. A run takes any number of images, unless layers
///         combine them.
///     isa: "avx2" or "avx512"; None: the best that this machine has.
///     threads: of a run, the caller included; None: one per core that affinity and control group allow.
///     tune: False: kernels are chosen by estimates, the same on every machine. True: by timing them, some seconds. A
///         path: by the times in that file, to which missing ones are added.
///     keep: names of blobs to get beside the outputs.
///     variants: kernel by layer name, used where it can be.
///
/// Raises:
///     CompileError: the network cannot be planned, or there is no memory for it.
///     IsaError: the machine does not have the instruction set.
///     OptionError: an argument that cannot be used.
#[pyfunction]
#[pyo3(signature = (model, *, batch=None, isa=None, threads=None, tune=None, keep=None, variants=None))]
pub fn compile(
    model: &Bound<'_, PyAny>,
    batch: Option<u32>,
    isa: Option<&str>,
    threads: Option<usize>,
    tune: Option<&Bound<'_, PyAny>>,
    keep: Option<Vec<String>>,
    variants: Option<HashMap<String, String>>,
) -> PyResult<Engine> {
    let py = model.py();
    let model = match model.cast::<Model>() {
        Ok(model) => model.clone(),
        Err(_) => py.get_type::<Model>().call1((model,))?.cast_into()?,
    };
    let choices = Choices {
        batch,
        isa: self::isa(isa)?,
        threads,
        keep: keep.unwrap_or_default(),
        variants: variants.unwrap_or_default(),
    };
    Engine::new(model, choices, tuning(py, tune)?)
}

/// An engine from its pickled parts: the artifact of Engine.to_bytes(), compiled for this machine.
#[pyfunction]
pub fn restore(
    py: Python<'_>,
    artifact: PyBackedBytes,
    isa: Option<&str>,
    threads: Option<usize>,
    keep: Vec<String>,
) -> PyResult<Engine> {
    let model = detached(py, || Model::of_artifact(&artifact))?;
    let choices = Choices {
        batch: None,
        isa: self::isa(isa)?,
        threads,
        keep,
        variants: HashMap::new(),
    };
    Engine::new(Bound::new(py, model)?, choices, None)
}

/// A compiled network, made by compile(). Any number of threads may run it at the same time; each gets memory of its own.
/// Engines of one thread compute at the same time then, others take turns on their team: see session().
///
/// It can be pickled: what is sent is the artifact, which is compiled again with the same kernels where it arrives. A
/// child of fork() starts threads of its own.
#[pyclass(frozen, module = "skimjit")]
pub struct Engine {
    model: Py<Model>,
    choices: Choices,
    network: Arc<Network>,
    team: Team,
}

impl Engine {
    fn new(model: Bound<'_, Model>, choices: Choices, tuning: Option<Tuning>) -> PyResult<Self> {
        let py = model.py();
        let threads = threads(choices.threads)?;
        let cache = tuning.as_ref().map(|tuning| tuning.cache.clone());
        let options = choices.options(tuning)?;
        let shared = shared(threads)?;
        let network = model.get().inner();
        let engine = detached(py, || {
            let engine = network.compile_with(&options, &shared)?;
            // Nothing is written without a path.
            cache.map(|cache| cache.save()).transpose()?;
            Ok(engine)
        })?;
        let network = Arc::new(Network::new(py, engine));
        let team = Team::new(&network, threads, Some(shared.pool));
        Ok(Self {
            model: model.unbind(),
            choices,
            network,
            team,
        })
    }

    /// Its model.
    pub fn model(&self) -> &skimjit::Model {
        self.model.get().inner()
    }
    /// The engine crate's.
    pub fn inner(&self) -> &skimjit::Engine {
        &self.network.engine
    }
    /// The network with its arrays.
    pub fn network(&self) -> &Network {
        &self.network
    }
    /// Options that make an engine of the same kernels.
    pub fn same_kernels(&self) -> PyResult<CompileOptions> {
        let plan = self.inner().plan();
        let chosen = plan.choices.iter();
        let variants = chosen.map(|choice| (choice.layer.clone(), choice.variant.clone()));
        let choices = Choices {
            batch: Some(plan.batch as u32),
            variants: variants.collect(),
            ..self.choices.clone()
        };
        choices.options(None)
    }
}

/// A team for an engine, and threads that generate its code: all of this process, as a child of a fork has none of the
/// common ones.
pub fn shared(threads: usize) -> PyResult<Shared> {
    Ok(Shared {
        pool: pool(threads)?,
        kernels: None,
        builders: Some(pool(skimjit::usable_cores())?),
    })
}

#[pymethods]
impl Engine {
    /// Computes the outputs for any number of images.
    ///
    /// Arguments:
    ///     x: an array of float32, N × ..., for a network of one input and one output; or arrays by name, {input: array}.
    ///         Contiguous arrays are read where they are: of numpy, or of anything with __dlpack__ or __array__.
    ///     out: an array of numpy for the result, or arrays by output name; those not given are made.
    ///
    /// Returns:
    ///     The output, an array of float32 of N × ...; or all outputs by name, if the inputs were given by name.
    ///
    /// Raises:
    ///     DTypeError: no array of float32 in this machine's order of bytes; a masked array.
    ///     ShapeError: a shape that is not the network's, or no images.
    ///     LayoutError: an array that is not contiguous, or an out that is read-only or in the memory of another array.
    ///     NotFiniteError: an input with an infinity or NaN.
    ///     ArrayError: a missing or unknown name.
    #[pyo3(signature = (x, /, out=None))]
    fn run<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.team.run(x, out)
    }

    /// The engine on a team of threads of its own: sessions run at the same time. None: as many threads as the engine has.
    #[pyo3(signature = (*, threads=None))]
    fn session(slf: Bound<'_, Self>, threads: Option<usize>) -> PyResult<Session> {
        let own = slf.get();
        let threads = match threads {
            None => own.team.threads(),
            asked => self::threads(asked)?,
        };
        let team = Team::new(&own.network, threads, None);
        Ok(Session {
            engine: slf.unbind(),
            team,
        })
    }

    /// Inputs, with the shape of a full batch.
    #[getter]
    fn inputs(&self) -> Vec<NodeArg> {
        ports(&self.inner().plan().inputs)
    }
    /// Outputs, with the shape of a full batch.
    #[getter]
    fn outputs(&self) -> Vec<NodeArg> {
        ports(&self.inner().plan().outputs)
    }
    /// The model that it was made of.
    #[getter(model)]
    fn model_of(&self, py: Python<'_>) -> Py<Model> {
        self.model.clone_ref(py)
    }
    /// Images computed together.
    #[getter]
    fn batch(&self) -> usize {
        self.inner().plan().batch
    }
    /// Some layer combines the images of a batch: a run takes full batches only.
    #[getter]
    fn combines_images(&self) -> bool {
        self.inner().plan().coupled
    }
    /// Instruction set of the code.
    #[getter]
    fn isa(&self) -> String {
        self.inner().plan().isa.to_string()
    }
    /// Threads of a run.
    #[getter]
    fn threads(&self) -> usize {
        self.team.threads()
    }
    /// Bytes of generated code.
    #[getter]
    fn code_bytes(&self) -> usize {
        self.inner().plan().code_bytes
    }
    /// Bytes of memory that each caller that runs at the same time needs.
    #[getter]
    fn session_bytes(&self) -> u64 {
        self.inner().plan().session_bytes(self.team.threads())
    }

    /// The artifact: the network, its weights in compressed form, and the kernels chosen, without machine code.
    /// compile() and Model() take it.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, || self.model().artifact(Some(self.inner())))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes to_bytes() to a file; the file is there as a whole or not at all.
    #[pyo3(signature = (path, /))]
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        detached(py, || self.model().write_artifact(self.inner(), &path))
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let restore = py.import("skimjit._native")?.getattr("restore")?;
        let isa = self.choices.isa.map(|isa| isa.to_string());
        let (artifact, choices) = (self.to_bytes(py)?, &self.choices);
        let parts = (artifact, isa, choices.threads, choices.keep.clone());
        Ok((restore, parts.into_pyobject(py)?))
    }
    fn __repr__(&self) -> String {
        let text = |ports: Vec<NodeArg>| {
            let text: Vec<String> = ports.iter().map(NodeArg::text).collect();
            text.join(", ")
        };
        format!(
            "<skimjit.Engine {:?}: {} -> {}, batch {}, {}, {} threads>",
            self.model().graph().name,
            text(self.inputs()),
            text(self.outputs()),
            self.batch(),
            self.isa(),
            self.threads()
        )
    }
}

fn ports(ports: &[Port]) -> Vec<NodeArg> {
    let port = |port: &Port| NodeArg::new(&port.name, port.shape.dims());
    ports.iter().map(port).collect()
}

/// An engine on a team of threads of its own, made by Engine.session(). It can be used in a with statement.
#[pyclass(frozen, module = "skimjit")]
pub struct Session {
    engine: Py<Engine>,
    team: Team,
}

#[pymethods]
impl Session {
    /// As Engine.run().
    ///
    /// Raises:
    ///     ClosedError: the session was closed.
    #[pyo3(signature = (x, /, out=None))]
    fn run<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.team.run(x, out)
    }

    /// Gives threads and memory back. Runs of other threads that have begun are finished; later ones raise ClosedError.
    fn close(&self) {
        self.team.close();
    }

    /// The engine.
    #[getter]
    fn engine(&self, py: Python<'_>) -> Py<Engine> {
        self.engine.clone_ref(py)
    }
    /// Threads of a run.
    #[getter]
    fn threads(&self) -> usize {
        self.team.threads()
    }
    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.team.is_closed()
    }

    /// Times of runs in nanoseconds, for skimjit.benchmark(): for `seconds`, at least `least` of them; then, by layer,
    /// those of as many runs that are timed step by step.
    fn _measure<'py>(
        &self,
        x: &Bound<'py, PyAny>,
        seconds: f64,
        least: usize,
    ) -> PyResult<Measured<'py>> {
        measure(self.engine.get().network(), &self.team, x, seconds, least)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
    #[pyo3(signature = (*_raised))]
    fn __exit__(&self, _raised: &Bound<'_, PyTuple>) {
        self.close();
    }
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Py<Engine>,))> {
        let threads = PyDict::new(py);
        threads.set_item("threads", self.threads())?;
        let caller = py.import("operator")?.getattr("methodcaller")?;
        let made = caller.call(("session",), Some(&threads))?;
        Ok((made, (self.engine(py),)))
    }
    fn __repr__(&self) -> String {
        let open = if self.closed() { "closed" } else { "open" };
        format!(
            "<skimjit.Session of {}, {} threads, {open}>",
            self.engine.get().__repr__(),
            self.threads()
        )
    }
}
