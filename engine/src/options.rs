//! What the caller decides: how a network is read, and how it is compiled.

use crate::error::{Error, Result};
use crate::tune::Tuning;
use skimjit_caffe::import;
use skimjit_models::Shape;
use skimjit_onnx as onnx;
use skimjit_runtime::jit::Isa;
use skimjit_runtime::jit::observe::CodeObserver;
use skimjit_runtime::{KernelInspector, KernelStore, ThreadPool, usable_cores};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a network is read. Most of it is about Caffe's, and refused for others.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Topology; without it the one inside the caffemodel is used, with data, loss and accuracy
    /// layers replaced by an input and a softmax.
    pub prototxt: Option<PathBuf>,
    /// Shape of the first input, when the topology does not give it or another one is wanted.
    pub input_shape: Option<Shape>,
    /// The same for inputs by name.
    pub input_shapes: Vec<(String, Shape)>,
    /// Weights of this magnitude and below become zero.
    pub zero_below: Option<f32>,
    /// Weights that no file has come from their layer's filler (zeros without one), not an error.
    pub allow_missing_weights: bool,
    /// With `allow_missing_weights`: weights of convolutions and inner products that would be all zero
    /// are random instead, so that times are those of a dense network.
    pub random_weights: bool,
    /// Shapes of what the data layers bring, by blob: they become inputs, labels too, and losses and
    /// accuracies stay. Only with `prototxt`.
    pub data_shapes: Vec<(String, Shape)>,
    /// A blob whose memory an in-place layer changes in Caffe before it is read has the changed value, as
    /// there; without it every blob keeps its own value, and a warning tells where Caffe's is another.
    pub caffe_in_place: bool,
    /// Level for `include` and `exclude` rules.
    pub level: i32,
    /// Stages for `include` and `exclude` rules.
    pub stages: Vec<String>,
    /// Layers are read without their unknown fields, which are an error otherwise: they may change what
    /// a layer means.
    pub ignore_unknown_fields: bool,
}

impl LoadOptions {
    /// What is only about Caffe's networks, where it is given.
    fn caffes(&self) -> Option<&'static str> {
        let given = [
            (self.prototxt.is_some(), "another topology"),
            (self.allow_missing_weights, "missing weights"),
            (self.caffe_in_place, "Caffe's in-place layers"),
            (!self.data_shapes.is_empty(), "data layers"),
            (self.ignore_unknown_fields, "unknown fields to ignore"),
        ];
        given
            .iter()
            .find(|(given, _)| *given)
            .map(|(_, what)| *what)
    }

    /// An artifact is complete: what changes how a network is read came too late.
    pub(crate) fn refuse_for_artifact(&self, path: &Path) -> Result<()> {
        let threshold = self.zero_below.map(|_| "a threshold for weights");
        match threshold.or(self.caffes()) {
            Some(what) => Err(artifact_with(path, what)),
            None => Ok(()),
        }
    }

    /// What the importer of ONNX models is told.
    pub(crate) fn onnx(&self, path: &Path) -> Result<onnx::ImportOptions> {
        if let Some(what) = self.caffes() {
            return Err(Error::Usage(format!(
                "{}: found {what} for an ONNX model, expected none; an ONNX model is complete",
                path.display()
            )));
        }
        let first = self.input_shape.clone().map(|shape| (None, shape));
        let named = self.input_shapes.iter();
        let named = named.map(|(name, shape)| (Some(name.clone()), shape.clone()));
        Ok(onnx::ImportOptions {
            input_shapes: first.into_iter().chain(named).collect(),
            zero_below: self.zero_below,
        })
    }

    /// What the importer is told.
    pub(crate) fn import(&self, has_prototxt: bool) -> import::ImportOptions {
        import::ImportOptions {
            input_shape: self.input_shape.clone(),
            zero_below: self.zero_below,
            allow_missing_weights: self.allow_missing_weights,
            random_weights: self.random_weights,
            caffe_in_place: self.caffe_in_place,
            data_to_input: self.data_shapes.is_empty(),
            data_shapes: self.data_shapes.clone(),
            strip_losses: !has_prototxt,
            level: self.level,
            stages: self.stages.clone(),
            ignore_unknown_fields: self.ignore_unknown_fields,
            ..import::ImportOptions::default()
        }
    }
}

pub(crate) fn artifact_with(path: &Path, what: &str) -> Error {
    Error::Usage(format!(
        "{}: found {what} for a compiled network, expected none; compile the network again",
        path.display()
    ))
}

/// How a model is compiled.
#[derive(Clone, Default)]
pub struct CompileOptions {
    /// Images computed together; default: the model's batch.
    pub batch: Option<u32>,
    /// Instruction set, at most what the machine has; default: the best there is.
    pub isa: Option<Isa>,
    /// Threads, the caller included; 0: one per core that the process may use.
    pub threads: usize,
    /// Blobs to keep beside the outputs.
    pub keep: Keep,
    /// Keep the machine code for disassembly.
    pub keep_code: bool,
    /// Keep the weights in [`crate::Engine::graph`], for who computes with it: kernels have packed them, and
    /// without it they are let go.
    pub keep_weights: bool,
    /// Variant by layer name, tried first; the others are still used where it cannot be.
    pub variants: HashMap<String, String>,
    /// Is told about every generated kernel (profilers).
    pub observer: Option<Arc<dyn CodeObserver>>,
    /// Sees every kernel before its code is published (verification).
    pub inspector: Option<Arc<dyn KernelInspector>>,
    /// Kernels are chosen by timing them; without it, by estimates. Layers whose variant is given, by
    /// an artifact or by `variants`, are not timed.
    pub tuning: Option<Tuning>,
}

impl CompileOptions {
    /// A team of the threads asked for.
    pub fn pool(&self) -> Result<ThreadPool> {
        let threads = match self.threads {
            0 => usable_cores(),
            threads => threads,
        };
        ThreadPool::new(threads).map_err(Error::Usage)
    }
}

/// What several engines have in common.
#[derive(Clone)]
pub struct Shared {
    /// Threads of the sessions.
    pub pool: Arc<ThreadPool>,
    /// Kernels that plans of several input shapes have in common.
    pub kernels: Option<Arc<KernelStore>>,
    /// Threads that generate code; `None`: one per core.
    pub builders: Option<Arc<ThreadPool>>,
}

impl Shared {
    /// Of one engine.
    pub(crate) fn alone(options: &CompileOptions) -> Result<Self> {
        Ok(Self {
            pool: Arc::new(options.pool()?),
            kernels: None,
            builders: None,
        })
    }
}

/// Which blobs survive as outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The network's outputs.
    #[default]
    Outputs,
    /// These as well; layers are not fused across them.
    Named(Vec<String>),
    /// Every blob (its last value, for blobs that several layers write in place).
    All,
    /// Every value that is left after the graph passes, in-place intermediates included.
    Optimized,
}
