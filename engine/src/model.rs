//! Networks from files, and how engines are made of them.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::options::{CompileOptions, Keep, LoadOptions, Shared, artifact_with};
use skimjit_caffe as caffe;
use skimjit_caffe::import;
use skimjit_host::{memory, whole};
use skimjit_models::artifact::{self, Kind, Reader, Writer};
use skimjit_models::{Graph, Imported, Preprocess, Shape, ValueId, passes, preprocess};
use skimjit_onnx as onnx;
use skimjit_runtime::jit::Isa;
use skimjit_runtime::recipe::{self, Recipe};
use skimjit_runtime::{Caches, Options, Plan, PlanError, Tuner};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A network: what to compute, and the weights.
#[derive(Clone)]
pub struct Model {
    graph: Graph,
    recipe: Option<Recipe>,
    /// The recipe was made for other input shapes.
    resized: bool,
    losses: Vec<(ValueId, f32)>,
    preprocess: Option<Arc<Preprocess>>,
    labels: Arc<[String]>,
    /// Unknown fields, ignored source layers and the like, one line each.
    pub warnings: Vec<String>,
}

impl Model {
    /// Reads a `.skim` artifact, an ONNX model, a `.caffemodel` or a `.caffemodel.h5`; the contents decide. A
    /// prototxt is read without weights when these may be missing.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Self> {
        let start = start_of(path)?;
        if onnx::is_model(&start) {
            room_to_load(std::fs::metadata(path).map_or(0, |found| found.len()))?;
            let options = options.onnx(path)?;
            return Self::from_onnx(&onnx::Model::read(path)?, &options);
        }
        if options.prototxt.is_none() && caffe::is_definition(&start) {
            return Self::from_definition(path, options);
        }
        if start.starts_with(&artifact::container::MAGIC) {
            options.refuse_for_artifact(path)?;
            let model = Self::from_artifact(path)?;
            return model.sized(options).map_err(|error| error.in_file(path));
        }
        Self::from_caffe(&[path.to_owned()], options)
    }

    /// Reads a definition that stands alone: weights in it are used, others may be missing if the options
    /// say so.
    fn from_definition(path: &Path, options: &LoadOptions) -> Result<Self> {
        let (net, _) = caffe::read_prototxt(path)?;
        let stored = net.layer.iter().any(|layer| !layer.blobs.is_empty());
        if !stored && !options.allow_missing_weights {
            let error =
                skimjit_models::Error::new("a network definition (prototxt) without weights");
            return Err(error
                .file(path)
                .expected("a .skim, .onnx, .caffemodel or .caffemodel.h5 file")
                .hint(
                    "give the weights as MODEL and the definition with --prototxt; \
                     --allow-missing-weights makes them with the layers' fillers instead, `time --prototxt` \
                     with random numbers",
                )
                .into());
        }
        let options = LoadOptions {
            prototxt: Some(path.to_owned()),
            ..options.clone()
        };
        let mut model = Self::from_caffe(&[], &options)?;
        if !stored {
            model.warnings.push(format!(
                "{}: no weights: the layers' fillers make them, zeros where there is none",
                path.display()
            ));
        }
        Ok(model)
    }

    /// [`Model::load`] for what such a file contains; a topology may be given as text instead of
    /// `options.prototxt`. The bytes are not needed afterwards.
    pub fn from_bytes(bytes: &[u8], prototxt: Option<&str>, options: &LoadOptions) -> Result<Self> {
        let name = Path::new("network in memory");
        room_to_load(bytes.len() as u64)?;
        if bytes.starts_with(&artifact::container::MAGIC) {
            options.refuse_for_artifact(name)?;
            if prototxt.is_some() {
                return Err(artifact_with(name, "another topology"));
            }
            return Self::read_artifact(bytes, name)?.sized(options);
        }
        if onnx::is_model(bytes) {
            if prototxt.is_some() {
                return Err(Error::Usage(
                    "network in memory: found another topology for an ONNX model, expected none"
                        .into(),
                ));
            }
            let options = options.onnx(name)?;
            return Self::from_onnx(&onnx::Model::from_bytes(bytes.to_vec(), name)?, &options);
        }
        let file = options.prototxt.as_deref().map(import::Prototxt::File);
        let prototxt = prototxt.map(import::Prototxt::Text).or(file);
        let import = options.import(prototxt.is_some());
        let imported = import::load_bytes(prototxt, bytes.to_vec(), &import)?;
        Self::from_imported(imported).named_inputs_sized(options)
    }

    /// With the shapes that the options say.
    fn sized(self, options: &LoadOptions) -> Result<Self> {
        match &options.input_shape {
            None => self.named_inputs_sized(options),
            Some(shape) => self.with_input_shape(shape)?.named_inputs_sized(options),
        }
    }

    /// With the shapes that the options say of inputs by name.
    fn named_inputs_sized(self, options: &LoadOptions) -> Result<Self> {
        if options.input_shapes.is_empty() {
            return Ok(self);
        }
        let first = self.graph.inputs.first();
        let first = first.map(|&id| &self.graph.value(id).name);
        let named = |name| options.input_shapes.iter().any(|(given, _)| given == name);
        if let (Some(name), Some(_)) = (first, &options.input_shape)
            && named(name)
        {
            let found = skimjit_models::Error::new("two shapes");
            let found = found.field(format!("input \"{name}\""));
            return Err(found.expected("one").into());
        }
        let shapes = options.input_shapes.iter();
        let shapes: Vec<(&str, Shape)> = shapes
            .map(|(name, shape)| (name.as_str(), shape.clone()))
            .collect();
        self.with_input_shapes(&shapes)
    }

    /// Reads a Caffe network; several weight files are applied in order.
    pub fn from_caffe(weights: &[PathBuf], options: &LoadOptions) -> Result<Self> {
        let prototxt = options.prototxt.as_deref();
        let size = |file: &PathBuf| std::fs::metadata(file).map_or(0, |found| found.len());
        room_to_load(weights.iter().map(size).sum())?;
        let imported = import::load(prototxt, weights, &options.import(prototxt.is_some()))?;
        Self::from_imported(imported).named_inputs_sized(options)
    }

    fn from_onnx(model: &onnx::Model, options: &onnx::ImportOptions) -> Result<Self> {
        Ok(Self::from_imported(onnx::import(model, options)?))
    }

    fn from_imported(imported: Imported) -> Self {
        let warnings = imported.warnings.iter().map(ToString::to_string).collect();
        Self {
            graph: imported.graph,
            recipe: None,
            resized: false,
            losses: imported.training.losses,
            preprocess: imported.preprocess.map(Arc::new),
            labels: Arc::default(),
            warnings,
        }
    }

    /// A graph made in memory.
    pub fn from_graph(graph: Graph) -> Result<Self> {
        graph.check()?;
        Ok(Self {
            graph,
            recipe: None,
            resized: false,
            losses: vec![],
            preprocess: None,
            labels: Arc::default(),
            warnings: vec![],
        })
    }

    fn from_artifact(path: &Path) -> Result<Self> {
        room_to_load(std::fs::metadata(path).map_or(0, |found| found.len()))?;
        let bytes = read_whole(path).map_err(|error| unreadable(path, &error))?;
        Self::read_artifact(&bytes, path)
    }

    fn read_artifact(bytes: &[u8], path: &Path) -> Result<Self> {
        let in_file = |error: skimjit_models::Error| Error::from(error.file(path));
        let reader = Reader::new(bytes).map_err(in_file)?;
        let graph = artifact::read_graph(&reader).map_err(in_file)?;
        let recipe = match reader.section(Kind::PLAN, recipe::SECTION) {
            None => None,
            Some(bytes) => Some(Recipe::decode(bytes).map_err(|found| {
                in_file(
                    skimjit_models::Error::new(found)
                        .field("section plan")
                        .expected("the planner's choices")
                        .hint("compile the network again"),
                )
            })?),
        };
        let preprocess = artifact::pictures::read_preprocess(&reader).map_err(in_file)?;
        let mut model = Self {
            graph,
            recipe,
            resized: false,
            losses: vec![],
            preprocess: preprocess.map(Arc::new),
            labels: Arc::default(),
            warnings: vec![],
        };
        if let Some(labels) = artifact::pictures::read_labels(&reader).map_err(in_file)? {
            model.set_labels(labels).map_err(|error| match error {
                Error::Input(error) => in_file(error.field("section labels")),
                other => other,
            })?;
        }
        Ok(model)
    }

    /// The network as it was read: no passes applied.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The same network for inputs of other shapes, by blob name; inputs that are not named keep theirs.
    /// An artifact's choices of kernels are kept where they can be.
    ///
    /// Fully convolutional networks, and those that end in a global pooling, take any size; a layer that
    /// does not is named by the error.
    pub fn with_input_shapes(&self, shapes: &[(&str, Shape)]) -> Result<Self> {
        let graph = self.graph.with_input_shapes(shapes)?;
        let resized = |id: &&ValueId| graph.shape(**id) != self.graph.shape(**id);
        let resized = self.resized || graph.inputs.iter().any(|id| resized(&id));
        let recipe = self.recipe.clone().map(|recipe| Recipe {
            batch: first_dim(&graph).unwrap_or(recipe.batch),
            ..recipe
        });
        Ok(Self {
            graph,
            recipe,
            resized,
            losses: self.losses.clone(),
            preprocess: self.preprocess.clone(),
            labels: self.labels.clone(),
            warnings: self.warnings.clone(),
        })
    }

    /// [`Model::with_input_shapes`] for a network with one input.
    pub fn with_input_shape(&self, shape: &Shape) -> Result<Self> {
        let [input] = self.graph.inputs[..] else {
            let error = skimjit_models::Error::new(format!("{} inputs", self.graph.inputs.len()));
            return Err(error
                .field("input_shape")
                .expected("exactly one input to give a shape to")
                .into());
        };
        self.with_input_shapes(&[(&self.graph.value(input).name, shape.clone())])
    }

    /// Some layer combines images, so that complete batches have to be run.
    pub fn combines_images(&self) -> bool {
        let Ok(graph) = self.graph.with_batch(2) else {
            return true;
        };
        let mut images = graph.inputs.iter().map(|&id| graph.shape(id).dim(0));
        if images.any(|images| images != 2) {
            return true;
        }
        graph.nodes.iter().any(|node| {
            let shapes: Vec<&Shape> = node.inputs.iter().map(|&id| graph.shape(id)).collect();
            !node.op.per_image(&shapes)
        })
    }

    /// Blobs that the loss of a test network is the weighted sum of: values of [`Model::graph`] and
    /// their weights. None for artifacts.
    pub fn losses(&self) -> &[(ValueId, f32)] {
        &self.losses
    }

    /// How pictures become inputs: as the data layer of the definition says, or as was said when the artifact
    /// was compiled. `None`: nothing is known. [`crate::picture::load`] does it.
    pub fn preprocess(&self) -> Option<&Preprocess> {
        self.preprocess.as_deref()
    }

    /// Says how pictures become inputs; artifacts keep it.
    pub fn set_preprocess(&mut self, preprocess: Option<Preprocess>) -> Result<()> {
        if let Some(preprocess) = &preprocess {
            preprocess.check()?;
        }
        self.preprocess = preprocess.map(Arc::new);
        Ok(())
    }

    /// Names of the classes, that of class 0 first; empty where they are not known. They belong to the outputs
    /// with as many classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Names the classes of an output, one name for each; artifacts keep the names. No names: nothing is known.
    pub fn set_labels(&mut self, labels: Vec<String>) -> Result<()> {
        if !labels.is_empty() {
            preprocess::check_labels(&self.graph, labels.len())?;
        }
        self.labels = labels.into();
        Ok(())
    }

    /// Images per batch: the artifact's, or the first input's.
    pub fn batch(&self) -> u32 {
        let recipe = self.recipe.as_ref().map(|recipe| recipe.batch);
        recipe.or(first_dim(&self.graph)).unwrap_or(1)
    }

    /// Rounds the weights of inner products to bfloat16, of which kernels for one image store two
    /// bytes; says by how much the weights of each layer changed.
    pub fn round_inner_products(&mut self) -> Vec<passes::Rounded> {
        passes::inner_products_to_bf16(&mut self.graph)
    }

    /// The graph for a batch, with `keep` among the outputs and all passes applied.
    fn prepare(&self, batch: u32, keep: &Keep) -> Result<Graph> {
        let mut graph = self.graph.with_batch(batch)?;
        match keep {
            Keep::Outputs | Keep::Optimized => {}
            Keep::Named(names) => {
                for name in names {
                    let id = find_blob(&graph, name)?;
                    if !graph.outputs.contains(&id) {
                        graph.outputs.push(id);
                    }
                }
            }
            Keep::All => {
                let values = graph.values.iter().enumerate();
                let named = values.map(|(id, value)| (&value.name[..], ValueId(id as u32)));
                // Of values with one name, the last.
                let last: HashMap<&str, ValueId> = named.collect();
                let outputs: HashSet<ValueId> = graph.outputs.iter().copied().collect();
                let missing = |id: &ValueId| {
                    last.get(&graph.value(*id).name[..]) == Some(id) && !outputs.contains(id)
                };
                let all = graph.nodes.iter().map(|node| node.output);
                let extra: Vec<ValueId> = all.filter(missing).collect();
                graph.outputs.extend(extra);
            }
        }
        let mut graph = passes::optimize(graph)?;
        if *keep == Keep::Optimized {
            graph.outputs = graph.nodes.iter().map(|node| node.output).collect();
        }
        Ok(graph)
    }

    /// Plans the network and generates its code.
    pub fn compile(&self, options: &CompileOptions) -> Result<Engine> {
        self.compile_with(options, &Shared::alone(options)?)
    }

    /// [`Model::compile`] on the threads, and with the kernels, of other engines.
    pub fn compile_with(&self, options: &CompileOptions, shared: &Shared) -> Result<Engine> {
        let isa = Isa::detect(options.isa)?;
        let pool = shared.pool.clone();
        let (mut graph, plan) = self.plan_with(options, isa, shared, false)?;
        if !options.keep_weights {
            graph.let_go_of_weights();
        }
        skimjit_runtime::give_back();
        let plan = Arc::new(plan);
        let needed = plan.session_bytes(pool.threads());
        memory::check(needed).map_err(|more| PlanError::too_large(more.bytes, more.budget))?;
        Ok(Engine {
            graph,
            plan,
            pool,
            _observer: options.observer.clone(),
        })
    }

    /// Plans the network for any instruction set, this machine's or not: to be looked at or written to a
    /// file, not to be run; it needs no executable memory. Only what this machine can run is timed.
    pub fn plan(&self, options: &CompileOptions, isa: Isa) -> Result<Plan> {
        let mut options = options.clone();
        if Isa::detect(Some(isa)).is_err() {
            options.tuning = None;
        }
        let shared = Shared::alone(&options)?;
        self.plan_with(&options, isa, &shared, true)
            .map(|(_, plan)| plan)
    }

    /// The graph that is planned, and its plan.
    fn plan_with(
        &self,
        options: &CompileOptions,
        isa: Isa,
        shared: &Shared,
        stored: bool,
    ) -> Result<(Graph, Plan)> {
        let batch = options.batch.unwrap_or_else(|| self.batch());
        if batch == 0 {
            return Err(Error::Usage("batch: found 0, expected 1 or more".into()));
        }
        room_to_plan(&self.graph)?;
        let graph = self.prepare(batch, &options.keep)?;
        // Who asks for measurements of another size does not want what was measured for the old one.
        let outdated = self.resized && options.tuning.is_some();
        let recipe = self.recipe.as_ref().filter(|_| !outdated);
        let mut variants = recipe
            .map(|recipe| recipe.variants_for(isa))
            .unwrap_or_default();
        variants.extend(options.variants.clone());
        let pool = shared.pool.clone();
        let tuner = options.tuning.as_ref().map(|tuning| Tuner {
            pool: pool.clone(),
            caches: Caches::of_machine(),
            memory: tuning.cache.clone(),
            frozen: tuning.frozen,
            named_too: tuning.named_too,
            network_bytes: tuning.network_bytes,
            on_trial: tuning.on_trial.clone(),
        });
        let plan_options = Options {
            variants,
            keep_code: options.keep_code,
            observer: options.observer.clone(),
            inspector: options.inspector.clone(),
            tuner,
            kernels: shared.kernels.clone(),
            builders: shared.builders.clone(),
            stored,
            // What is written to a file is the same on any computer.
            caches: match stored {
                true => Caches::default(),
                false => Caches::of_machine(),
            },
        };
        let plan = skimjit_runtime::plan(&graph, isa, &plan_options)?;
        Ok((graph, plan))
    }

    /// Writes an artifact: the graph, its weights in compressed form, and what the planner chose.
    pub fn write_artifact(&self, engine: &Engine, path: &Path) -> Result<()> {
        let writer = self.artifact_of(Some(engine))?;
        let written = whole::write_with(path, |out| writer.write_to(out));
        written.map_err(|error: io::Error| skimjit_models::Error::unwritable(path, &error).into())
    }

    /// What [`Model::write_artifact`] writes, in memory; without an engine, what the model's own artifact chose, if it
    /// comes from one.
    pub fn artifact(&self, engine: Option<&Engine>) -> Result<Vec<u8>> {
        Ok(self.artifact_of(engine)?.to_bytes())
    }

    fn artifact_of(&self, engine: Option<&Engine>) -> Result<Writer<'_>> {
        let mut writer = Writer::new();
        artifact::write_graph(&mut writer, &self.graph)?;
        let chosen = engine.map(|engine| Recipe::of(&engine.plan));
        if let Some(recipe) = chosen.or_else(|| self.recipe.clone()) {
            writer.add(Kind::PLAN, recipe::SECTION, recipe.encode())?;
        }
        if let Some(preprocess) = &self.preprocess {
            artifact::pictures::write_preprocess(&mut writer, preprocess)?;
        }
        if !self.labels.is_empty() {
            artifact::pictures::write_labels(&mut writer, &self.labels)?;
        }
        Ok(writer)
    }
}

