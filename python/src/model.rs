//! `skimjit.Model`.

use crate::errors::{OptionError, detached, exception};
use crate::network::NodeArg;
use crate::options::{Source, load_options, shapes, warn};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};
use skimjit::picture::{ChannelOrder, Mean, Preprocess, Resize};
use skimjit::{Error, Graph, InputError, LoadOptions, labels};
use std::path::{Path, PathBuf};

/// A network: what to compute, and the weights.
///
/// Arguments:
///     source: path or bytes of an ONNX model, a caffemodel (also .h5), a Caffe definition or an artifact of skimjit;
///         the contents decide.
///     prototxt: Caffe's definition for the weights: a path, or its text as bytes.
///     input_shapes: shape of the only input, or shapes by name, for what the file leaves open or has otherwise.
///     labels: names of the classes, or the path of a file with them (one a line, CSV, JSON).
///     zero_below: weights of this magnitude and below become zero.
///     allow_missing_weights: weights that no file has come from their layer's filler.
///     random_weights: with allow_missing_weights, what would be all zero is random instead.
///     caffe_in_place: layers in place change every blob that Caffe keeps in the same memory.
///     ignore_unknown_fields: Caffe's layers are read without fields that are not known.
///     level, stages: for Caffe's include and exclude rules.
///
/// What is odd about a file is a ModelWarning, and in warnings.
///
/// Raises:
///     ModelError: no model, or one with something that cannot be run; it names file, layer, field, found and expected.
///     FileError: the file cannot be read.
///     OptionError: an argument does not fit the kind of file.
#[pyclass(frozen, module = "skimjit")]
pub struct Model {
    inner: skimjit::Model,
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (source, *, prototxt=None, input_shapes=None, labels=None, zero_below=None,
        allow_missing_weights=false, random_weights=false, caffe_in_place=false, ignore_unknown_fields=false, level=0,
        stages=None))]
    #[expect(clippy::too_many_arguments, reason = "they are named by the caller")]
    fn new(
        source: &Bound<'_, PyAny>,
        prototxt: Option<&Bound<'_, PyAny>>,
        input_shapes: Option<&Bound<'_, PyAny>>,
        labels: Option<&Bound<'_, PyAny>>,
        zero_below: Option<f32>,
        allow_missing_weights: bool,
        random_weights: bool,
        caffe_in_place: bool,
        ignore_unknown_fields: bool,
        level: i32,
        stages: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let py = source.py();
        let source = Source::of("source", source)?;
        let prototxt = prototxt
            .map(|given| Source::of("prototxt", given))
            .transpose()?;
        let options = LoadOptions {
            allow_missing_weights,
            random_weights,
            caffe_in_place,
            ignore_unknown_fields,
            level,
            stages: stages.unwrap_or_default(),
            ..load_options(input_shapes, zero_below)?
        };
        let mut inner = detached(py, || load(&source, prototxt.as_ref(), options))?;
        if let Some(given) = labels {
            let names = names(given)?;
            inner.set_labels(names).map_err(exception)?;
        }
        for text in &inner.warnings {
            warn(py, text)?;
        }
        Ok(Self { inner })
    }

    /// The network's name.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.graph().name
    }
    /// Inputs, with the shapes of the file or those asked for.
    #[getter]
    fn inputs(&self) -> Vec<NodeArg> {
        let graph = self.inner.graph();
        graph.inputs.iter().map(|&id| value(graph, id.0)).collect()
    }
    /// Outputs.
    #[getter]
    fn outputs(&self) -> Vec<NodeArg> {
        let graph = self.inner.graph();
        graph.outputs.iter().map(|&id| value(graph, id.0)).collect()
    }
    /// Images that are computed together unless compile() is told otherwise.
    #[getter]
    fn batch(&self) -> u32 {
        self.inner.batch()
    }
    /// Names of the classes, that of class 0 first; empty where they are not known.
    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.inner.labels())
    }
    /// What is odd about the file, one text each.
    #[getter]
    fn warnings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.inner.warnings)
    }
    /// How pictures become inputs, a skimjit.vision.Preprocess; None where nothing is known.
    #[getter]
    fn preprocess<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let preprocess = self.inner.preprocess();
        preprocess
            .map(|preprocess| in_python(py, preprocess))
            .transpose()
    }

    /// The same network for inputs of other shapes, by name; inputs that are not named keep theirs. An artifact's
    /// choices of kernels are kept where they can be.
    ///
    /// Raises:
    ///     ModelError: a layer does not take that size; it is named.
    #[pyo3(signature = (shapes, /))]
    fn with_input_shapes(&self, py: Python<'_>, shapes: &Bound<'_, PyDict>) -> PyResult<Self> {
        let named = self::shapes(shapes)?;
        let inner = detached(py, || {
            let named = named
                .iter()
                .map(|(name, shape)| (name.as_str(), shape.clone()));
            self.inner.with_input_shapes(&named.collect::<Vec<_>>())
        })?;
        Ok(Self { inner })
    }

    /// The network as an artifact, which Model() reads: its weights in compressed form, classes and preprocessing, no
    /// machine code; choices of kernels, if it was read from an artifact with such.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = detached(py, || self.inner.artifact(None))?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn __reduce__<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyType>, (Bound<'py, PyBytes>,))> {
        Ok((py.get_type::<Self>(), (self.to_bytes(py)?,)))
    }
    fn __repr__(&self) -> String {
        let graph = self.inner.graph();
        let shapes = |ids: Vec<NodeArg>| {
            let text: Vec<String> = ids.iter().map(NodeArg::text).collect();
            text.join(", ")
        };
        format!(
            "<skimjit.Model {:?}: {} -> {}, {} layers>",
            graph.name,
            shapes(self.inputs()),
            shapes(self.outputs()),
            graph.nodes.len()
        )
    }
}

