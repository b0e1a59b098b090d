//! Networks, ready to run.

use super::failure::{Failure, Outcome, Status, c_text, guard, guard_value, needed};
use super::memory::{In, Out, Text, growing};
use super::options::{MAX_RANK, Options, Shape, isa_number, shape};
use engine::Shared;
use engine::{CompileOptions, Engine, LoadOptions, Model as Network};
use skimjit_host::memory;
use skimjit_models::preprocess::{ChannelOrder, Mean, Preprocess as Preparation, Resize};
use skimjit_runtime::{KernelStore, Port as PlanPort};
use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::Arc;

/// A network with its generated code. It never changes, and any number of threads may use it.
pub struct Model {
    network: Network,
    options: CompileOptions,
    shared: Shared,
    /// Of what is made from it; `None`: what is free.
    pub(super) memory_limit: Option<u64>,
    pub(super) engine: Engine,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
    warnings: Vec<CString>,
    labels: Vec<CString>,
}

/// What a model is. Set `size` to sizeof(skimjit_model_info).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ModelInfo {
    /// sizeof(skimjit_model_info).
    pub size: usize,
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Images that are computed together.
    pub batch: usize,
    /// Bytes of generated code.
    pub code_bytes: usize,
    /// Bytes that a session needs.
    pub session_bytes: u64,
    /// Threads of its team.
    pub threads: u32,
    /// SKIMJIT_ISA_...: instruction set of the code.
    pub isa: u32,
}

growing!(ModelInfo, "skimjit_model_info", 56);

/// An input or output. Set `size` to sizeof(skimjit_port).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Port {
    /// sizeof(skimjit_port).
    pub size: usize,
    /// Name of the blob, UTF-8. Belongs to the model.
    pub name: *const c_char,
    /// Elements of a row: an image, or the whole array where it is not per image.
    pub row_elems: usize,
    /// 1: an array has one row per image. 0: one per full batch.
    pub per_image: u32,
    /// Number of dims.
    pub rank: u32,
    /// Shape for a full batch, its first dim N the images; 0 beyond `rank`.
    pub dims: [u32; MAX_RANK],
    /// 1: images depend on each other, so that a run takes full batches only. 0: any number of images.
    pub full_batches: u32,
    /// Always 0.
    pub reserved: u32,
}

growing!(Port, "skimjit_port", 72);

/// How a picture becomes the input of a model, in this order: resize, cut out the centre, subtract the mean,
/// scale; pixels are 0 to 255. Set `size` to sizeof(skimjit_preprocess).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Preprocess {
    /// sizeof(skimjit_preprocess).
    pub size: usize,
    /// What is subtracted, in the order of the channels; null: nothing. Belongs to the model.
    pub mean: *const f32,
    /// Number of values in `mean`: one for all channels, one per channel, or an image, channel by channel, as
    /// large as the picture before it is cut.
    pub mean_count: usize,
    /// Height of the mean image; 0: it is none.
    pub mean_height: u32,
    /// Width of the mean image.
    pub mean_width: u32,
    /// 1: the following is known. 0: nothing is, and all fields are 0.
    pub known: u32,
    /// 1: the first channel is red. 0: it is blue, as Caffe has it. Without meaning for one channel.
    pub rgb: u32,
    /// Width that pictures are resized to, with `resize_height`; 0: they are not.
    pub resize_width: u32,
    /// Height that pictures are resized to.
    pub resize_height: u32,
    /// Length that the shorter side is resized to; 0: it is not.
    pub resize_short: u32,
    /// Side of the square that is cut from the centre; 0: none.
    pub crop: u32,
    /// Factor, after the mean is subtracted.
    pub scale: f32,
    /// Always 0.
    pub reserved: u32,
}

growing!(Preprocess, "skimjit_preprocess", 64);

/// Loads a network from a .skim, .onnx, .caffemodel or .caffemodel.h5 file (the contents decide), and
/// generates its code. `options` may be null.
///
/// The caller owns `*model`, and frees it with `skimjit_model_free`. Nothing is written to `*model` when
/// the call fails.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_load_file(
    path: Text,
    options: In<Options>,
    model: Out<*mut Model>,
) -> Status {
    guard(|| {
        model.check("model")?;
        let path = needed("path", path.path())?;
        let loaded = Model::load(&options.read()?, |text, load| match text {
            None => Ok(Network::load(path, load)?),
            Some(_) => Ok(Network::from_bytes(&read_file(path)?, text, load)?),
        })?;
        model.set(loaded.into_raw());
        Ok(())
    })
}

