//! What will be executed: steps over buffers, grouped into segments. Immutable and shareable.

use crate::caches::Caches;
use skimjit_kernels::jit::Isa;
use skimjit_kernels::{CompiledKernel, Planes, stage::Staging};
use skimjit_models::{Op, Shape, ValueId, Weight};
use std::sync::Arc;

/// Most outputs of a network.
pub const MOST_PORTS: usize = 512;
/// Most operands of a layer that runs on the reference.
pub const MOST_OPERANDS: usize = 64;
/// Elements behind every arena that kernels may read.
pub const SLACK_ELEMS: usize = 64;

/// Where an operand lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In the image arena of the thread (or team) that computes the image.
    Image {
        /// Element of plane 0.
        offset: usize,
    },
    /// In the batch arena, one part per image.
    Batch {
        /// Element of plane 0 of image 0.
        offset: usize,
        /// Elements from one image to the next; 0 for values of the batch as a whole.
        stride: usize,
    },
    /// Network input `index`, one row per image.
    Input {
        /// Position among the network's inputs.
        index: usize,
    },
    /// Network output `index`, one row per image.
    Output {
        /// Position among the network's outputs.
        index: usize,
    },
}

/// An operand of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operand {
    /// Where.
    pub place: Place,
    /// Layout of one image (or of the batch as a whole).
    pub planes: Planes,
}

/// What a step does.
pub enum Work {
    /// A generated kernel.
    Kernel(Arc<CompiledKernel>),
    /// The padded copy that a kernel reads, by generated code where there is some for it.
    Stage(Staging, Option<Arc<CompiledKernel>>),
    /// Planes copied to another layout.
    Copy,
    /// Rows or planes of a batch become columns: element e of image n goes to `e·pitch + n`.
    ToColumns,
    /// The reverse.
    FromColumns,
    /// The slow reference, on rows; or only what it moves.
    Reference(Box<Reference>),
}

/// An op without kernel.
pub struct Reference {
    /// The op.
    pub op: Op,
    /// Weights of the graph (shared); those that kernels have packed are let go.
    pub weights: Arc<[Arc<Weight>]>,
    /// Operand shapes.
    pub inputs: Vec<Shape>,
    /// Result shape.
    pub output: Shape,
    /// What goes where, of an op that only moves data.
    pub moves: Option<Vec<Rearranged>>,
}

/// `len` elements, `strides` apart in source and result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First element of the result.
    pub dst: u32,
    /// First element of the source.
    pub src: u32,
    /// Number of elements.
    pub len: u32,
    /// Elements from one to the next in source and result.
    pub strides: [u32; 2],
}

/// The runs of one operand.
pub struct Rearranged {
    /// Which one.
    pub operand: usize,
    /// What of it goes where.
    pub runs: Vec<Run>,
}