impl Model {
    /// The engine's model.
    pub fn inner(&self) -> &skimjit::Model {
        &self.inner
    }
    /// Of an artifact.
    pub fn of_artifact(bytes: &[u8]) -> skimjit::Result<Self> {
        let inner = skimjit::Model::from_bytes(bytes, None, &LoadOptions::default())?;
        Ok(Self { inner })
    }
}

fn value(graph: &Graph, id: u32) -> NodeArg {
    let value = &graph.values[id as usize];
    NodeArg::new(&value.name, value.shape.dims())
}

fn load(
    source: &Source,
    prototxt: Option<&Source>,
    mut options: LoadOptions,
) -> skimjit::Result<skimjit::Model> {
    let text = match prototxt {
        None => None,
        Some(Source::File(path)) => {
            options.prototxt = Some(path.clone());
            None
        }
        Some(Source::Bytes(bytes)) => Some(std::str::from_utf8(bytes).map_err(|error| {
            let error = InputError::new(error.to_string()).field("prototxt");
            Error::from(error.expected("a definition's text in UTF-8"))
        })?),
    };
    match source {
        Source::Bytes(bytes) => skimjit::Model::from_bytes(bytes, text, &options),
        Source::File(path) if text.is_none() => skimjit::Model::load(path, &options),
        Source::File(path) => skimjit::Model::from_bytes(&read(path)?, text, &options),
    }
}

fn read(path: &Path) -> skimjit::Result<Vec<u8>> {
    let unreadable = |error| InputError::unreadable(path, &error, "a caffemodel");
    Ok(std::fs::read(path).map_err(unreadable)?)
}

/// Names of classes: a file's, or these.
fn names(given: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let is_text = given.is_instance_of::<PyString>();
    match (given.extract::<Vec<String>>(), given.extract::<PathBuf>()) {
        (Ok(names), _) if !is_text => Ok(names),
        (_, Ok(path)) => labels::read(&path).map_err(|error| exception(error.into())),
        _ => Err(OptionError::new_err(
            "labels: expected names of classes, or the path of a file with them",
        )),
    }
}

/// As an object of `skimjit.vision`.
fn in_python<'py>(py: Python<'py>, preprocess: &Preprocess) -> PyResult<Bound<'py, PyAny>> {
    let order = match preprocess.channel_order {
        ChannelOrder::Bgr => "BGR",
        ChannelOrder::Rgb => "RGB",
    };
    let fields = PyDict::new(py);
    fields.set_item("channel_order", order)?;
    fields.set_item("crop", preprocess.crop)?;
    fields.set_item("scale", preprocess.scale)?;
    match preprocess.resize {
        None => {}
        Some(Resize::Short(side)) => fields.set_item("resize", side)?,
        Some(Resize::Exact(width, height)) => fields.set_item("resize", (height, width))?,
    }
    match &preprocess.mean {
        Mean::None => {}
        Mean::Values(values) => fields.set_item("mean", PyTuple::new(py, values)?)?,
        Mean::Image(image) => {
            let dims: Vec<usize> = image
                .shape()
                .dims()
                .iter()
                .map(|&dim| dim as usize)
                .collect();
            let array = numpy::PyArray1::from_slice(py, image.data());
            let dims = dims
                .strip_prefix(&[1])
                .filter(|rest| rest.len() == 3)
                .unwrap_or(&dims);
            fields.set_item("mean", numpy::PyArrayMethods::reshape(&array, dims)?)?;
        }
        Mean::Missing(file) => {
            return Err(exception(Error::from(
                InputError::new(format!("no file {file:?}"))
                    .field("transform_param.mean_file")
                    .expected("the mean image that the network subtracts"),
            )));
        }
    }
    let vision = py.import("skimjit.vision")?;
    vision.getattr("Preprocess")?.call((), Some(&fields))
}