/// Loads a network from what such a file contains. The bytes are not needed after the call, and need
/// no alignment.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_load_memory(
    data: In<u8>,
    bytes: usize,
    options: In<Options>,
    model: Out<*mut Model>,
) -> Status {
    guard(|| {
        model.check("model")?;
        let data = data.array("data", bytes)?;
        let loaded = Model::load(&options.read()?, |text, load| {
            Ok(Network::from_bytes(data, text, load)?)
        })?;
        model.set(loaded.into_raw());
        Ok(())
    })
}

/// Makes the same network for inputs of other shapes; inputs that are not listed keep theirs. Weights,
/// threads, and kernels that come out the same are shared with `model`, which stays as it is.
///
/// Fully convolutional networks, and those that end in a global pooling, take any size; a layer that
/// does not is named by the error. The caller owns `*reshaped`.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_reshape(
    model: Option<&Model>,
    shapes: In<Shape>,
    count: usize,
    reshaped: Out<*mut Model>,
) -> Status {
    guard(|| {
        reshaped.check("reshaped")?;
        let model = needed("model", model)?;
        let shapes = shapes.array("shapes", count)?;
        let made = memory::within(model.memory_limit, || model.reshape(shapes))?;
        reshaped.set(made.into_raw());
        Ok(())
    })
}

/// Frees a model; null is allowed. Its sessions, and models made from it, live on.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_free(model: Option<Box<Model>>) {
    guard(|| {
        drop(model);
        Ok(())
    });
}

/// Describes a model.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_get_info(model: Option<&Model>, info: Out<ModelInfo>) -> Status {
    guard(|| {
        let engine = &needed("model", model)?.engine;
        let plan = engine.plan();
        info.fill(ModelInfo {
            size: 0,
            inputs: plan.inputs.len(),
            outputs: plan.outputs.len(),
            batch: plan.batch,
            code_bytes: plan.code_bytes,
            session_bytes: plan.session_bytes(engine.threads()),
            threads: engine.threads() as u32,
            isa: isa_number(plan.isa),
        })
    })
}

/// Describes input `index`, counted from 0 in the order of a run.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_get_input(
    model: Option<&Model>,
    index: usize,
    port: Out<Port>,
) -> Status {
    guard(|| {
        let model = needed("model", model)?;
        let ports = &model.engine.plan().inputs;
        port.fill(describe("input", model, ports, &model.inputs, index)?)
    })
}

/// Describes output `index`, counted from 0 in the order of a run.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_get_output(
    model: Option<&Model>,
    index: usize,
    port: Out<Port>,
) -> Status {
    guard(|| {
        let model = needed("model", model)?;
        let ports = &model.engine.plan().outputs;
        port.fill(describe("output", model, ports, &model.outputs, index)?)
    })
}

/// What was noticed when the network was read (unknown fields, weights that are not used and the like),
/// one line for each index from 0; null beyond the last one. The text belongs to the model.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_get_warning(model: Option<&Model>, index: usize) -> *const c_char {
    guard_value(std::ptr::null(), || {
        let warnings = &needed("model", model)?.warnings;
        Ok(warnings
            .get(index)
            .map_or(std::ptr::null(), |text| text.as_ptr()))
    })
}

/// Says how pictures become inputs, as the data layer of the definition does it or as it was said when the
/// artifact was compiled.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_get_preprocess(
    model: Option<&Model>,
    preprocess: Out<Preprocess>,
) -> Status {
    guard(|| {
        let model = needed("model", model)?;
        preprocess.fill(describe_preprocess(model.network.preprocess())?)
    })
}

/// Name of a class, UTF-8; null where it is not known. It names the classes of outputs with as many as there
/// are names. The text belongs to the model.
#[unsafe(no_mangle)]
pub extern "C" fn skimjit_model_get_label(model: Option<&Model>, class: usize) -> *const c_char {
    guard_value(std::ptr::null(), || {
        let labels = &needed("model", model)?.labels;
        Ok(labels
            .get(class)
            .map_or(std::ptr::null(), |text| text.as_ptr()))
    })
}

fn describe_preprocess(preprocess: Option<&Preparation>) -> Outcome<Preprocess> {
    let (mean, [mean_height, mean_width]) = match preprocess.map(|own| &own.mean) {
        None | Some(Mean::None) => (&[][..], [0, 0]),
        Some(Mean::Values(values)) => (&values[..], [0, 0]),
        Some(Mean::Image(image)) => match *image.shape().dims() {
            [.., height, width] => (image.data(), [height, width]),
            _ => (image.data(), [0, 0]),
        },
        Some(Mean::Missing(file)) => {
            return Err(Failure::new(
                Status::Input,
                format!(
                    "transform_param.mean_file: found no file {file:?}, expected the mean image"
                ),
            ));
        }
    };
    let own = preprocess.cloned().unwrap_or_default();
    let (resize, resize_short) = match own.resize {
        None => ([0, 0], 0),
        Some(Resize::Exact(width, height)) => ([width, height], 0),
        Some(Resize::Short(side)) => ([0, 0], side),
    };
    Ok(Preprocess {
        size: 0,
        mean: if mean.is_empty() {
            std::ptr::null()
        } else {
            mean.as_ptr()
        },
        mean_count: mean.len(),
        mean_height,
        mean_width,
        known: u32::from(preprocess.is_some()),
        rgb: u32::from(own.channel_order == ChannelOrder::Rgb),
        resize_width: resize[0],
        resize_height: resize[1],
        resize_short,
        crop: own.crop.unwrap_or(0),
        scale: if preprocess.is_some() { own.scale } else { 0.0 },
        reserved: 0,
    })
}