impl Rearranged {
    /// Moves what of a source is in a result.
    ///
    /// # Panics
    /// When they do not have the shapes that the runs were made for.
    pub fn apply(&self, src: &[f32], dst: &mut [f32]) {
        for run in &self.runs {
            let (src, dst) = (&src[run.src as usize..], &mut dst[run.dst as usize..]);
            let len = run.len as usize;
            match run.strides.map(|stride| stride as usize) {
                [1, 1] => dst[..len].copy_from_slice(&src[..len]),
                [0, stride] => dst
                    .iter_mut()
                    .step_by(stride)
                    .take(len)
                    .for_each(|to| *to = src[0]),
                // One element of each chunk: iterators that step are slower.
                [1, to] if to > 0 => {
                    let chunks = dst.chunks_mut(to).zip(&src[..len]);
                    chunks.for_each(|(to, from)| to[0] = *from);
                }
                [from, 1] => {
                    let chunks = dst[..len].iter_mut().zip(src.chunks(from));
                    chunks.for_each(|(to, from)| *to = from[0]);
                }
                [from, to] => {
                    let pairs = dst.iter_mut().step_by(to).zip(src.iter().step_by(from));
                    pairs.take(len).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// One unit of a plan between two barriers.
pub struct Step {
    /// Layer it belongs to.
    pub layer: String,
    /// Index of the node in the graph that was planned; `None` for input and output copies.
    pub node: Option<usize>,
    /// `family.variant`, or what kind of copy.
    pub label: &'static str,
    /// What it does.
    pub work: Work,
    /// Planes of an image that are written from here on, and whose gaps hold what others left there: they
    /// become zero before anything else, while nobody reads them.
    pub unclean: Vec<Operand>,
    /// Sources.
    pub src: Vec<Operand>,
    /// Result.
    pub dst: Operand,
    /// Cost of tasks `0..=i`, for the partition over threads.
    pub cumulated: Vec<f32>,
    /// How often it is done for a batch, and in which order.
    pub loops: Loops,
}

/// The loops that a step is in. Whoever runs a plan, or writes code that does, may share them out to threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loops {
    /// All tasks once: they compute the batch as a whole.
    Once,
    /// For each image, all tasks. In a segment per image, the loop over images is around all of its steps.
    Images,
    /// For each task, all images: the weights of a task stay in cache.
    Tasks,
}

/// Steps that follow each other.
pub struct Segment {
    /// True: run image by image, all steps of one image before the next (depth first). False: each
    /// step for all images.
    pub per_image: bool,
    /// Steps in order.
    pub steps: Vec<Step>,
}

/// Why a variant runs a layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// No other variant can, or the layer needs no kernel.
    Only,
    /// An artifact or the caller named it.
    Named,
    /// The best estimate.
    Estimated,
    /// The shortest time of a trial, now.
    Measured,
    /// The same, but something else kept the machine busy: the time is not remembered.
    Disturbed,
    /// The shortest time of an earlier trial.
    Remembered,
}

/// A variant that can compute a layer.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct Candidate {
    /// Variant.
    pub variant: String,
    /// Estimated time, in cycles, in the unit of [`Choice::cycles`].
    pub cycles: f64,
    /// Estimated bytes of generated code.
    pub code_bytes: u64,
    /// Time of its trial, staging included: of one image, or of the batch for layers that are
    /// computed for the whole batch, by all threads together when the batch has fewer images than
    /// there are threads. `None` where there was no trial or the variant could not be built.
    pub time_ns: Option<f64>,
}

/// What the planner chose for one layer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Choice {
    /// Layer name.
    pub layer: String,
    /// Caffe type.
    pub kind: &'static str,
    /// Output shape.
    pub shape: String,
    /// Non-zero weights over weights; `None` for layers without.
    pub density: Option<f64>,
    /// Variant chosen; `reference`, `view` or `fused` when no kernel runs.
    pub variant: String,
    /// Why this variant.
    pub basis: Basis,
    /// Variants that can compute the layer, best estimate first.
    pub candidates: Vec<Candidate>,
    /// Bytes of generated code.
    pub code_bytes: usize,
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// Time of generating the code and packing the weights.
    pub build_ns: u64,
    /// Estimated time of one image, in cycles.
    pub cycles: f64,
    /// Multiply-adds of one image that are not with zero weights.
    pub macs_nonzero: u64,
    /// Multiply-adds of one image.
    pub macs: u64,
    /// Other variants with their times and estimates, and those that refused with their reason.
    pub rejected: Vec<(String, String)>,
}

/// Description of a network input or output.
#[derive(Clone, Debug)]
pub struct Port {
    /// Value in the planned graph.
    pub value: ValueId,
    /// Blob name.
    pub name: String,
    /// Shape for the planned batch.
    pub shape: Shape,
    /// Elements of one image (of the whole array when not `per_image`).
    pub elems: usize,
    /// One row per image; otherwise a value of the batch as a whole.
    pub per_image: bool,
}

/// An executable network.
pub struct Plan {
    /// Instruction set of the generated code.
    pub isa: Isa,
    /// Images that are computed together at most.
    pub batch: usize,
    /// Some value depends on the whole batch, so the batch must be complete.
    pub coupled: bool,
    /// Segments in order.
    pub segments: Vec<Segment>,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Elements of one image arena.
    pub image_elems: usize,
    /// Elements of the batch arena.
    pub batch_elems: usize,
    /// Scratch elements of one thread.
    pub scratch_elems: usize,
    /// Caches that the plan was made for.
    pub caches: Caches,
    /// Code and weights do not fit the second-level cache: when a kernel's turn comes, its code is read
    /// before it runs.
    pub code_is_far: bool,
    /// Per layer: what was chosen and why.
    pub choices: Vec<Choice>,
    /// Bytes of generated code.
    pub code_bytes: usize,
    /// Named machine code per layer, for disassembly and profilers: layer, offset and bytes.
    pub listings: Vec<Listing>,
}

impl Plan {
    /// Bytes that a session of `threads` threads needs.
    pub fn session_bytes(&self, threads: usize) -> u64 {
        let elems = |count: usize, each: usize| (count as u64).saturating_mul(each as u64);
        elems(self.image_arenas(threads), self.image_elems)
            .saturating_add(elems(threads, self.scratch_elems))
            .saturating_add(self.batch_elems as u64)
            .saturating_mul(size_of::<f32>() as u64)
    }
    /// Image arenas of a session: more than images would never be used.
    pub(crate) fn image_arenas(&self, threads: usize) -> usize {
        threads.min(self.batch).max(1)
    }
}

/// Machine code of one layer.
pub struct Listing {
    /// Layer name.
    pub layer: String,
    /// Variant.
    pub variant: &'static str,
    /// Bytes; empty unless [`crate::Options::keep_code`].
    pub bytes: Vec<u8>,
}