/// What the small allocations of any network take, with room to spare.
const SMALL_BYTES: u64 = 24 << 20;

/// Refuses to read weights of so many bytes where the process may not have the memory.
fn room_to_load(bytes: u64) -> Result<()> {
    // As read, decoded, and once more while it is transformed.
    room(bytes.saturating_mul(4).saturating_add(SMALL_BYTES))
}

/// Refuses to plan a network where the process may not have the memory: its allocations are many, and each of
/// them would end the process.
fn room_to_plan(graph: &Graph) -> Result<()> {
    let weights = graph.weights.iter();
    let bytes: u64 = weights
        .map(|weight| 4 * weight.shape().count() as u64)
        .sum();
    // Passes copy what they change; code and packed weights of the candidates follow.
    room(bytes.saturating_mul(8).saturating_add(SMALL_BYTES))
}

fn room(bytes: u64) -> Result<()> {
    memory::check_addresses(bytes).map_err(|error| PlanError::short(&error).into())
}

/// Images of the first input.
fn first_dim(graph: &Graph) -> Option<u32> {
    graph.inputs.first().map(|&id| graph.shape(id).dim(0))
}

/// Blob by name, or an error that lists similar ones.
fn find_blob(graph: &Graph, name: &str) -> Result<ValueId> {
    graph.find(name).ok_or_else(|| {
        let mut names: Vec<&str> = graph
            .values
            .iter()
            .map(|value| value.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        let error = skimjit_models::Error::new(format!("no blob \"{name}\""));
        error
            .expected(format!("one of: {}", names.join(", ")))
            .into()
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    const EXPECTED: &str = "a readable .skim, .onnx or .caffemodel file";
    skimjit_models::Error::unreadable(path, error, EXPECTED).into()
}

/// A copy of a file: what others do to the file while it is used changes nothing. Mapped memory would fault
/// where the file is cut.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = memory::read_file(path, u64::MAX)?;
    match bytes.is_empty() {
        true => Err(io::Error::other("the file is empty")),
        false => Ok(bytes),
    }
}

/// The start of a file, in which its kind shows.
fn start_of(path: &Path) -> Result<Vec<u8>> {
    use std::io::Read;
    const START: u64 = 1 << 16;
    let mut start = Vec::new();
    let kind = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !kind.is_file() && !kind.is_dir() {
        let error = skimjit_models::Error::new("a pipe or device").file(path);
        let error = error.expected("a file, which can be read twice");
        return Err(error
            .hint("write what comes from it into a file first")
            .into());
    }
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(START)
        .read_to_end(&mut start)
        .map_err(|error| unreadable(path, &error))?;
    Ok(start)
}