fn describe(
    what: &str,
    model: &Model,
    ports: &[PlanPort],
    names: &[CString],
    index: usize,
) -> Outcome<Port> {
    let (Some(port), Some(name)) = (ports.get(index), names.get(index)) else {
        return Err(Failure::index(what, index, ports.len()));
    };
    let mut dims = [0; MAX_RANK];
    for (to, &from) in dims.iter_mut().zip(port.shape.dims()) {
        *to = from;
    }
    Ok(Port {
        size: 0,
        name: name.as_ptr(),
        row_elems: port.elems,
        per_image: u32::from(port.per_image),
        rank: port.shape.rank() as u32,
        dims,
        full_batches: u32::from(model.engine.plan().coupled),
        reserved: 0,
    })
}

fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    memory::read_file(path, u64::MAX).map_err(|error| {
        let file = path.display();
        Failure::new(
            Status::Input,
            format!("{file}: {error}; expected a readable file"),
        )
    })
}

impl Model {
    /// Reads a network, of which the topology may be given as text, and generates its code.
    fn load(
        options: &Options,
        read: impl FnOnce(Option<&str>, &LoadOptions) -> Outcome<Network>,
    ) -> Outcome<Self> {
        let text = options.prototxt_text.get("prototxt_text")?;
        let load = options.load_options()?;
        memory::within(options.memory_limit(), || {
            Self::new(read(text, &load)?, options)
        })
    }

    fn new(network: Network, options: &Options) -> Outcome<Self> {
        let compile = options.compile_options()?;
        let pool = options.pool()?;
        let shared = Shared {
            // No thread that the caller did not ask for.
            builders: Some(pool.clone()),
            pool,
            kernels: Some(Arc::new(KernelStore::default())),
        };
        let cache = compile.tuning.as_ref().map(|tuning| tuning.cache.clone());
        let limit = options.memory_limit();
        let model = Self::compile(network, compile, shared, limit)?;
        // Nothing is written without a path.
        cache.map(|cache| cache.save()).transpose()?;
        Ok(model)
    }

    fn compile(
        network: Network,
        options: CompileOptions,
        shared: Shared,
        memory_limit: Option<u64>,
    ) -> Outcome<Self> {
        let engine = network.compile_with(&options, &shared);
        let engine = engine.map_err(|error| Failure::from(error).after(&network.warnings))?;
        let names = |ports: &[PlanPort]| ports.iter().map(|port| c_text(&port.name)).collect();
        let warnings = network.warnings.iter().map(|text| c_text(text)).collect();
        Ok(Self {
            inputs: names(&engine.plan().inputs),
            outputs: names(&engine.plan().outputs),
            warnings,
            labels: network.labels().iter().map(|text| c_text(text)).collect(),
            network,
            options,
            shared,
            memory_limit,
            engine,
        })
    }

    fn reshape(&self, shapes: &[Shape]) -> Outcome<Self> {
        let graph = self.network.graph();
        let mut named = Vec::new();
        for given in shapes {
            let name = match (given.name.get("shapes.name")?, &graph.inputs[..]) {
                (Some(name), _) => name,
                (None, &[input]) => &graph.value(input).name[..],
                (None, inputs) => {
                    return Err(Failure::argument(format!(
                        "shapes.name: found a null pointer, expected the name of one of {} inputs",
                        inputs.len()
                    )));
                }
            };
            named.push((name, shape("shapes.dims", given.dims, given.rank)?));
        }
        let options = CompileOptions {
            batch: None,
            ..self.options.clone()
        };
        let network = self.network.with_input_shapes(&named)?;
        let cache = options.tuning.as_ref().map(|tuning| tuning.cache.clone());
        let model = Self::compile(network, options, self.shared.clone(), self.memory_limit)?;
        cache.map(|cache| cache.save()).transpose()?;
        Ok(model)
    }

    fn into_raw(self) -> *mut Self {
        Box::into_raw(Box::new(self))
    }
}
